"""What the prediction assumed is written, or is what the engine does by itself.

Every field of the engine's traits and of a worker has a decision here; a new field without one
fails. Writing is proved by changing the field: the documents must change with it.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

import pytest
from deploy_plans import DENSE, GB200, MOE, plan, worker

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.versions import releases
from aiconf.deploy.write import manifest
from aiconf.engine.traits import Traits, load_traits
from aiconf.parallel import Parallel
from aiconf.serving.plan import Plan, Worker
from aiconf.workload import Workload

BACKENDS = ("vllm", "sglang", "trtllm")

# Fields of a worker: a change of it that must change the documents of every backend.
WORKER = {
    "role": None,  # prefill and decode are told by --disaggregation-mode, tested elsewhere
    "replicas": 3,
    "system": GB200,
    "parallel": Parallel(tp=1, dp=4, ep=4),
    "max_sequences": 32,
    "token_budget": 4096,
    "max_model_len": 6000,
    "kv_dtype": "bf16",
    "kv_block_size": 128,
    "memory_fraction": 0.8,
    "graph_sizes": (1, 2, 4),
    "prefix_caching": False,
    "moe_backend": "CUTLASS",
    "exchange": "deepep_ll",
}
# Fields of a plan that are settings; the others say what is asked, not how it is run.
PLAN = {"drafts": 3, "draft_model": "org/eagle3", "model": MOE}
DRAFTING = replace(DENSE, mtp_layers=1)
ASKED = {"backend", "backend_version", "workload", "workers", "concurrency"}


class By:
    """The engine does so by itself: no words. ``flags``: those that would change it, with the
    default of the parser that the facts were read from."""

    def __init__(self, why, **flags):
        self.why, self.flags = why, flags


class Told:
    """A worker or the writer says it: words of the command line or the engine file by backend."""

    def __init__(self, **words):
        self.words = words


TIME = By("how long the engine takes, no setting")
FACT = By("how the engine divides memory or names its kernels, no setting")
LABEL = By("a name or a source")

TRAITS = {
    "name": LABEL, "title": LABEL, "version": LABEL, "sources": LABEL, "notes": LABEL,
    "scheduler.policy": By(
        "mixed or prefill first", vllm={"--scheduling-policy": "'fcfs'"},
        sglang={"--enable-mixed-chunk": "False"},
    ),
    "scheduler.mixed_flag": By("not written", sglang={"--enable-mixed-chunk": "False"}),
    "scheduler.chunked_prefill": Told(
        vllm="--enable-chunked-prefill", sglang="--chunked-prefill-size",
        trtllm="enable_chunked_prefill",
    ),
    "scheduler.async_scheduling": By(
        "on unless told otherwise", vllm={"--no-async-scheduling": "None"},
        sglang={"--disable-overlap-schedule": "False"},
    ),
    "scheduler.async_with_pipeline": By("follows from pipeline parallelism"),
    "scheduler.budget_shared_by_dp": Told(sglang="--chunked-prefill-size"),
    "scheduler.prefill_token_cap": Told(sglang="--max-prefill-tokens"),
    "scheduler.output_reserve": By(
        "room that is kept on admission", vllm={"--scheduler-reserve-full-isl": "True"},
        sglang={"--schedule-conservativeness": "1.0"},
    ),
    "scheduler.output_reserve_dp": By("as output_reserve"),
    "scheduler.output_reserve_new": By("as output_reserve"),
    "scheduler.output_reserve_cap": By("an environment variable's default"),
    "scheduler.output_reserve_floor": By("an environment variable's default"),
    "scheduler.output_reserve_steps": By("an environment variable's default"),
    "scheduler.balance_wait": By("the engine's default of attention_dp_config"),
    "scheduler.balance_more": By("the engine's default of attention_dp_config"),
    "scheduler.tiers.min_memory_bytes": LABEL, "scheduler.tiers.min_sm": LABEL,
    "scheduler.tiers.token_budget": Told(
        vllm="--max-num-batched-tokens", sglang="--chunked-prefill-size", trtllm="max_num_tokens"
    ),
    "scheduler.tiers.max_sequences": Told(
        vllm="--max-num-seqs", sglang="--max-running-requests", trtllm="max_batch_size"
    ),
    "scheduler.tiers.largest_graph": Told(
        vllm="--compilation-config", sglang="--cuda-graph-(max-)?bs", trtllm="cuda_graph_config"
    ),
    "kv.block_tokens": Told(vllm="--block-size", sglang="--page-size", trtllm="tokens_per_block"),
    "kv.block_tokens_mla": Told(
        vllm="--block-size", sglang="--page-size", trtllm="tokens_per_block"
    ),
    "kv.block_tokens_only": Told(
        vllm="--block-size", sglang="--page-size", trtllm="tokens_per_block"
    ),
    "kv.block_refused": LABEL, "kv.least_sm": LABEL, "kv.fp8_only": LABEL, "kv.no_reuse": LABEL,
    "kv.watermark": By("blocks kept free on admission", vllm={"--watermark": "0.0"}),
    "kv.prefix_caching": Told(
        vllm="--(no-)?enable-prefix-caching", trtllm="enable_block_reuse"
    ),
    "kv.shared_pages.most_padding": By(
        "how the engine groups layers", vllm={"--disable-hybrid-kv-cache-manager": "None"}
    ),
    "kv.shared_pages.whole_windows": By("off by itself for these"),
    "kv.shared_pages.align": FACT, "kv.shared_pages.window_block": FACT,
    "kv.shared_pages.state_block": FACT, "kv.gathered": FACT,
    "memory.rotary_element": FACT,
    "memory.flag": LABEL, "memory.share_of": FACT,
    "memory.fraction": Told(
        vllm="--gpu-memory-utilization", sglang="--mem-fraction-static",
        trtllm="free_gpu_memory_fraction",
    ),
    "memory.fraction_wide": Told(sglang="--mem-fraction-static"),
    "memory.wide_ranks": LABEL,
    "memory.margin": Told(
        vllm="--gpu-memory-utilization", sglang="--mem-fraction-static",
        trtllm="free_gpu_memory_fraction",
    ),
    "memory.static_share": Told(sglang="--mem-fraction-static"),
    "activation": FACT,
    "graphs.sizes": Told(
        vllm="--compilation-config", sglang="--cuda-graph-bs", trtllm="cuda_graph_config"
    ),
    "graphs.limit": Told(
        vllm="--compilation-config", sglang="--cuda-graph-(max-)?bs", trtllm="cuda_graph_config"
    ),
    "graphs.limit_factor": LABEL, "graphs.append_limit": LABEL,
    "graphs.padding": By(
        "batches are padded to the next graph", sglang={"--disable-cuda-graph-padding": "False"}
    ),
    "graphs.prefill": By(
        "whether prompts run in graphs", vllm={"--enforce-eager": "False"},
        sglang={"--cuda-graph-backend-prefill": "None"},
    ),
    "graphs.prefill_limit_mla": FACT, "graphs.prefill_needs_plain": FACT,
    "graphs.prefill_tokens": By("up to the largest of the sizes that are written"),
    "graphs.prefill_excludes": By("the engine keeps these models' prompts out by itself"),
    "graphs.prefill_sizes": FACT, "graphs.bytes_per_size": FACT,
    "layouts.pipeline": LABEL, "layouts.pipeline_apart": LABEL, "layouts.dp_ranks": LABEL,
    "layouts.ep_sizes": LABEL, "layouts.rank_in_pod": LABEL,
    "layouts.balanced_ep": Told(vllm="--enable-eplb", sglang="--enable-eplb"),
    "communication.all_reduce_graph": By(
        "the engine's own all-reduce", vllm={"--disable-custom-all-reduce": "False"},
        sglang={"--disable-custom-all-reduce": "False"},
    ),
    "communication.all_reduce_eager": FACT, "communication.all_reduce_ranks": FACT,
    "communication.all_reduce_bytes": FACT, "communication.beyond": FACT,
    "communication.workspace_bytes": FACT,
    "communication.buffer_bytes": FACT,
    "communication.exchange": By("the engines' default under attention DP"),
    "communication.all_to_all": Told(vllm="--all2all-backend", sglang="--moe-a2a-backend",
                                     trtllm="TRTLLM_FORCE_COMM_METHOD"),
    "communication.all_to_all_automatic": LABEL,
    "communication.all_to_all_flags": LABEL,
    "host": TIME,
    "vision.parallel": By(
        "told where images are asked for (test_images.py)",
        vllm={"--mm-encoder-tp-mode": "'weights'"}, sglang={"--mm-enable-dp-encoder": "False"},
    ),
    "vision.apart": By("which deployments are written at all"),
    "vision.modalities": By("how --limit-mm-per-prompt is spelled"),
    "kernels": By(
        "the engine's own order", vllm={"--attention-backend": "None", "--moe-backend": "'auto'"},
        sglang={"--attention-backend": "None", "--moe-runner-backend": "'auto'"},
    ),
    "serial_prefill": FACT,
    "sparse_settings": By("told for models that need it (test_sparse.py)"),
    "moe_settings": Told(trtllm="moe_config"),
    "expert_kernels": By(
        "the engine's own order", vllm={"--moe-backend": "'auto'"},
        sglang={"--moe-runner-backend": "'auto'"},
    ),
    "lenders": By("whose tables are read"), "scales": By("fitted to measured runs"),
    "fused_quantization": By("compiler passes of the default level", vllm={"-O": None}),
    "fused_elementwise": FACT,
    "float32_products": By("torch's default, or that of VLLM_FLOAT32_MATMUL_PRECISION"),
    "shared_stream_tokens": By(
        "a constant, or the default of VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD"
    ),
    "norm_in_all_reduce": By(
        "fused by default where the engine can",
        sglang={"--enable-flashinfer-allreduce-fusion": "False"},
    ),
}  # fmt: skip


def paths(kind, prefix=""):
    """Fields of a dataclass, and of dataclasses inside it, by dotted path."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        path = prefix + field.name
        inner = _inner(hints[field.name])
        if inner is None or path in TRAITS:
            yield path
        else:
            yield from paths(inner, f"{path}.")


def _inner(hint):
    if is_dataclass(hint):
        return hint
    if get_origin(hint) in (tuple, Union, UnionType):
        return next((one for one in map(_inner, get_args(hint)) if one), None)
    return None


def test_every_field_has_a_decision():
    assert set(paths(Traits)) == set(TRAITS)
    assert {field.name for field in fields(Worker)} == set(WORKER)
    assert {field.name for field in fields(Plan)} == set(PLAN) | ASKED


def usual(backend, **changes):
    return plan(backend, worker("agg", "tp4", **changes), model=MOE)


def told(one, **options):
    deployment = build(one, Options(**options))
    return manifest(deployment)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("field", [name for name, value in WORKER.items() if value is not None])
def test_a_change_of_the_worker_is_told(backend, field):
    change = {field: WORKER[field]}
    if field == "exchange":
        known = load_traits(backend).communication.all_to_all_flags
        change = {"exchange": next(iter(known)), "parallel": Parallel(dp=4, ep=4)}
    before = usual(backend, parallel=change.get("parallel", Parallel(tp=4)))
    if field == "parallel":
        before = usual(backend)
    if field == "system":  # where both sides run elsewhere, each is bound to its nodes
        before = plan(backend, worker("prefill"), worker("decode"))
        after = plan(backend, worker("prefill"), worker("decode", system=GB200))
    else:
        after = usual(backend, **change)
    assert told(before) != told(after)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("field", PLAN)
def test_a_change_of_the_plan_is_told(backend, field):
    before = plan(backend, worker("agg", "tp4"), model=DRAFTING)
    if field == "draft_model":
        before = replace(before, drafts=3)
    assert told(before) != told(replace(before, **{field: PLAN[field]}))


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_told_stands_in_every_release(backend, release):
    exchange = next(iter(load_traits(backend).communication.all_to_all_flags))
    wide = worker(
        "agg", "tp1dp16ep16", exchange=exchange, moe_backend="TRTLLM" if backend == "trtllm" else ""
    )
    text = told(plan(backend, wide), dynamo=release)
    for path, decision in TRAITS.items():
        if isinstance(decision, Told) and backend in decision.words:
            assert re.search(decision.words[backend], text), path


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_engine_does_by_itself_is_not_told(backend, release):
    for layout in ("tp4", "tp1dp16ep16"):
        args = " ".join(told(plan(backend, worker("agg", layout)), dynamo=release).split())
        for path, decision in TRAITS.items():
            for flag in getattr(decision, "flags", {}).get(backend, ()):
                assert f" {flag} " not in args, path


def test_defaults_are_those_of_the_parsers(engine_flags):
    for path, decision in TRAITS.items():
        for backend, flags in getattr(decision, "flags", {}).items():
            for flag, value in flags.items():
                if value is not None:
                    assert engine_flags[backend][flag]["default"] == value, path


def test_every_setting_has_a_reason_to_be_there():
    """Nothing is told that no field, role or option asks for."""
    known = {
        "vllm": "model served-model-name tensor-parallel-size pipeline-parallel-size "
        "data-parallel-size enable-expert-parallel no-enable-expert-parallel all2all-backend "
        "enable-eplb eplb-config max-model-len max-num-seqs max-num-batched-tokens "
        "enable-chunked-prefill compilation-config gpu-memory-utilization kv-cache-dtype "
        "block-size enable-prefix-caching no-enable-prefix-caching kv-transfer-config "
        "disaggregation-mode",
        "sglang": "model-path served-model-name tp-size pp-size dp-size enable-dp-attention "
        "ep-size enable-eplb ep-num-redundant-experts context-length max-running-requests "
        "chunked-prefill-size max-prefill-tokens cuda-graph-max-bs-decode cuda-graph-bs-decode "
        "cuda-graph-backend-decode mem-fraction-static kv-cache-dtype page-size "
        "disable-radix-cache disaggregation-mode disaggregation-transfer-backend "
        "disaggregation-bootstrap-port host",
        "trtllm": "model served-model-name tensor-parallel-size pipeline-parallel-size "
        "expert-parallel-size enable-attention-dp kv-block-size extra-engine-args "
        "max-batch-size max-num-tokens max-seq-len "
        "disaggregation-mode",
    }
    for backend, words in known.items():
        seen = set()
        for layout in ("tp4", "tp4pp2", "tp1dp16ep16"):
            for roles in (("agg",), ("prefill", "decode")):
                for caching in (True, False):
                    sides = [worker(role, layout, prefix_caching=caching) for role in roles]
                    for model in (None, MOE):
                        one = plan(backend, *sides, model=model)
                        parts = build(replace(one, workload=Workload(4000, 1000))).parts
                        seen |= {s.flag for part in parts for s in part.launch.settings}
        assert seen <= set(words.split()), backend
        assert set(words.split()) - seen <= {"all2all-backend"}, backend
