"""Every worker at every operating point, as columns of equally long arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.batch import Batch
from aiconf.engine.capacity import TIGHT
from aiconf.engine.drafting import Step, step_of
from aiconf.engine.engine import Platform
from aiconf.engine.speculation import Speculation
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.search.space import concurrencies, layouts, prompt_counts, token_budgets
from aiconf.serving.aggregated import aggregated, arrivals_per_iteration
from aiconf.serving.point import Points
from aiconf.serving.prompt import PromptTime, in_flight
from aiconf.workload import Workload

Array = NDArray[np.float64]

# Sequences of a decode rank at most: no measured table of attention or MoE goes further.
_MOST_DECODES = 4096.0


@dataclass(frozen=True)
class Variant:
    """One checkpoint under one layout on one platform.

    kv_bytes: of one prompt on the GPU that holds most of it. speculation: drafts that decoding
    sequences verify; None: none.
    """

    platform: Platform
    spec: ModelSpec
    parallel: Parallel
    kv_dtype: str
    kv_bytes: float
    speculation: Speculation | None = None

    @property
    def step(self) -> Step:
        """What times its iterations."""
        return step_of(self.platform, self.spec, self.parallel, self.kv_dtype, self.speculation)


@dataclass(frozen=True)
class Aggregated:
    """Points of every variant; ``variant`` is the index of each point's variant."""

    variants: list[Variant]
    variant: NDArray[np.intp]
    points: Points


@dataclass(frozen=True)
class Prefill:
    """Prefill workers: ``batch`` prompts per attention rank at once take ``seconds``.

    rate: prompts/s of the worker when it never idles.
    """

    variants: list[Variant]
    variant: NDArray[np.intp]
    gpus: Array
    batch: Array
    token_budget: Array
    seconds: Array
    rate: Array


@dataclass(frozen=True)
class Decode:
    """Decode workers with ``batch`` running sequences per attention rank.

    rate: requests/s of the worker.
    """

    variants: list[Variant]
    variant: NDArray[np.intp]
    gpus: Array
    batch: Array
    tpot: Array
    rate: Array


@dataclass(frozen=True)
class Misfit:
    """The layout that came closest to fitting: bytes needed and bytes there, per GPU."""

    parallel: Parallel
    needed: float
    available: float


def variant_of(
    platform: Platform, spec: ModelSpec, parallel: Parallel, kv: str | None, isl: int,
    speculation: Speculation | None = None,
) -> Variant:  # fmt: skip
    """Join a checkpoint, a layout and a platform; ``kv`` None: the checkpoint's KV type."""
    kv_dtype = kv or spec.quantization.kv
    budget = platform.token_budget(parallel.dp)
    room = platform.capacity(
        spec, parallel, token_budget=budget, max_sequences=1, kv_dtype=kv_dtype,
        drafting=speculation is not None,
    )  # fmt: skip
    sent = float(room.cache_bytes(isl))
    return Variant(platform, spec, parallel, kv_dtype, sent, speculation)


def aggregated_workers(
    platform: Platform, specs: list[ModelSpec], gpus: int, workload: Workload, kv: str | None
) -> tuple[Aggregated, list[Misfit]]:
    """Every aggregated worker of at most ``gpus`` GPUs at every concurrency and token budget."""
    variants: list[Variant] = []
    grids, misfits = [], []
    for spec in specs:
        for parallel in layouts(platform, spec, gpus):
            variant = variant_of(platform, spec, parallel, kv, workload.isl)
            grid = _operating(variant, workload)
            if grid is None:
                misfits.append(_misfit(variant, workload))
            else:
                grids.append(grid)
                variants.append(variant)
    owner = _joined([np.full(len(grid[0]), float(i)) for i, grid in enumerate(grids)])
    lanes = np.array([float(v.parallel.dp * v.parallel.pp) for v in variants])
    index = owner.astype(np.intp)
    lane = _joined([grid[0] for grid in grids]) / lanes[index] if grids else owner
    arrivals = arrivals_per_iteration(workload, lane, _joined([grid[1] for grid in grids]))
    ends = np.cumsum([len(grid[0]) for grid in grids])
    parts = [
        aggregated(
            v.step,
            workload,
            *grid,
            arrivals[end - len(grid[0]) : end],
        )
        for v, grid, end in zip(variants, grids, ends, strict=True)
    ]
    return Aggregated(variants, index, _join_points(parts)), misfits


def _operating(variant: Variant, workload: Workload) -> tuple[Array, Array] | None:
    """Concurrency (whole worker) and token budget of each point that fits in memory."""
    per_rank = variant.parallel.dp
    found_c, found_b = [], []
    for budget in token_budgets(variant.platform, variant.parallel.dp):
        # One rank's cache is shared by the micro-batches of its pipeline.
        most = min(most_sequences(variant, budget, workload), budget * variant.parallel.pp)
        rank = concurrencies(most)
        found_c.append(rank * per_rank)
        found_b.append(np.full(len(rank), float(budget)))
    concurrency = np.concatenate(found_c)
    return (concurrency, np.concatenate(found_b)) if len(concurrency) else None


def most_sequences(
    variant: Variant, budget: int, workload: Workload, spare: float = TIGHT
) -> float:
    """Sequences of one attention rank that fit beside what the engine keeps for that many.

    ``spare``: share of the GPU's memory that shall stay empty.

    Samplers and CUDA graphs grow with the engine's limit of sequences, which a deployment sets
    to its batch: above the default limit, memory is divided anew. ``held`` falls slowly with
    the limit, so each second value of the iteration is too low, and closer than the last.
    """
    platform, gpu = variant.platform, variant.platform.system.gpu
    drafts = variant.speculation.drafts if variant.speculation else 0

    def held(limit: int) -> float:
        room = platform.capacity(
            variant.spec, variant.parallel, token_budget=budget, max_sequences=limit,
            kv_dtype=variant.kv_dtype, drafting=drafts > 0,
            longest=workload.isl + workload.osl,
        )  # fmt: skip
        # Drafts that are not kept take room in the cache until they are found out.
        return room.sequences(workload.isl + drafts, workload.osl, spare * room.total)

    low = platform.traits.max_sequences(gpu.memory_bytes, gpu.sm)
    most = held(low)
    if most <= low:
        return most
    for _ in range(3):
        before, most = most, held(max(int(most), 1))
        if 0.99 * before <= most <= before:
            break
    return most


def _misfit(variant: Variant, workload: Workload) -> Misfit:
    budget = token_budgets(variant.platform, variant.parallel.dp)[0]
    room = variant.platform.capacity(
        variant.spec, variant.parallel, token_budget=budget, max_sequences=1,
        kv_dtype=variant.kv_dtype, longest=workload.isl + workload.osl,
    )  # fmt: skip
    need = float(room.sequence_bytes(workload.isl + workload.osl))
    need += TIGHT * room.total
    return Misfit(variant.parallel, room.total - room.lasting + need, room.total)


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0)


def _join_points(parts: list[Points]) -> Points:
    names = Points.__dataclass_fields__
    return Points(**{name: _joined([getattr(part, name) for part in parts]) for name in names})


def _apart(platform: Platform, spec: ModelSpec, gpus: int) -> list[Parallel]:
    """Layouts of one side of a disaggregated deployment."""
    every = layouts(platform, spec, gpus)
    return [one for one in every if platform.traits.allows_apart(one, one) is None]


def prefill_workers(
    platform: Platform, specs: list[ModelSpec], gpus: int, workload: Workload, kv: str | None
) -> Prefill:
    """Every prefill worker: layouts by prompts at once (as many as the token budget takes)."""
    variants: list[Variant] = []
    rows = []
    for spec in specs:
        for parallel in _apart(platform, spec, gpus):
            variant = variant_of(platform, spec, parallel, kv, workload.isl)
            step = variant.step
            batch, budgets = _prompt_batches(variant, workload)
            if not len(batch):
                continue
            seconds = PromptTime(step, workload, budgets).seconds(batch)
            rate = batch * parallel.dp / seconds * in_flight(parallel.pp, workload, budgets)
            index = np.full(len(batch), float(len(variants)))
            used = np.full(len(batch), float(parallel.gpus))
            rows.append((index, used, batch, budgets, seconds, rate))
            variants.append(variant)
    columns = [_joined([row[i] for row in rows]) for i in range(6)]
    return Prefill(variants, columns[0].astype(np.intp), *columns[1:])


def _prompt_batches(variant: Variant, workload: Workload) -> tuple[Array, Array]:
    """Prompts at once per rank, and token budgets: what the budget and the KV cache take."""
    batches, budgets = [], []
    for budget in token_budgets(variant.platform, variant.parallel.dp):
        room = variant.platform.capacity(
            variant.spec, variant.parallel, token_budget=budget, max_sequences=1,
            kv_dtype=variant.kv_dtype, longest=workload.isl + workload.osl,
        )  # fmt: skip
        # Prompts of every stage of a pipeline are in the cache at once.
        prompt = float(room.sequence_bytes(workload.isl + 1)) * variant.parallel.pp
        held = int((room.lasting - TIGHT * room.total) / prompt)
        most = min(max(budget // workload.new_tokens, 1), held)
        if most >= 1:
            batches.append(prompt_counts(most))
            budgets.append(np.full(len(batches[-1]), float(budget)))
    return _joined(batches), _joined(budgets)


def decode_workers(
    platform: Platform, specs: list[ModelSpec], gpus: int, workload: Workload, kv: str | None
) -> Decode:
    """Every decode worker at every batch size that its KV cache holds."""
    variants: list[Variant] = []
    rows = []
    for spec in specs:
        for parallel in _apart(platform, spec, gpus):
            variant = variant_of(platform, spec, parallel, kv, workload.isl)
            budget = platform.token_budget(parallel.dp)
            batch = concurrencies(min(most_sequences(variant, budget, workload), _MOST_DECODES))
            if not len(batch):
                continue
            step = variant.step
            lane = batch / parallel.pp
            tpot = step.seconds(
                Batch.of(decode=np.maximum(lane, 1.0), context=workload.mean_context)
            )
            rate = batch * parallel.dp / (tpot * max(workload.osl - 1, 1))
            index = np.full(len(batch), float(len(variants)))
            rows.append((index, np.full(len(batch), float(parallel.gpus)), batch, tpot, rate))
            variants.append(variant)
    columns = [_joined([row[i] for row in rows]) for i in range(5)]
    return Decode(variants, columns[0].astype(np.intp), *columns[1:])
