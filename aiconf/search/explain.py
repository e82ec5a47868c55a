"""Why a candidate is as fast as it is: parts of its iterations, and where the times came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.curves import PARTS
from aiconf.engine.drafting import decode_iterations
from aiconf.engine.step import StepTime
from aiconf.perf.origin import Origin
from aiconf.search.request import Request
from aiconf.search.search import Found
from aiconf.search.workers import Variant
from aiconf.serving.aggregated import aggregated


@dataclass(frozen=True)
class Iteration:
    """One kind of iteration: its seconds, by part, and shares by origin (sum 1).

    share: part of all iterations of its worker that are of this kind. weight: what a request
    costs in iterations of this kind, in GPU-seconds up to a common factor.
    """

    name: str
    share: float
    weight: float
    seconds: float
    parts: dict[str, float]
    origins: dict[str, float]


def _iteration(name: str, share: float, time: StepTime, per_second: float = 1.0) -> Iteration:
    total = float(time.seconds[0])
    return Iteration(
        name,
        share,
        share * total * per_second,
        total,
        {
            part: float(value)
            for part, value in zip(PARTS, time.by_part[:, 0], strict=True)
            if value > 0 or part != "vision"
        },
        {kind.name.lower(): float(time.by_origin[kind, 0]) / total for kind in Origin},
    )


def explain(request: Request, found: Found) -> list[Iteration]:
    """Iterations of a candidate: decode and mixed ones, or decode and prefill."""
    before = found.prefill_variant
    return _aggregated(request, found) if before is None else _disaggregated(request, found, before)


def _aggregated(request: Request, found: Found) -> list[Iteration]:
    variant, work = found.variant, request.workload
    step = variant.step
    budget = found.value("token_budget")
    point = aggregated(step, work, np.array([found.value("batch")]), np.array([budget]))
    decoding, tokens = float(point.decoding[0]), float(point.prompt_tokens[0])
    mixed = float(point.mixed[0])
    prompts = max(tokens / work.new_tokens, 1.0)
    lane = found.value("batch") / (variant.parallel.dp * variant.parallel.pp)
    together = step.traits.scheduler.policy == "mixed"
    beside = min(decoding, max(lane - prompts, 0.0)) if together else 0.0
    with_prompt = Batch.of(
        prefill_tokens=tokens,
        prefill_sequences=prompts,
        prefill_past=float(point.prompt_past[0]),
        prefill_ranks=float(point.prompt_ranks[0]),
        decode=beside,
        context=work.mean_context,
        images=work.images_in(np.array([tokens])),
        patches=work.patches,
    )
    name = "prefill + decode" if together and work.osl > 1 else "prefill"
    found_iterations = [_iteration(name, mixed, step.time(with_prompt))]
    if work.osl > 1:
        alone = Batch.of(decode=max(decoding, 1.0), context=work.mean_context)
        found_iterations.insert(0, _iteration("decode", 1.0 - mixed, step.time(alone)))
    return found_iterations


def _disaggregated(request: Request, found: Found, before: Variant) -> list[Iteration]:
    work, after = request.workload, found.variant
    lane = found.value("batch") / (after.parallel.dp * after.parallel.pp)
    decode = after.step
    prompts = found.value("prefill_batch") / before.parallel.dp
    budget = found.value("prefill_token_budget")
    rounds = np.ceil(prompts * work.new_tokens / budget)
    chunk = prompts * work.new_tokens / rounds
    prefill = before.step
    return [
        _iteration(
            "decode",
            1.0,
            decode.time(Batch.of(decode=max(lane, 1.0), context=work.mean_context)),
            decode_iterations(decode, work.osl - 1) * after.parallel.gpus / found.value("batch"),
        ),
        _iteration(
            "prefill",
            1.0,
            prefill.time(
                Batch.of(
                    prefill_tokens=chunk,
                    prefill_sequences=max(chunk / work.new_tokens, 1.0),
                    prefill_past=work.prefix + (rounds - 1) / 2 * chunk,
                    prefill_ranks=before.parallel.dp,
                    images=work.images_in(np.atleast_1d(chunk)),
                    patches=work.patches,
                )
            ),
            rounds * before.parallel.gpus / found.value("prefill_batch"),
        ),
    ]


def origins(iterations: list[Iteration]) -> dict[str, float]:
    """Shares of the time by origin, over the iterations weighted by what a request costs."""
    total = sum(iteration.weight for iteration in iterations)
    kinds = [kind.name.lower() for kind in Origin]
    return {k: sum(i.weight * i.origins[k] for i in iterations) / total for k in kinds}
