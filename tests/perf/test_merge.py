import json

import pandas as pd
import pytest

from aiconf.errors import UserError
from aiconf.perf.convert.write import file_facts, write_manifest, write_table
from aiconf.perf.merge import merge
from aiconf.perf.schema import schema_of
from aiconf.perf.store import PerfDb

PLACE = ("h200_sxm", "torch", "mla_bmm")


def folder(path, rows, version, **extra):
    """A perf_db folder with one table: tokens -> seconds."""
    file = path / "h200_sxm" / "torch" / "mla_bmm.parquet"
    frame = pd.DataFrame(
        [
            {"op": "pre", "dtype": "bf16", "heads": 8, "kernel": "a", "tokens": t, "seconds": s}
            for t, s in rows.items()
        ]
    ).assign(**extra)
    write_table(frame, schema_of("mla_bmm"), file)
    entry = dict(zip(("system", "backend", "table"), PLACE, strict=True))
    origin = {"of": version}
    entry |= {"version": version, "versions": [version], "rows": len(rows), "origin": origin,
              "licence": "Apache-2.0", "date": "2026-11-26"}  # fmt: skip
    write_manifest(path, [entry | file_facts(file)])
    return path


def seconds(path):
    rows = PerfDb.open(path).folders[0]
    found = rows.select(rows.entries[PLACE], {})
    return dict(zip(found["tokens"].tolist(), found["seconds"].tolist(), strict=True))


@pytest.fixture
def two(tmp_path):
    a = folder(tmp_path / "a", {1: 1.0, 2: 2.0}, "1", spread=[0.01, 0.02])
    return a, folder(tmp_path / "b", {2: 20.0, 3: 30.0}, "2")


def test_rows_of_the_earlier_folder_win(two, tmp_path):
    lines = merge(two, tmp_path / "out")
    assert seconds(tmp_path / "out") == {1: 1.0, 2: 2.0, 3: 30.0}
    assert lines == [f"h200_sxm/torch/mla_bmm: 3 rows (2 from {two[0]}, 1 from {two[1]})"]
    merge(two[::-1], tmp_path / "other")
    assert seconds(tmp_path / "other") == {1: 1.0, 2: 20.0, 3: 30.0}


def test_origins_and_measured_columns_are_kept(two, tmp_path):
    merge(two, tmp_path / "out")
    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["tables"]
    assert entry["versions"] == ["1", "2"]
    assert entry["origin"] == {"merged": [{"of": "1"}, {"of": "2"}]}
    rows = pd.read_parquet(tmp_path / "out" / "h200_sxm/torch/mla_bmm.parquet")
    assert rows.spread.tolist()[:2] == pytest.approx([0.01, 0.02])
    assert rows.spread.isna().tolist() == [False, False, True]


def test_measured_columns_stay_in_their_rows(two, tmp_path):
    """In a file whose rows were sorted by its author, index and all."""
    file = two[0] / "h200_sxm/torch/mla_bmm.parquet"
    pd.read_parquet(file).sort_values("tokens", ascending=False).to_parquet(file)
    (two[0] / "manifest.json").unlink()
    merge(two, tmp_path / "out")
    rows = pd.read_parquet(tmp_path / "out" / "h200_sxm/torch/mla_bmm.parquet")
    assert rows.spread.tolist()[:2] == pytest.approx([0.01, 0.02])


def test_into_a_folder_that_is_merged_itself(two, tmp_path):
    a, b = two
    (b / "manifest.json").write_text(
        (b / "manifest.json").read_text().replace('"left_out": []', '"left_out": ["kept"]')
    )
    merge([a, b], b)
    assert seconds(b) == {1: 1.0, 2: 2.0, 3: 30.0}
    assert json.loads((b / "manifest.json").read_text())["left_out"] == ["kept"]
    assert seconds(a) == {1: 1.0, 2: 2.0}


def test_a_table_of_one_folder_is_taken_byte_for_byte(two, tmp_path):
    merge([two[0]], tmp_path / "out")
    for name in ("manifest.json", "h200_sxm/torch/mla_bmm.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (two[0] / name).read_bytes()


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("tokens", "many", "column tokens holds .*string.*, not int"),
        ("tokens", 1.5, "do not fit its columns: Float value 1.5"),
        ("tokens", 1 << 40, "do not fit its columns: Integer value 1099511627776"),
        ("kernel", 3, "column kernel holds int64, not str"),
        ("spread", "wide", "do not fit its columns: could not convert"),
    ],
)
def test_columns_of_another_kind_are_said(two, tmp_path, column, value, says):
    file = two[1] / "h200_sxm/torch/mla_bmm.parquet"
    pd.read_parquet(file).tail(1).assign(**{column: value}).to_parquet(file)
    (two[1] / "manifest.json").unlink()
    with pytest.raises(UserError, match=says):
        merge(two, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_table_changes_nothing(two, tmp_path):
    a, b = two
    path = a / "h200_sxm/torch/mla_bmm.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    before = (b / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="damaged"):
        merge([a, b], b)
    assert (b / "manifest.json").read_bytes() == before
    assert seconds(b) == {2: 20.0, 3: 30.0}


@pytest.mark.parametrize("manifest", [True, False])
def test_tables_that_nobody_named_are_not_overwritten(two, manifest):
    if not manifest:
        (two[1] / "manifest.json").unlink()
    with pytest.raises(UserError, match="name it among the folders"):
        merge([two[0]], two[1])
    assert seconds(two[1]) == {2: 20.0, 3: 30.0}


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", "a/b", ""])
def test_a_manifest_cannot_name_a_place_elsewhere(two, tmp_path, name):
    path = two[0] / "manifest.json"
    path.write_text(path.read_text().replace('"h200_sxm"', json.dumps(name)))
    with pytest.raises(UserError, match="is no name of a system, backend or table"):
        merge([two[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()
