"""YAML from anybody: read as plain data or refused in one line."""

from __future__ import annotations

import pytest

from aiconf.deploy.validate.documents import files, parse, read
from aiconf.errors import UserError

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "not YAML"),
        ("{{ template }}: x", "not YAML"),
        ("a: 1\na: 2", "'a' twice"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("[" * 500, "nested deeper"),
        ("[" * 5000, "nest"),  # libyaml may have a limit of its own
        (BOMB, "aliases"),
        ("a: &a\n  b: *a", "aliases"),
        ("x" * (9 << 20), "larger than"),
    ],
)
def test_refused(text, said):
    with pytest.raises(UserError, match=said) as error:
        parse(text, "file.yaml")
    assert str(error.value).startswith("file.yaml: ")
    assert "\n" not in str(error.value)


def test_plain_data():
    assert parse("a: 2024-01-01\n---\n---\nb: '1'", "x") == [{"a": "2024-01-01"}, {"b": "1"}]


def test_files(tmp_path):
    (tmp_path / ".git").mkdir()
    for name in (".git/a.yaml", "b.yaml", "c.txt", "patch.yaml", "lists.yml"):
        (tmp_path / name).write_text("kind: List\nitems: [{kind: A}, {kind: B}, 3]\n")
    (tmp_path / "kustomization.yaml").write_text("patches: [{path: patch.yaml}]\n")
    found = [path.name for path in files([tmp_path])]
    assert found == ["b.yaml", "kustomization.yaml", "lists.yml"]
    assert [document.kind for document in read(tmp_path / "b.yaml")] == ["A", "B"]


def test_missing(tmp_path):
    with pytest.raises(UserError, match="there is no"):
        list(files([tmp_path / "no.yaml"]))
    with pytest.raises(UserError, match="no YAML"):
        list(files([tmp_path]))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        read(tmp_path / "latin.yaml")
