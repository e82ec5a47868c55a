"""The profile that Dynamo's planner starts from: how fast one worker prefills and decodes.

Dynamo's profiler measures it on real GPUs (dynamo/profiler/utils/profile_prefill.py and
profile_decode.py of ai-dynamo 1.6.1); here the same grid is predicted. A prefill point is one
prompt on an idle worker; a decode point is a steady batch of equally long requests.
"""

from __future__ import annotations

import io
import json
import textwrap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.batch import Batch
from aiconf.engine.engine import Platform
from aiconf.errors import UserError
from aiconf.model.spec import ModelSpec
from aiconf.serving.plan import Plan, Worker
from aiconf.serving.prompt import PromptTime
from aiconf.units import to_ms
from aiconf.workload import Workload

Array = NDArray[np.float64]

PREFILL_FOLDER = "selected_prefill_interpolation"
DECODE_FOLDER = "selected_decode_interpolation"
RAW = "raw_data.npz"
PREFILL_JSON = "prefill_raw_data.json"
DECODE_JSON = "decode_raw_data.json"

# The profiler's own grid: defaults of its two granularities, its shortest prompt, the room that
# it leaves for chat templates, and the output over which it takes a decode point.
_PREFILL_POINTS, _DECODE_POINTS = 16, 6
_SHORTEST, _TEMPLATE, _OUTPUT = 100, 512, 500
_DIGITS = 7  # significant; more would only write down float noise


@dataclass(frozen=True)
class PrefillProfile:
    """One prompt of ``isl`` tokens: mean TTFT in ms, and prompt tokens/s/GPU."""

    isl: NDArray[np.int64]
    ttft: Array
    thpt_per_gpu: Array

    def arrays(self) -> dict[str, NDArray[np.int64] | Array]:
        """Return the arrays under the names that the planner reads."""
        return {
            "prefill_isl": self.isl,
            "prefill_ttft": self.ttft,
            "prefill_thpt_per_gpu": self.thpt_per_gpu,
        }


@dataclass(frozen=True)
class DecodeProfile:
    """Steady batches: share of the KV cache in use (0 to 1), mean context in tokens, time per
    output token in ms, output tokens/s/GPU; and the tokens that the cache of a worker holds."""

    kv_usage: Array
    context: Array
    itl: Array
    thpt_per_gpu: Array
    max_kv_tokens: int

    def arrays(self) -> dict[str, NDArray[np.int64] | Array]:
        """Return the arrays under the names that the planner reads."""
        return {
            "x_kv_usage": self.kv_usage,
            "y_context_length": self.context,
            "z_itl": self.itl,
            "z_thpt_per_gpu": self.thpt_per_gpu,
            "max_kv_tokens": np.array([self.max_kv_tokens], dtype=np.int64),
        }


def prefill_profile(plan: Plan, worker: Worker, place: Platform) -> PrefillProfile:
    """Predict prompts of growing length, one at a time on each attention rank.

    Raises
    ------
    UserError
        The worker serves too short requests for a profile.
    """
    # In short contexts the room for a template shrinks with them.
    longest = worker.max_model_len - min(_TEMPLATE, worker.max_model_len // 4)
    isl = _steps(longest, _PREFILL_POINTS, worker)
    step = place.step(plan.model, worker.parallel, worker.kv_dtype)
    budget, one = np.array([float(worker.token_budget)]), np.ones(1)
    seconds = np.array(
        [
            float(PromptTime(step, Workload(int(tokens), 1), budget).seconds(one)[0])
            + place.traits.host.outside(int(tokens))
            for tokens in isl
        ]
    )
    rate = isl * worker.parallel.dp / seconds / worker.parallel.gpus
    return PrefillProfile(isl, _rounded(np.asarray(to_ms(seconds))), _rounded(rate))


def decode_profile(plan: Plan, worker: Worker, place: Platform) -> DecodeProfile:
    """Predict decode batches from one request to a full KV cache, at growing contexts.

    Raises
    ------
    UserError
        The worker serves too short requests for a profile, or its cache holds none of them.
    """
    layout, spec = worker.parallel, plan.model
    output = min(_OUTPUT, worker.max_model_len // 4)
    held = kv_tokens(spec, worker, place)
    step = place.step(spec, layout, worker.kv_dtype)
    batches: list[float] = []
    contexts: list[float] = []
    for prompt in _steps(worker.max_model_len - output, _DECODE_POINTS, worker):
        most = min(held // (int(prompt) + output), worker.max_sequences)
        sizes = _requests(most, layout.dp)
        batches += sizes
        contexts += [float(prompt) + output / 2.0] * len(sizes)
    if not batches:
        raise UserError(f"the KV cache of a {worker.role} worker holds no request: no profile")
    batch, context = np.array(batches), np.array(contexts)
    lane = np.maximum(batch / (layout.dp * layout.pp), 1.0)
    seconds = step.seconds(Batch.of(decode=lane, context=context))
    return DecodeProfile(
        kv_usage=_rounded(context * batch / held),
        context=context,
        itl=_rounded(np.asarray(to_ms(seconds))),
        thpt_per_gpu=_rounded(batch / seconds / layout.gpus),
        max_kv_tokens=held,
    )


def kv_tokens(spec: ModelSpec, worker: Worker, place: Platform) -> int:
    """Return the tokens that the KV cache of a whole worker holds, at its longest request."""
    per_rank = max(-(-worker.max_sequences // worker.parallel.dp), 1)
    room = place.capacity(
        spec, worker.parallel, token_budget=worker.token_budget, max_sequences=per_rank,
        kv_dtype=worker.kv_dtype, fraction=worker.memory_fraction,
        longest=worker.max_model_len,
    )  # fmt: skip
    each = float(room.sequence_bytes(worker.max_model_len)) / worker.max_model_len
    return max(int(room.lasting / each), 0) * worker.parallel.dp


def files(prefill: PrefillProfile, decode: DecodeProfile) -> dict[str, bytes]:
    """Return the folder that the profiler would have left, by path inside it."""
    return {
        f"{PREFILL_FOLDER}/{RAW}": _npz(prefill.arrays()),
        f"{DECODE_FOLDER}/{RAW}": _npz(decode.arrays()),
    }


def texts(prefill: PrefillProfile, decode: DecodeProfile) -> dict[str, str]:
    """Return the same as JSON, which fits a ConfigMap; the planner reads either form."""
    last = {**_lists(decode.arrays()), "max_kv_tokens": decode.max_kv_tokens}
    return {PREFILL_JSON: _json(_lists(prefill.arrays())), DECODE_JSON: _json(last)}


def _json(values: object) -> str:
    """Return JSON in lines that a person can scroll over."""
    return textwrap.fill(json.dumps(values), 96, break_on_hyphens=False) + "\n"


def _lists(arrays: dict[str, NDArray[np.int64] | Array]) -> dict[str, object]:
    return {name: values.tolist() for name, values in arrays.items()}


def _npz(arrays: dict[str, NDArray[np.int64] | Array]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _steps(longest: int, points: int, worker: Worker) -> NDArray[np.int64]:
    """Prompt lengths from the shortest one on, ``points`` steps up to ``longest``."""
    if longest <= _SHORTEST + points:
        raise UserError(
            f"{worker.role} workers serve {worker.max_model_len} tokens at most: too few for "
            "the planner's profile"
        )
    return np.arange(_SHORTEST, longest, max((longest - _SHORTEST) // points, 1), dtype=np.int64)


def _requests(most: int, ranks: int) -> list[float]:
    """Batch sizes from one request per attention rank to ``most``, evenly spaced."""
    per_rank = most // ranks
    if per_rank < 1:
        return []
    spread = np.linspace(1.0, per_rank, min(_DECODE_POINTS, per_rank))
    return [float(size * ranks) for size in np.unique(np.round(spread))]


def _rounded(values: Array) -> Array:
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])
