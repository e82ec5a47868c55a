import json
import shutil

import pytest
from typer.testing import CliRunner

from aiconf.cli.db import app
from aiconf.errors import UserError
from aiconf.resources import data_dir


def run(*words):
    """Run ``aiconf db WORDS`` the way the main program does: user errors are one line, exit 2."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def copy(tmp_path):
    """Return a folder with two tables and their manifest."""
    manifest = json.loads((data_dir("perf_db") / "manifest.json").read_text())
    kept = [e for e in manifest["tables"] if (e["system"], e["table"]) == ("h200_sxm", "mla_bmm")]
    for entry in kept:
        path = f"{entry['system']}/{entry['backend']}/{entry['table']}.parquet"
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(data_dir("perf_db") / path, tmp_path / path)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"tables": kept}))
    return tmp_path


def test_list():
    code, output = run("list", "gb200")
    assert code == 0
    assert "h200_sxm" not in output
    assert any(
        line.split()[:4] == ["gb200", "vllm", "gemm", "0.24.0"] for line in output.split("\n")
    )
    assert run("list", "gb20") == (
        2,
        "unknown system 'gb20': did you mean gb200 or gb300 or b200_sxm?",
    )


def test_show():
    code, output = run("show", "h200_sxm", "nccl", "collective", "gpus=8", "op=all_reduce")
    assert code == 0
    assert "42 rows match" in output
    assert "2.29.2" in output
    code, output = run("show", "h200_sxm", "trtllm", "moe_wide", "eplb=true", "--limit", "1")
    assert "eplb" in output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["h200_sxm", "vlm", "gemm"], "unknown backend of h200_sxm 'vlm': did you mean vllm"),
        (["h200_sxm", "vllm", "moe_wide"], "unknown table of h200_sxm/vllm"),
        (["h200_sxm", "vllm", "gemm", "dtype"], "write COLUMN=VALUE"),
        (["h200_sxm", "vllm", "gemm", "m=many"], "column m holds int"),
        (["h200_sxm", "vllm", "gemm", "mm=1"], "unknown column"),
        (["h200_sxm", "trtllm", "moe_wide", "eplb=1"], "column eplb holds bool"),
    ],
)
def test_show_mistakes(words, says):
    code, output = run("show", *words)
    assert code == 2
    assert says in output
    assert "\n" not in output


def test_verify_embedded():
    code, output = run("verify")
    assert code == 0
    tables = len(list(data_dir("perf_db").glob("*/*/*.parquet")))
    assert tables >= 270
    assert f"{tables} tables" in output


def test_verify_names_the_damaged_table(copy):
    assert run("verify", "--perf-db", copy)[0] == 0
    path = copy / "h200_sxm/vllm/mla_bmm.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)
    code, output = run("verify", "--perf-db", copy)
    assert code == 2
    assert "1 of" in output
    assert "h200_sxm/vllm/mla_bmm" in output


def test_diff(copy):
    code, output = run("diff", copy, data_dir("perf_db"), "--table", "mla_bmm")
    assert code == 0
    assert "h200_sxm/vllm/mla_bmm.parquet: 636 common points (only A 0, only B 0)" in output
    assert "only in" in output
    a, b = (copy / f"h200_sxm/{backend}/mla_bmm.parquet" for backend in ("vllm", "sglang"))
    code, output = run("diff", a, b, "--any-kernel", "--worst", "2")
    assert code == 0
    assert len(output.strip().split("\n")) == 3


def test_diff_mistakes(copy):
    a = copy / "h200_sxm/vllm/mla_bmm.parquet"
    assert run("diff", a, copy)[1].endswith("must both be folders or both be files")
    assert run("diff", a, copy / "none")[0] == 2
    other = data_dir("perf_db") / "h200_sxm/nccl/collective.parquet"
    assert "is a mla_bmm table" in run("diff", a, other)[1]
    (copy / "x").mkdir()
    assert "no table in common" in run("diff", copy, copy / "x")[1]
    (copy / "broken.parquet").write_text("no")
    assert "cannot read" in run("diff", a, copy / "broken.parquet")[1]


def test_merge(copy, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "db"
    code, output = run("merge", copy, "--out", out)
    assert code == 0
    assert f"h200_sxm/vllm/mla_bmm: 636 rows (636 from {copy})" in output
    assert run("verify", "--perf-db", out)[0] == 0
    code, output = run("merge", copy / "nothing", "--out", out)
    assert code == 2
    assert "there is no perf_db folder" in output


def test_verify_needs_a_manifest(copy):
    (copy / "manifest.json").unlink()
    code, output = run("verify", "--perf-db", copy)
    assert code == 2
    assert f"{copy} has no manifest.json to check its tables against: `aiconf db merge" in output
    assert "\n" not in output
    assert run("merge", copy, "--out", copy)[0] == 0  # as it says
    assert run("verify", "--perf-db", copy)[0] == 0


def test_fit(copy):
    code, output = run("fit", "h200_sxm", "--perf-db", copy)
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    assert {row[0] for row in rows[1:]} == {
        f"h200_sxm/{backend}/mla_bmm" for backend in ("vllm", "sglang", "trtllm")
    }
    assert all(0 < float(row[4]) < float(row[5]) < float(row[6]) for row in rows[1:])
    code, output = run("fit", "h200_sxm", "vllm", "nothing", "--perf-db", copy)
    assert code == 2
    assert "unknown table 'nothing': " in output
    code, output = run("fit", "h300_sxm", "--perf-db", copy)
    assert code == 2
    assert "unknown system 'h300_sxm': did you mean h200_sxm" in output


def test_gaps():
    code, output = run("gaps", "QWEN3_32B", "h200_sxm", "--precision", "bf16")
    assert code == 0
    *rows, last = output.strip().splitlines()
    assert last.endswith("shapes were not measured")
    # The LM head of 151936 columns: over two GPUs beyond the tables, over four between widths.
    assert any("dtype=bf16 n=75968 k=5120" in row and "speed of light" in row for row in rows)
    assert any("dtype=bf16 n=37984 k=5120" in row and "neighbouring" in row for row in rows)
    assert not any("n=5120 k=8192" in row for row in rows)  # measured as it is
    code, output = run("gaps", "QWEN3_32B", "h200_sxm", "--precision", "bf16", "--format", "json")
    assert len(json.loads(output)) == len(rows) - 1
    code, output = run("gaps", "QWEN3_32B", "h300")
    assert code == 2


def test_import_says_how_to_get_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    code, output = run("import", "--out", tmp_path / "out")
    assert code == 2
    assert "pip install --no-deps aiconfigurator-core==0.12.0" in output
    assert not (tmp_path / "out").exists()
