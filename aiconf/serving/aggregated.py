"""Closed form of an aggregated engine in steady state under a closed loop of requests.

``concurrency`` requests are always in flight; each finished one is replaced at once. Two
schedulers exist. *mixed* (vLLM, TensorRT-LLM): an iteration carries the running decodes and
prompt tokens up to the token budget. *prefill first* (SGLang): waiting prompts take an
iteration of their own and the decodes stall. The replay in ``simulate`` is the reference that
this is an approximation of. With drafts a request decodes in fewer iterations, each of which
computes more tokens of it.
"""

from __future__ import annotations

import numpy as np

from aiconf.engine.batch import Batch
from aiconf.engine.drafting import Step, decode_iterations, verified
from aiconf.engine.stages import chunk_share
from aiconf.serving.point import Array, Points, busiest
from aiconf.serving.prompt import PromptTime
from aiconf.workload import Workload

# Decode batches whose time is tabulated for the prefill-first policy.
_SIZES: Array = np.unique(np.round(np.geomspace(1.0, 16384.0, 120)))

_BISECTIONS = 20  # a millionth of the range
_ROUNDS = 10  # of the fixed point below; it contracts by half or better per round


def aggregated(
    step: Step,
    workload: Workload,
    concurrency: Array,
    token_budget: Array,
    arrivals: Array | None = None,
) -> Points:
    """Steady states for arrays of ``concurrency`` (whole worker) and ``token_budget`` (a rank).

    arrivals: ``arrivals_per_iteration`` of these points, where it was solved for many engines
    at once; only the mixed policy uses it.
    """
    if step.traits.scheduler.policy != "mixed":
        return _prefill_first(step, workload, concurrency, token_budget)
    if arrivals is None:
        lane = concurrency / _lanes(step)
        decodes = decode_iterations(step, workload.osl - 1)
        arrivals = arrivals_per_iteration(workload, lane, token_budget, decodes, verified(step))
    return _mixed(step, workload, concurrency, token_budget, arrivals)


def _lanes(step: Step) -> float:
    """Independent batches in flight: attention ranks, and micro-batches of a pipeline."""
    return float(step.parallel.dp * step.parallel.pp)


def arrivals_per_iteration(
    workload: Workload, lane: Array, budget: Array, decodes: float | None = None, each: int = 1
) -> Array:
    """Requests that arrive per iteration of the mixed policy, solved without any time.

    ``lane`` requests are in flight per rank and micro-batch. A request takes its prompt's
    iterations, then ``decodes`` (None: osl - 1) more of ``each`` tokens. At most ``budget`` tokens
    are computed per iteration, so a (new_tokens + decodes each) <= budget bounds the arrivals a.
    """
    prompt = float(workload.new_tokens)
    decodes = float(workload.osl - 1) if decodes is None else decodes
    # Requests in flight grow with the arrivals and without bound towards the budget, so the
    # arrivals that belong to ``lane`` requests are found by bisection.
    low = np.zeros(lane.shape)
    high = np.minimum(budget / (prompt + decodes * each), lane / (decodes + 1.0))
    others = np.maximum(1.0 - 1.0 / np.maximum(lane, 1.0), 0.0)
    for _ in range(_BISECTIONS):
        arrivals = 0.5 * (low + high)
        room = np.maximum(budget - arrivals * decodes * each, 1.0)
        chunks = prompt / room  # iterations of a prompt; its last one may be shared
        load = np.minimum(arrivals * chunks, 1.0 - 1e-9)
        wait = load * chunks / (2.0 * (1.0 - load)) * others
        above = arrivals * (decodes + np.maximum(chunks, 1.0) + wait) > lane
        high = np.where(above, arrivals, high)
        low = np.where(above, low, arrivals)
    return 0.5 * (low + high)


def _any_of(lane: Array, arrivals: Array, ranks: int = 1) -> Array:
    """Probability that any request arrives within an iteration, on any of ``ranks`` ranks.

    Each of the ``lane`` requests of a rank arrives with probability arrivals / lane.
    """
    requests = np.maximum(lane, 1.0)
    none: Array = (1.0 - np.minimum(arrivals / requests, 1.0)) ** (requests * ranks)
    return 1.0 - none


def _mixed(
    step: Step, workload: Workload, concurrency: Array, budget: Array, arrivals: Array
) -> Points:
    """Iteration by iteration, with ``arrivals`` per iteration and rank."""
    dp = step.parallel.dp
    prompt, decodes = float(workload.new_tokens), decode_iterations(step, workload.osl - 1)
    lane = concurrency / _lanes(step)
    decoding = arrivals * decodes
    room = np.maximum(budget - decoding * verified(step), 1.0)
    own = np.maximum(np.ceil(prompt / room), 1.0)
    wait = np.maximum(lane / arrivals - decodes - np.maximum(prompt / room, 1.0), 0.0)

    mixed = np.clip(np.maximum(_any_of(lane, arrivals), arrivals * prompt / room), 0.0, 1.0)
    anywhere = 1.0 - (1.0 - mixed) ** dp  # some rank of the group has a prompt
    every = dp * arrivals * prompt / np.maximum(anywhere, 1e-12)  # of all ranks, where any has some
    tokens = np.minimum(every if dp == 1 else busiest(arrivals, dp) * prompt, room)
    sequences = np.maximum(tokens / prompt, 1.0)
    past = workload.prefix + np.maximum(prompt - room, 0.0) / 2.0
    beside = np.maximum(decoding, 1.0) if decodes else decoding
    prompts = Batch.of(
        prefill_tokens=tokens,
        prefill_sequences=sequences,
        prefill_past=past,
        prefill_ranks=np.maximum(every / tokens, 1.0),
        # the request that is in prefill is not decoding beside itself
        decode=np.minimum(decoding, np.maximum(lane - sequences, 0.0)),
        context=workload.mean_context,
        images=workload.images_in(tokens),
        patches=workload.patches,
    )
    decodings = Batch.of(decode=beside, context=workload.mean_context)
    with_prompt, only_decode = np.split(step.seconds(Batch.joined(prompts, decodings)), 2)
    # A decoding sequence never shares its own prompt's iterations: with one request in flight
    # no token is delayed by a prompt.
    delayed = anywhere * _others(concurrency)
    cycle = delayed * with_prompt + (1.0 - delayed) * only_decode
    mean = anywhere * with_prompt + (1.0 - anywhere) * only_decode
    busy = anywhere * with_prompt / mean * _others(concurrency)
    first = with_prompt * (1.0 + (own - 1.0) * chunk_share(step.parallel.pp, busy))
    aligned = np.where(concurrency > 1, 0.5 * mean, 0.0)
    ttft = aligned + wait * mean + first + step.traits.host.outside(workload.isl)
    rate = concurrency / (ttft + decodes * cycle)
    load = arrivals * (prompt + decodes * verified(step)) / budget
    return Points(
        concurrency, budget, ttft, _per_token(cycle, decodes, workload), rate, decoding, anywhere,
        tokens, prompts.prefill_ranks, past, load,
    )  # fmt: skip


def _others(concurrency: Array) -> Array:
    """Share of the requests in flight that are not one's own."""
    return 1.0 - 1.0 / np.maximum(concurrency, 1.0)


def _per_token(cycle: Array, decodes: float, workload: Workload) -> Array:
    """Seconds per output token of requests whose ``decodes`` iterations take ``cycle`` each."""
    return cycle * (decodes / (workload.osl - 1)) if decodes else np.full_like(cycle, np.nan)


def _prefill_first(
    step: Step, workload: Workload, concurrency: Array, budget: Array
) -> Points:
    """Cycle by cycle: one decode iteration, after it the prompts that have arrived meanwhile."""
    dp = step.parallel.dp
    decodes = decode_iterations(step, workload.osl - 1)
    lane = concurrency / _lanes(step)
    others, stages = _others(concurrency), step.parallel.pp
    prompts = PromptTime(step, workload, budget)
    sizes = _SIZES
    decode_time = step.seconds(Batch.of(decode=sizes, context=workload.mean_context))
    if not decodes:
        decode_time = np.zeros_like(decode_time)
    single = prompts.seconds(np.ones_like(lane), np.ones_like(lane))
    decoding = lane.copy()
    cycle = np.interp(decoding, sizes, decode_time) if decodes else single
    rate = lane / (decodes * cycle + single)
    busy = np.zeros_like(lane)
    for _ in range(_ROUNDS):
        decode = np.interp(decoding, sizes, decode_time)
        each = rate * cycle  # prompts that arrive per cycle and rank
        some = _any_of(lane, each, dp)
        batch = each / np.maximum(some, 1e-12) if dp == 1 else busiest(each, dp)
        batch = np.clip(batch, 1.0, np.maximum(lane, 1.0))
        ranks = each * dp / np.maximum(some, 1e-12) / batch
        prefill = prompts.seconds(batch, ranks, chunk_share(stages, busy * others))
        cycle = 0.5 * (cycle + decode + some * prefill)
        waiting = 0.5 * (decode * decode + some * prefill * prefill) / cycle
        waiting = np.where(concurrency > 1, waiting, 0.0)
        ttft = waiting + prefill + step.traits.host.outside(workload.isl)
        rate = 0.5 * (rate + lane / (decodes * cycle + ttft))
        decoding = np.minimum(rate * decodes * cycle, lane)
        busy = np.minimum(some * prefill / cycle, 1.0)
    own_cycle = decode + some * prefill * others if decodes else np.zeros_like(cycle)
    tpot = _per_token(own_cycle, decodes, workload)
    rate = lane / (decodes * own_cycle + ttft) * _lanes(step)
    tokens = np.minimum(batch * workload.new_tokens, budget)
    own = np.ceil(workload.new_tokens / budget)
    past = workload.prefix + (own - 1.0) / 2.0 * np.minimum(workload.new_tokens, budget)
    return Points(concurrency, budget, ttft, tpot, rate, decoding, some, tokens, ranks, past, busy)
