"""From a chosen candidate to a deployment with every engine setting."""

from __future__ import annotations

import math
from dataclasses import replace

from aiconf.model.cache import cache_kind
from aiconf.perf.exchange import measured_kernels
from aiconf.search.request import Request
from aiconf.search.search import Found
from aiconf.search.workers import Variant
from aiconf.serving.plan import Plan, Role, Worker
from aiconf.workload import Workload

_ROUND = 8  # context lengths are given to engines in whole multiples of this
# Tokens of a chat template: requests with images go through it, text is sent as it is.
_TEMPLATE, _MARKS = 64, 2  # of a request, and around each image


def plan(request: Request, found: Found) -> Plan:
    """Deployment of a candidate, with the settings that its prediction assumed."""
    work, variant, before = request.workload, found.variant, found.prefill_variant
    spare = _TEMPLATE + _MARKS * work.images.count if work.images else 0
    needed = work.isl + work.osl + 1 + spare
    length = min(-(-needed // _ROUND) * _ROUND, variant.spec.max_context)
    batch = round(found.value("batch"))
    if before is None:
        budget = round(found.value("token_budget"))
        workers: tuple[Worker, ...] = (
            _worker("agg", found.value("workers"), variant, batch, budget, length, work),
        )
    else:
        # Every stage of a pipeline holds prompts of its own; engines limit them all together.
        ahead = round(found.value("prefill_batch")) * before.parallel.pp
        budget = round(found.value("prefill_token_budget"))
        count = found.value("prefill_workers")
        after = round(found.value("token_budget"))
        workers = (
            _worker("prefill", count, before, ahead, budget, length, work),
            _worker("decode", found.value("workers"), variant, batch, after, length, work),
        )
    # Cache blocks are handed over as they are, so both sides use the larger size.
    block = max(worker.kv_block_size for worker in workers)
    workers = tuple(replace(worker, kv_block_size=block) for worker in workers)
    return Plan(
        model=variant.spec,
        backend=found.side.backend,
        backend_version=variant.platform.version,
        workload=work,
        workers=workers,
        concurrency=max(round(found.value("concurrency")), 1),
    )


def _worker(role: Role, replicas: float, variant: Variant, sequences: int, budget: int,
            length: int, work: Workload) -> Worker:  # fmt: skip
    platform, parallel, spec = variant.platform, variant.parallel, variant.spec
    gpu, traits = platform.system.gpu, platform.traits
    per_rank = max(math.ceil(sequences / parallel.dp), 1)
    room = platform.capacity(
        spec, parallel, token_budget=budget, max_sequences=per_rank, kv_dtype=variant.kv_dtype,
        longest=length,
    )  # fmt: skip
    largest = traits.largest_graph(gpu.memory_bytes, gpu.sm, parallel.stage_gpus)
    # Where prompts run in the graphs of decodes, the step model counts on all sizes by default.
    shared = traits.graphs.prefill == "captured"
    most = max(per_rank, traits.max_sequences(gpu.memory_bytes, gpu.sm)) if shared else per_rank
    sizes = () if role == "prefill" and not shared else traits.graph_sizes(most, largest)
    return Worker(
        role=role,
        replicas=round(replicas),
        system=platform.system,
        parallel=parallel,
        max_sequences=per_rank * parallel.dp,
        token_budget=budget,
        max_model_len=length,
        kv_dtype=variant.kv_dtype,
        kv_block_size=traits.block_tokens(gpu.sm, cache_kind(spec)),
        memory_fraction=room.fraction,
        graph_sizes=sizes,
        prefix_caching=work.prefix > 0,
        moe_backend=traits.moe_setting(
            spec.quantization.experts, gpu.sm, attention_dp=parallel.dp > 1
        )
        if spec.is_moe
        else "",
        exchange=traits.exchange(
            parallel, platform.system.nvlink_domain, measured_kernels(platform.tables)
        ),
    )
