import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from aiconf.errors import UserError
from aiconf.perf.agreement import compare
from aiconf.perf.convert.write import KEPT_BITS, rounded, write_table
from aiconf.perf.schema import SCHEMAS
from aiconf.perf.store import PerfDb
from aiconf.resources import data_dir

SIX = ["b200_sxm", "b300_sxm", "gb200", "gb300", "h100_sxm", "h200_sxm"]


@pytest.fixture(scope="module")
def db():
    return PerfDb.open()


def gemm(*rows):
    return pd.DataFrame(rows, columns=["dtype", "n", "k", "kernel", "m", "seconds"])


def copy_of(tmp_path, *relative):
    """A perf_db of a few embedded tables with the manifest that describes them."""
    manifest = json.loads((data_dir("perf_db") / "manifest.json").read_text())
    kept = []
    for entry in manifest["tables"]:
        path = f"{entry['system']}/{entry['backend']}/{entry['table']}.parquet"
        if path in relative:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data_dir("perf_db") / path, tmp_path / path)
            kept.append(entry)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"tables": kept}))
    return tmp_path


def test_all_systems_and_backends_are_embedded(db):
    assert db.systems() == SIX
    for system in SIX:
        assert db.backends(system) == ["nccl", "sglang", "trtllm", "vllm"]
        assert {"gemm", "moe", "prefill_attention", "mla_decode"} <= set(db.tables(system, "vllm"))
    assert db.version("h200_sxm", "vllm") == "0.24.0"
    assert db.version("h200_sxm", "nccl") == "2.29.2"
    assert db.backends("h300") == []


def test_size_is_within_budget():
    size = sum(path.stat().st_size for path in data_dir("perf_db").rglob("*"))
    assert size < 35e6


def test_read_has_the_columns_of_the_schema(db):
    for table in db.tables("gb200", "trtllm"):
        rows = db.read("gb200", "trtllm", table)
        assert tuple(rows) == SCHEMAS[table].names
        assert len({len(column) for column in rows.values()}) == 1
        assert np.isfinite(rows["seconds"]).all()
        assert (rows["seconds"] >= 0).all()


def test_filter_equals_a_mask_over_the_whole_table(db):
    where = {"dtype": "fp8_block", "hidden": [7168, 4096], "ep": np.array([8, 16])}
    whole = db.read("gb300", "sglang", "moe")
    mask = (whole["dtype"] == "fp8_block") & np.isin(whole["hidden"], [7168, 4096])
    mask &= np.isin(whole["ep"], [8, 16])
    part = db.read("gb300", "sglang", "moe", where)
    assert mask.any()
    for name, column in part.items():
        assert (column == whole[name][mask]).all()


def test_keys_are_unique(db):
    for table in ("mla_decode", "collective", "moe_all_to_all"):
        rows = pd.DataFrame(db.read("gb300", "sglang", table))
        assert not rows.duplicated(list(SCHEMAS[table].key_names)).any()


def test_no_match_and_no_table(db):
    rows = db.read("h200_sxm", "vllm", "gemm", {"dtype": "no such", "n": 5})
    assert set(rows) == set(SCHEMAS["gemm"].names)
    assert all(len(column) == 0 for column in rows.values())
    assert db.read("h200_sxm", "vllm", "moe_wide") is None
    assert db.read("no_system", "vllm", "gemm") is None


def test_wrong_names_are_user_errors(db):
    with pytest.raises(UserError, match="did you mean gemm"):
        db.read("h200_sxm", "vllm", "gem")
    with pytest.raises(UserError, match=r"unknown column.*did you mean kernel"):
        db.read("h200_sxm", "vllm", "gemm", {"kernels": "x"})
    with pytest.raises(UserError, match="holds int"):
        db.read("h200_sxm", "vllm", "gemm", {"n": "4096"})


def test_results_are_cached_and_not_writable(db):
    first = db.read("h200_sxm", "vllm", "mla_bmm", {"heads": 16})
    again = db.read("h200_sxm", "vllm", "mla_bmm", {"heads": [16]})
    assert first["seconds"] is again["seconds"]
    with pytest.raises(ValueError, match="read-only"):
        first["seconds"][0] = 1


def test_reading_does_not_import_pandas():
    code = (
        "import sys; from aiconf.perf.store import PerfDb; db = PerfDb.open();"
        "db.read('h200_sxm', 'trtllm', 'moe_wide', {'eplb': True});"
        "db.read('h200_sxm', 'vllm', 'gemm'); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_table_is_named(tmp_path, damage):
    copy = copy_of(tmp_path, "h200_sxm/nccl/collective.parquet", "h200_sxm/vllm/mla_bmm.parquet")
    path = copy / "h200_sxm/nccl/collective.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:-100])
    db = PerfDb.open(copy)
    with pytest.raises(UserError, match=r"h200_sxm/nccl/collective is damaged.*aiconf db verify"):
        db.read("h200_sxm", "nccl", "collective")
    assert db.read("h200_sxm", "vllm", "mla_bmm") is not None


def test_a_broken_manifest_and_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="no perf_db folder"):
        PerfDb.open(tmp_path / "none")
    with pytest.raises(UserError, match="holds no SYSTEM"):
        PerfDb.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"tables": [')
    with pytest.raises(UserError, match="cannot read the manifest"):
        PerfDb.open(tmp_path)


def test_rows_of_the_user_win_and_others_stay(db, tmp_path):
    old = db.read("h200_sxm", "vllm", "gemm", {"dtype": "bf16", "n": 4096, "k": 4096})
    kernel = old["kernel"][0]
    rows = gemm(("bf16", 4096, 4096, kernel, 1, 5.0), ("bf16", 4096, 4096, "mine", 1, 6.0))
    write_table(rows, SCHEMAS["gemm"], tmp_path / "h200_sxm/vllm/gemm.parquet")
    write_table(rows, SCHEMAS["gemm"], tmp_path / "my_gpu/vllm/gemm.parquet")
    both = PerfDb.open(tmp_path)
    new = both.read("h200_sxm", "vllm", "gemm", {"dtype": "bf16", "n": 4096, "k": 4096})
    assert len(new["seconds"]) == len(old["seconds"]) + 1
    at = (new["kernel"] == kernel) & (new["m"] == 1)
    assert new["seconds"][at].tolist() == [5.0]
    assert new["seconds"][new["kernel"] == "mine"].tolist() == [6.0]
    assert "my_gpu" in both.systems()
    assert both.version("my_gpu", "vllm") is None
    assert len(both.read("my_gpu", "vllm", "gemm")["seconds"]) == 2
    assert len(both.read("h200_sxm", "trtllm", "gemm")["seconds"]) > 1e5


def test_a_users_table_must_be_known_and_complete(tmp_path):
    path = tmp_path / "h200_sxm/vllm/gem.parquet"
    write_table(gemm(("bf16", 1, 1, "x", 1, 1.0)), SCHEMAS["gemm"], path)
    with pytest.raises(UserError, match="unknown table 'gem'"):
        PerfDb.open(tmp_path)
    path.unlink()
    gemm(("bf16", 1, 1, "x", 1, 1.0)).drop(columns="kernel").to_parquet(path.with_stem("gemm"))
    with pytest.raises(UserError, match="lacks the column kernel"):
        PerfDb.open(tmp_path).read("h200_sxm", "vllm", "gemm")


@pytest.mark.parametrize("seconds", [-1.0, float("inf")])
def test_a_users_time_that_is_none(tmp_path, seconds):
    rows = gemm(("bf16", 1, 1, "x", 1, seconds))
    path = tmp_path / "h200_sxm/vllm/gemm.parquet"
    path.parent.mkdir(parents=True)
    rows.to_parquet(path)
    with pytest.raises(UserError, match="it holds a time that is negative"):
        PerfDb.open(tmp_path).read("h200_sxm", "vllm", "gemm")


def test_embedded_tables_without_a_manifest_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("aiconf.perf.store.data_dir", lambda _name: tmp_path)
    with pytest.raises(UserError, match="lost its manifest"):
        PerfDb.open()


def test_a_users_file_that_is_no_parquet(tmp_path):
    path = tmp_path / "h200_sxm/vllm/gemm.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("seconds,m\n")
    with pytest.raises(UserError, match="h200_sxm/vllm/gemm is damaged"):
        PerfDb.open(tmp_path).read("h200_sxm", "vllm", "gemm")


def test_nccl_bytes_are_bytes(db):
    """Equal bytes take equal time in an all-gather, whatever the element; and NVLink bounds it."""
    rows = db.read("h200_sxm", "nccl", "collective", {"op": "all_gather", "gpus": 8})
    at = rows["bytes"] == 512 * 2**20
    assert sorted(rows["dtype"][at]) == ["fp16", "int8"]
    bus = 7 / 8 * rows["bytes"][at] / rows["seconds"][at]
    assert (bus > 300e9).all()
    assert (bus < 450e9).all()
    assert bus[0] == pytest.approx(bus[1], rel=0.1)


def test_custom_all_reduce_moves_as_much_as_nccl(db):
    rows = db.read("h200_sxm", "trtllm", "collective", {"gpus": 2})
    last = rows["bytes"].argmax()
    assert 300e9 < rows["bytes"][last] / rows["seconds"][last] < 450e9


def test_rounding_keeps_times_within_its_bound():
    seconds = np.exp(np.random.default_rng(1).uniform(-15, 2, 10_000))
    error = np.abs(rounded(seconds) / seconds - 1)
    assert error.max() < 2.0 ** -(KEPT_BITS + 1) * 1.01
    assert rounded(np.zeros(1))[0] == 0


def test_agreement_of_a_table_with_itself_and_with_a_slower_one(db):
    schema = SCHEMAS["mla_bmm"]
    rows = db.read("h200_sxm", "vllm", "mla_bmm")
    same = compare(rows, rows, schema)
    assert (same.common, same.only_a, same.only_b) == (len(rows["seconds"]), 0, 0)
    assert same.median == same.mean == same.p90 == 1
    slower = dict(rows) | {"seconds": rows["seconds"] * 2}
    part = {name: column[5:] for name, column in slower.items()}
    found = compare(rows, part, schema, worst=3)
    assert (found.common, found.only_a, found.median) == (same.common - 5, 5, 2)
    assert len(found.worst) == 3
    renamed = dict(slower) | {"kernel": np.full(len(rows["seconds"]), "other", object)}
    assert compare(rows, renamed, schema).common == 0
    assert compare(rows, renamed, schema, any_kernel=True).common == same.common
