"""``aiconf deploy validate``: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest
import yaml
from manifests import graph, main

from aiconf.cli import main as run_main


@pytest.fixture
def aiconf(capsys):
    """Run ``aiconf WORDS`` in this process; returns exit code, standard output and error."""

    def run(*words):
        code = run_main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def written(tmp_path):
    """Write a manifest and return its path."""

    def write(body, name="deploy.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(body))
        return path

    return write


def test_clean(aiconf, written):
    code, out, err = aiconf("deploy", "validate", written(graph()))
    assert (code, out, err) == (0, "1 Dynamo document: clean\n", "")


def test_problems(aiconf, written):
    body = graph()
    main(body)["args"] += ["--max-num-seq", "8"]
    body["spec"]["components"][1]["replicas"] = "2"
    path = written(body)
    code, out, err = aiconf("deploy", "validate", path.parent)
    assert code == 1
    first, second = out.splitlines()
    assert first == (
        f"{path}: spec.components[1] (worker).podTemplate.spec.containers[0].args: error: "
        "--max-num-seq: no flag of vLLM 0.31.0 and dynamo.vllm of Dynamo 1.6.1; "
        "fix: did you mean --max-num-seqs?"
    )
    assert second.endswith("'2' is not a whole number; fix: remove the quotes: 2")
    assert err == "1 Dynamo document: 2 errors\n"
    code, out, _ = aiconf("deploy", "validate", path, "--format", "json")
    found = json.loads(out)
    assert (code, found["documents"], len(found["problems"])) == (1, 1, 2)
    assert found["problems"][0]["source"] == str(path)


def test_warnings_do_not_fail(aiconf, written):
    body = graph()
    main(body)["image"] = "a/b:my-tag"
    path = written(body)
    code, out, err = aiconf("deploy", "validate", path)
    assert code == 0
    assert "warning: operators since 1.4" in out
    assert err == "1 Dynamo document: 1 warning\n"
    assert aiconf("deploy", "validate", path, "--dynamo-version", "1.6.1")[0] == 1
    assert aiconf("deploy", "validate", path, "--dynamo-version", "1.3.1")[0] == 0


def test_quiet_shows_errors_only(aiconf, written):
    body = graph()
    main(body)["image"] = "a/b:my-tag"
    main(body)["args"] += ["--max-num-seqs", "0"]
    path = written(body)
    _, out, err = aiconf("deploy", "validate", path)
    assert [line.split(": ")[2] for line in out.splitlines()] == ["error", "warning"]
    code, out, quiet = aiconf("deploy", "validate", path, "--quiet")
    assert (code, out.count("\n")) == (1, 1)
    assert ": error: " in out
    assert err == quiet == "1 Dynamo document: 1 error, 1 warning\n"
    _, out, _ = aiconf("deploy", "validate", path, "--quiet", "--format", "json")
    assert [one["level"] for one in json.loads(out)["problems"]] == ["error"]


def test_one_image_is_one_line(aiconf, written):
    body = graph("vllm", "prefill", "decode")
    for index in range(3):
        main(body, index)["image"] = "a/b:my-tag"
    _, out, _ = aiconf("deploy", "validate", written(body))
    (line,) = out.splitlines()
    assert "spec.components[0] (frontend)" in line
    assert "(also in prefill, decode)" in line


def test_components_are_those_of_their_own_document(aiconf, tmp_path):
    first, second = graph(), graph("vllm", "prefill", "decode")
    second["metadata"]["name"] = "other"
    main(second)["args"] += ["--max-num-seqs", "0"]
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump_all([first, second]))
    _, out, _ = aiconf("deploy", "validate", path)
    assert "spec.components[1] (prefill).podTemplate" in out


def test_errors_win_over_files_that_cannot_be_read(aiconf, written, tmp_path):
    (tmp_path / "template.yaml").write_text("{{ if .Values.on }}\na: {{ .b }}\n{{ end }}\n")
    body = graph()
    path = written(body)
    assert aiconf("deploy", "validate", tmp_path)[0] == 2
    main(body)["args"] += ["--max-num-seqs", "0"]
    path.write_text(yaml.safe_dump(body))
    code, _, err = aiconf("deploy", "validate", tmp_path)
    assert code == 1
    assert "template.yaml: not YAML" in err
    assert err.splitlines()[-1] == "1 Dynamo document: 1 file not readable, 1 error"


def test_not_readable(aiconf, written, tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [")
    code, _, err = aiconf("deploy", "validate", tmp_path / "bad.yaml")
    assert code == 2
    assert "bad.yaml: not YAML" in err
    assert aiconf("deploy", "validate", written(graph()), tmp_path / "bad.yaml")[0] == 2
    assert aiconf("deploy", "validate", tmp_path / "none.yaml")[0] == 2
    code, _, err = aiconf("deploy", "validate", written({"kind": "Pod"}, "pod.yaml"))
    assert (code, err.count("\n")) == (2, 1)
    assert "no Dynamo document" in err
    assert aiconf("deploy", "validate", written(graph()), "--dynamo-version", "9.9")[0] == 2


def test_hostile_text_stays_on_its_line(aiconf, written):
    body = graph()
    main(body)["args"] += ["--a\x1b[31m\nrm -rf $(touch x)`;", "'\"${X}"]
    body["spec"]["components"][1]["na\nme\x07"] = 1
    code, out, _ = aiconf("deploy", "validate", written(body))
    assert code == 1
    assert "\x1b" not in out and "\x07" not in out
    assert all(": spec.components[1]" in line for line in out.splitlines())
