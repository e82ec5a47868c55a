"""Manifests with numbers that nothing takes, and with text that steers a terminal."""

from __future__ import annotations

import pytest
from test_read_manifest import beta, read

from aiconf.errors import UserError
from aiconf.manifests import estimate_manifest

WORKER = "--model Qwen/Qwen3-8B"
LONG = "9" * 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (beta(("w", "worker", WORKER, {"replicas": float("inf")})), "replicas is inf"),
        (beta(("w", "worker", WORKER, {"replicas": float("nan")})), "replicas is nan"),
        (beta(("w", "worker", WORKER, {"replicas": int(LONG)})), "replicas is"),
        (beta(("w", "worker", WORKER, {"replicas": 2**63})), "wider than 64 bits"),
        (beta(("w", "worker", WORKER, {"replicas": LONG})), "replicas: more than 100,000"),
        (beta(("w", "worker", WORKER, {"multinode": {"nodeCount": 10**9}})), "nodes of a replica"),
        (beta(("w", "worker", WORKER, {"gpus": LONG})), "GPUs of a pod"),
        (beta(("w", "worker", f"{WORKER} --max-num-seqs {LONG}")), "at most 1,000,000,000"),
        (beta(("w", "worker", f"{WORKER} --max-num-seqs 100000000")), "sequences at once"),
        (beta(("w", "worker", f"{WORKER} --max-cudagraph-capture-size 100000000")),
         "sequences in CUDA graphs"),
        (beta(("w", "worker", f"{WORKER} --max-model-len 9{LONG}")), "at most 1,000,000,000"),
        (beta(("w", "worker", ["--model", "Qwen/Qwen3-8B", "--compilation-config",
                               '{"a":' * 9000])), "a JSON object"),
        (beta(("w", "worker", f"--model {LONG}")), "File name too long"),
    ],
)  # fmt: skip
def test_numbers_that_nothing_takes(tmp_path, text, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_numbers_that_are_large_but_real(tmp_path):
    line = f"{WORKER} --max-num-seqs 65536 --seed 99999999999"
    body = {"resources": {"limits": {"memory": 2**40}}}
    found = read(tmp_path, beta(("w", "worker", line, body)))
    assert found.plan.workers[0].max_sequences == 65536


ESCAPE = "\x1b[31m\x1b]0;title\x07\u202e"


def test_escapes_reach_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    router = {"container": {"env": [{"name": "DYN_ROUTER_MODE", "value": ESCAPE}]}}
    text = beta(
        ("f", "frontend", None, router),
        (f"w{ESCAPE}", "worker", [*WORKER.split(), f"--evil{ESCAPE}", ESCAPE, "--quantization",
                                  ESCAPE]),
    )  # fmt: skip
    found = read(tmp_path, text)
    assert any("evil?[31m" in note for note in found.notes)
    assert all(note.isprintable() for note in found.notes)
    shown = estimate_manifest(tmp_path / "deploy.yaml", 1000, 100, system="h200_sxm").to_text()
    assert "evil?[31m" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    with pytest.raises(UserError) as caught:
        read(tmp_path, beta((f"w{ESCAPE}", "worker", "--model Qwen/nope")))
    assert str(caught.value).isprintable()
