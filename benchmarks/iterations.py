"""Measured forward passes: reading the files, and the batch of every iteration.

A folder holds one sub-folder per configuration: ``fpm_metrics.csv.gz`` (prompt tokens, decoding
sequences and milliseconds of each iteration, in order), the settings beside it, and where it was
kept ``fpm_metrics_phase.csv`` (or ``.gz``), the same iterations with their prompts, the tokens
cached before them and the cached tokens of the decoding sequences. Where only the first is there,
lengths are followed through the iterations (see ``_followed``).

Latency is the interval between two outputs of the scheduler (ai-dynamo/dynamo,
components/src/dynamo/vllm/instrumented_scheduler.py): all of the iteration, host included.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.batch import Batch
from aiconf.parallel import Parallel

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "steps"
MODELS = {"fpm_upfront_qwen32": "Qwen/Qwen3-32B"}  # folder's beginning: checkpoint (bf16)
SYSTEM, BACKEND = "b300_sxm", "vllm"
BUDGET = 8192  # tokens of an iteration: the largest that were run, whatever the settings say
TYPICAL_PROMPT = 4096  # tokens; of the sweeps, and the mean of the workload
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Iterations:
    """One configuration. milliseconds: measured; exact: lengths are recorded, not followed."""

    model: str
    parallel: Parallel
    batch: Batch
    milliseconds: Array
    exact: bool

    @property
    def kind(self) -> NDArray[np.str_]:
        """``decode``, ``prefill`` or ``mixed`` of each iteration."""
        prompt, decode = self.batch.prefill_tokens > 0, self.batch.decode > 0
        return np.where(prompt & decode, "mixed", np.where(prompt, "prefill", "decode"))

    @property
    def regular(self) -> NDArray[np.bool_]:
        """Whether an interval can be that of its own iteration.

        Two outputs that arrive together leave one interval of two iterations and one of none; a
        request's arrival holds the host for milliseconds just before its first iteration; so an
        interval that is 1.2 times the median of its eight neighbours of the same batch or more,
        or 0.8 times or less, is set aside.
        """
        prompt, decode = self.batch.prefill_tokens, self.batch.decode
        usual = np.ones(len(prompt), dtype=bool)
        for tokens, sequences in {*zip(prompt.tolist(), decode.tolist(), strict=True)}:
            own = np.flatnonzero((prompt == tokens) & (decode == sequences))
            time = self.milliseconds[own]
            near = [np.median(time[max(i - 4, 0) : i + 5]) for i in range(len(own))]
            usual[own] = (time < 1.2 * np.array(near)) & (time > 0.8 * np.array(near))
        return usual & (self.milliseconds > _least(prompt))


def _least(prompt: Array) -> Array:
    """Milliseconds below which no prompt was ever computed: it belongs to its neighbour."""
    return np.where(prompt > 4000, 25.0, 0.0)


def iterations(folder: Path = FOLDER) -> Iterator[Iterations]:
    """Read every configuration of a known model, sorted by its folder."""
    for start, model in MODELS.items():
        for place in sorted(folder.glob(f"{start}*/*")):
            sizes = re.match(r"tp(\d+)_ep1", place.name)
            if sizes:
                yield _read(place, model, Parallel(tp=int(sizes[1])))


def _read(place: Path, model: str, parallel: Parallel) -> Iterations:
    for name in ("fpm_metrics_phase.csv", "fpm_metrics_phase.csv.gz"):
        if (place / name).exists():
            table = _columns(place / name)
            rows = (table["ctx_tokens"] + table["decode_requests"]) > 0
            table = {key: column[rows] for key, column in table.items()}
            prompts = np.maximum(table["ctx_requests"], 1.0)
            decode = table["decode_requests"]
            batch = Batch.of(
                prefill_tokens=table["ctx_tokens"],
                prefill_sequences=prompts,
                prefill_past=table["ctx_kv_tokens"] / prompts,
                decode=decode,
                context=table["decode_kv_tokens"] / np.maximum(decode, 1.0),
            )
            return Iterations(model, parallel, batch, table["latency_ms"], True)
    table = _columns(place / "fpm_metrics.csv.gz")
    prompt, decode = table["num_context_tokens"], table["num_decode_tokens"]
    past, context = _followed(prompt, decode)
    batch = Batch.of(prefill_tokens=prompt, prefill_past=past, decode=decode, context=context)
    return Iterations(model, parallel, batch, table["latency_ms"], False)


def _columns(path: Path) -> dict[str, Array]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [key for key in rows[0] if key not in ("phase", "workload_segment", "worker_id")]
    return {key: np.array([float(row[key]) for row in rows]) for key in numbers}


def _followed(prompt: Array, decode: Array) -> tuple[Array, Array]:
    """Cached tokens before each chunk, and the mean of those that decode.

    A chunk that leaves room in the budget ends its prompts, which decode from the next iteration
    on; of one that fills it, those join that the next iteration shows. Whoever leaves takes the
    mean length along.
    """
    past, context = np.zeros(len(prompt)), np.ones(len(prompt))
    held, running, waiting, full = 0.0, 0.0, 0.0, False  # cached tokens, sequences, prompt tokens
    for i, (tokens, sequences) in enumerate(zip(prompt.tolist(), decode.tolist(), strict=True)):
        more = sequences - running
        if waiting:
            came = min(waiting, max(more, 0.0) * TYPICAL_PROMPT) if full else waiting
            count = max(more, 0.0) if full else max(more, 1.0)
            held, running, waiting = held + came, running + count, waiting - came
        if sequences < running:
            held *= sequences / running
        running = sequences
        context[i] = held / sequences if sequences else 1.0
        past[i] = waiting if tokens else 0.0
        held += sequences
        waiting = waiting + tokens if tokens else 0.0
        full = tokens + sequences >= BUDGET - 8
    return past, np.maximum(context, 1.0)
