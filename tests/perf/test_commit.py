"""A folder of tables whose change is killed at any moment holds the old ones or the new."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Forks once per operation on files, and kills the fork right before that operation. The parent
# touches neither pandas nor pyarrow, whose threads do not survive a fork.
_SCRIPT = """
import os, shutil, sys
from pathlib import Path
import pandas, pyarrow.parquet
from aiconf.perf.merge import merge

begin, work, inputs = Path(sys.argv[1]), Path(sys.argv[2]), [Path(p) for p in sys.argv[3:]]
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}

def forked(what):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        what()
        os._exit(0)
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
        os._exit(1)

def killed(at, folders):
    count = 0
    def hook(event, args):
        nonlocal count
        writes = event == "open" and isinstance(args[2], int) and args[2] & 3
        if event in CHANGES or writes:
            count += 1
            if count == at:
                os._exit(9)
    sys.addaudithook(hook)
    merge(folders, work)

def told():
    __import__("tests.perf.test_commit", fromlist=["told"]).told(work)

at, code = 0, 9
while code == 9:
    at += 1
    shutil.rmtree(work, ignore_errors=True)
    if begin.is_dir():
        shutil.copytree(begin, work)
    folders = [*inputs, *([work] if begin.is_dir() else [])]
    code = forked(lambda: killed(at, folders))
    if (work / "manifest.json").is_file() or begin.is_dir():
        if forked(told):
            sys.exit(f"killed before operation {at}: its tables cannot be read")
    whole = (work / "manifest.json").is_file() or begin.is_dir()
    again = forked(lambda: merge([*inputs, *([work] if whole else [])], work))
    left = [*work.rglob(".*"), *work.parent.glob(f".{work.name}*")]
    if again or left or forked(told):
        sys.exit(f"after a kill before operation {at}, merging again: {again}, left {left}")
print("operations", at, "last", code)
"""


def told(work):
    """Print the rows of the folder, checked as ``aiconf db verify`` does."""
    from aiconf.cli.db import _verify_table
    from aiconf.perf.manifest import read_entries
    from aiconf.perf.store import Folder

    folder = Folder(work, read_entries(work))
    for place in folder.entries:
        _verify_table(folder, place)
    rows = {p[1]: len(folder.select(e, {})["seconds"]) for p, e in folder.entries.items()}
    print(json.dumps(rows, sort_keys=True), flush=True)


def table(path, backend, rows):
    """One table of a folder; returns its manifest entry."""
    import pandas as pd

    from aiconf.perf.convert.write import file_facts, write_table
    from aiconf.perf.schema import schema_of

    file = path / "h200_sxm" / backend / "mla_bmm.parquet"
    frame = pd.DataFrame(
        [
            {"op": "pre", "dtype": "bf16", "heads": 8, "kernel": "a", "tokens": t, "seconds": 1.0}
            for t in rows
        ]
    )
    write_table(frame, schema_of("mla_bmm"), file)
    return {"system": "h200_sxm", "backend": backend, "table": "mla_bmm", "rows": len(rows),
            **file_facts(file)}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("begin", ["with a manifest", "without", "empty"])
def test_a_merge_killed_at_any_step_leaves_a_whole_folder(tmp_path, begin):
    from aiconf.perf.convert.write import write_manifest

    old, run = tmp_path / "old", tmp_path / "run"
    if begin != "empty":
        entries = [table(old, backend, (1, 2)) for backend in ("torch", "vllm")]
        if begin == "with a manifest":
            write_manifest(old, entries)
    write_manifest(run, [table(run, name, (2, 3, 4)) for name in ("torch", "vllm", "sglang")])
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(old), str(tmp_path / "work"), str(run)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    seen = {line for line in done.stdout.splitlines() if line.startswith("{")}
    new = json.dumps({"sglang": 3, "torch": 4, "vllm": 4}, sort_keys=True)
    first = {json.dumps({"torch": 2, "vllm": 2}), new}
    if begin == "empty":
        first = {json.dumps({"sglang": 3, "torch": 3, "vllm": 3}, sort_keys=True)}
    assert seen == first
    operations = int(done.stdout.split("operations ")[1].split()[0])
    assert operations > 10  # renames of three tables and the manifest, and what is around them
    assert done.stdout.rstrip().endswith("last 0")


def test_files_that_no_manifest_named_stay(tmp_path):
    """Somebody's own file beside the tables is not ours to remove."""
    from aiconf.perf.convert.write import write_manifest
    from aiconf.perf.merge import merge

    write_manifest(tmp_path, [table(tmp_path, "torch", (1, 2))])
    table(tmp_path, "vllm", (1,))
    merge([tmp_path], tmp_path)
    assert (tmp_path / "h200_sxm/vllm/mla_bmm.parquet").is_file()
