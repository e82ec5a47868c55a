"""Crash patterns: each is found, and what is right is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deploy_plans import DENSE, plan, worker

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.rules import Stated, findings
from aiconf.engine.capacity import TIGHT
from aiconf.errors import UserError

GIB = 2**30
GOOD = Stated(
    name="worker", role="agg", backend="trtllm", tp=4, heads=(64,), kv_heads=(8,),
    max_sequences=64, graph_top=64,
    token_budget=8192, max_model_len=5120, longest=5000, kv_dtype="fp8", kv_block_size=64,
    transfer_tokens=5120, sequence_bytes=GIB, kv_bytes=80 * GIB,
    kv_needed=60 * GIB, memory_bytes=140 * GIB,
)  # fmt: skip


def only(*workers):
    found = findings(workers)
    return [(one.rule, one.severity) for one in found]


def test_what_is_right_is_left_alone():
    assert only(GOOD) == []
    sides = [replace(GOOD, role=role, name=role) for role in ("prefill", "decode")]
    assert only(*sides) == []
    assert only(Stated("worker", "agg", "vllm")) == []  # nothing stated, nothing said


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"kv_bytes": 0.0}, ("kv-memory", "error")),
        ({"kv_bytes": 0.5 * GIB}, ("kv-memory", "error")),
        ({"kv_needed": 81 * GIB, "role": "decode"}, ("kv-memory", "error")),
        ({"kv_needed": 81 * GIB}, ("kv-memory", "warning")),
        ({"kv_needed": 80 * GIB - 0.9 * TIGHT * 140 * GIB}, ("tight-memory", "warning")),
        ({"kv_bytes": -1.0, "longest": None}, ("kv-memory", "warning")),
        ({"kv_bytes": -5 * GIB, "longest": None}, ("kv-memory", "error")),
        ({"kv_bytes": 2 * GIB, "sequence_bytes": 5 * GIB, "longest": None},
         ("kv-memory", "warning")),
        ({"kv_bytes": 5 * GIB, "sequence_bytes": 10 * GIB, "longest": None, "backend": "vllm"},
         ("kv-memory", "error")),
        ({"kv_bytes": 5 * GIB, "sequence_bytes": 9 * GIB, "longest": None, "backend": "vllm"},
         ("kv-memory", "warning")),
        ({"transfer_tokens": 4999, "role": "prefill"}, ("transfer-buffer", "error")),
        ({"transfer_tokens": 5119, "role": "decode", "longest": None},
         ("transfer-buffer", "warning")),
        ({"graph_top": 65}, ("graph-size", "warning")),
        ({"graph_top": 8193, "backend": "vllm"}, ("graph-size", "warning")),
        ({"heads": (64, 62)}, ("heads", "error")),
        ({"kv_heads": (6,)}, ("heads", "error")),
        ({"block_unit": 128, "kv_block_size": 64}, ("kv-blocks", "error")),
        ({"token_budget": 32, "backend": "sglang"}, ("token-budget", "error")),
        ({"token_budget": 8200, "backend": "sglang"}, ("token-budget", "error")),
        ({"whole_prompts": True, "token_budget": 5119, "backend": "vllm"},
         ("token-budget", "error")),
        ({"model_context": 5119, "backend": "sglang"}, ("context", "error")),
        ({"model_context": 5119}, ("context", "warning")),
        ({"token_budget": 64, "max_sequences": 65, "backend": "vllm"}, ("token-budget", "error")),
        ({"max_model_len": 4999}, ("context", "error")),
    ],
)
def test_alone(changes, rule):
    assert only(replace(GOOD, **changes)) == [rule]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"kv_block_size": 32}, ("block-size", "error")),
        ({"kv_dtype": "bf16"}, ("kv-dtype", "error")),
        ({"max_model_len": 8192}, ("context", "warning")),
        ({"max_model_len": 5119}, None),
        ({"pp": 2}, None),
    ],
)
def test_together(changes, rule):
    decode = replace(GOOD, role="decode", name="decode")
    prefill = replace(GOOD, role="prefill", name="prefill", **changes)
    assert only(decode, replace(prefill, transfer_tokens=None)) == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("backend", "before", "after", "severity"),
    [("vllm", 16, 32, "warning"), ("vllm", 32, 16, "error"), ("vllm", 48, 64, "error"),
     ("sglang", 16, 32, "error"), ("trtllm", 16, 32, "error")],
)  # fmt: skip
def test_blocks_that_only_vllm_can_cut(backend, before, after, severity):
    sides = (("prefill", before), ("decode", after))
    found = only(*(replace(GOOD, backend=backend, role=r, name=r, kv_block_size=size,
                           token_budget=19200) for r, size in sides))  # fmt: skip
    assert found == [("block-size", severity)]


@pytest.mark.parametrize(
    ("before", "after", "fits"),
    [(1, 1, True), (4, 1, True), (2, 2, True), (1, 2, False), (4, 2, False)],
)
def test_stages_of_sglang_on_both_sides(before, after, fits):
    sides = (("prefill", before), ("decode", after))
    found = only(*(replace(GOOD, backend="sglang", role=r, name=r, pp=pp) for r, pp in sides))
    assert found == ([] if fits else [("pipeline", "error")])


def test_every_finding_says_what_to_do():
    bad = replace(
        GOOD, kv_bytes=0.0, transfer_tokens=1, heads=(62,), graph_top=99, max_model_len=9,
        role="prefill",
    )  # fmt: skip
    texts = [str(one) for one in findings([bad])]
    assert len(texts) >= 4
    assert all(text.startswith("worker: ") and "; " in text and "\n" not in text for text in texts)


def test_a_decode_worker_that_runs_out_of_cache_is_not_written():
    sides = worker("prefill", "tp1"), worker("decode", "tp1", max_sequences=512)
    with pytest.raises(UserError, match=r"decode: 512 sequences need .* run \d+ sequences"):
        build(plan("vllm", *sides))


def test_an_aggregated_worker_that_preempts_is_marked():
    deployment = build(plan("vllm", worker("agg", "tp1", max_sequences=512)))
    assert any("512 sequences need" in note for note in deployment.notes)


def test_near_the_limit_is_marked():
    """The plan's own limit is found first, so that the test follows the model of memory."""
    counts = [
        count
        for count in range(48, 200)
        if any("less than 3%" in n for n in build(tp1(count)).notes)
    ]
    assert counts, "no count is near the limit"
    assert counts == list(range(counts[0], counts[-1] + 1))
    assert any("sequences need" in note for note in build(tp1(counts[-1] + 1)).notes)
    assert not any("Memory" in note for note in build(tp1(counts[0] - 1)).notes)


def tp1(count):
    return plan("vllm", worker("agg", "tp1", max_sequences=count))


@pytest.mark.parametrize(
    ("layout", "words"), [("tp3", "does not divide 64 attention heads"), ("tp1", None)]
)
def test_heads_of_the_plan(layout, words):
    one = plan("sglang", worker("agg", layout), model=DENSE)
    if words is None:
        assert build(one)
        return
    with pytest.raises(UserError, match=words):
        build(one)


def test_buffers_of_the_plan_hold_the_longest_sequence():
    sides = worker("prefill", max_model_len=5000), worker("decode", max_model_len=5000)
    deployment = build(plan("trtllm", *sides), Options())
    for part in deployment.parts:
        held = part.launch.config["cache_transceiver_config"]["max_tokens_in_buffer"]
        assert held >= 5000 and held % part.worker.kv_block_size == 0
