"""Our Triton kernels compile for an H200: what the interpreter cannot tell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_kernels_compile_for_hopper_and_fit_it(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    script = Path(__file__).with_name("hopper.py")
    known = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    paths = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(script.parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], env=known | paths, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, last = done.stdout.splitlines()
    assert last.startswith("done")
    made = {line.split("\t")[0] for line in lines}
    assert {"_split", "_prefill", "join_splits", "_gate_up", "_down", "_topk", "_norm"} <= made
    for line in lines:
        shared, spilled = line.split("\t")[1:3]
        assert int(shared) <= 232448, line
        assert int(spilled) <= 128, line  # a few registers; more would show in its time
