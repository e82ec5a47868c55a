"""Iteration times for a replay: one number per call, from lists built once.

A replay asks for the time of one batch at a time, a million times over. ``StepModel`` is made
for arrays, so its curves are laid out here as plain lists: seconds by token count, decode
attention by batch size and context, prefill attention by the length of the equal causal prompt
(where tokens do not see all before them: by chunk and past), linear attention of prompts by
their number and tokens.
Between the points of a list times are linear, as they are between measured points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from aiconf.engine.batch import Array, Batch
from aiconf.engine.step import StepModel
from aiconf.workload import Images

_PROMPTS = (1, 2, 4, 8, 16, 32, 64)  # in one iteration; more are taken as the last
_PASTS = 129  # points of the past of a chunk: what a past adds bends where a choice begins
_CONTEXTS = 33  # points of the context axis: enough that decode attention is linear between


class IterationTimer:
    """Seconds of single iterations of one engine (all its attention ranks in step).

    most_tokens: tokens of one rank in an iteration at most; most_decode: sequences of one rank;
    longest: tokens of a context.

    draft, drafts: step model of the layer that drafts tokens and how many it drafts. Its first
    pass of an iteration takes the same tokens as the model, so that its times are added to the
    model's; each further pass takes one token of each sequence. images: of each request (None: no
    images).
    """

    def __init__(
        self,
        step: StepModel,
        most_tokens: int,
        most_decode: int,
        longest: int,
        draft: StepModel | None = None,
        drafts: int = 0,
        images: Images | None = None,
    ) -> None:
        self._dp = step.parallel.dp
        self._images = _encoding(step, images, most_tokens) if images else [0.0]
        self._graphs = step.graph_sizes
        self._each = each = drafts + 1
        steps = (step,) if draft is None else (step, draft)
        most_tokens = max(most_tokens, most_decode * each)
        ranks = np.arange(most_tokens + 1.0)
        self._rank = _summed(s.rank_seconds(ranks) for s in steps)
        sampled = np.arange(most_decode * each + 65.0)
        self._sampled = _summed(s.sampled_seconds(sampled) for s in steps)
        self._group_stride = max(1, most_tokens * self._dp // 16384)
        groups = np.arange(0.0, most_tokens * self._dp + self._group_stride, self._group_stride)
        self._group = _summed(s.group_seconds(groups) for s in steps)
        parts = [(s, each, 1) for s in steps]
        self._further = [0.0] * (most_decode + 1)
        if draft is not None and drafts > 1:
            parts.append((draft, 1, drafts - 1))
            self._further = _further_passes(draft, most_decode, drafts - 1)
        self._decode = _decode_attention(parts, most_decode, longest)
        self._stride = longest / (_CONTEXTS - 1)
        self._prompt, self._prompt_stride = _prompt_attention(steps, longest)
        self._past_stride = longest / (_PASTS - 1)
        plain = all(s.sees_all for s in steps)
        self._behind = [] if plain else _behind(steps, most_tokens, longest)
        lengths = np.arange(float(len(self._prompt))) * self._prompt_stride
        self._walk: list[float] = step.walk_seconds(lengths).tolist()
        self._scan_stride = max(1, most_tokens // 2048)
        self._scan = _prompt_scan(step, most_tokens, self._scan_stride) if step.scans else []
        self._padded = _padding(self._graphs, most_decode)
        self._host = step.traits.host
        self._launch = _summed(s.launch_seconds(ranks) for s in steps)
        self._waits = step.launching_waits
        self._exposed = step.exposed_seconds
        self._hidden = step.traits.asynchronous(step.parallel)

    def decode(self, sequences: int, context: float, everywhere: int) -> float:
        """Decode iteration: ``sequences`` on the busiest rank, ``everywhere`` on all ranks.

        context: mean cached tokens of the sequences of the busiest rank.
        """
        rows, each = self._padded[sequences], self._each
        group = everywhere if rows == sequences else rows * self._dp
        time = self._rank[rows * each] + self._groups(group * each) + self._sampled[rows * each]
        time += self._further[rows]
        return self._with_host(time + self.decode_attention(sequences, context), sequences)

    def mixed(
        self,
        tokens: int,
        everywhere: int,
        decode: int,
        context: float,
        prompt_attention: float,
        sampled: int,
    ) -> float:
        """Iteration with prompt tokens: ``tokens`` on the busiest rank in all.

        prompt_attention: that of the prompts together. sampled: tokens that a next one is
        sampled after.
        """
        time = self._rank[tokens] + self._groups(everywhere) + self._sampled[sampled]
        time += prompt_attention
        if self._scan:
            verified = decode * self._each
            time += self._prompt_scan(tokens - verified, sampled - verified)
        if decode:
            time += self.decode_attention(decode, context) + self._further[decode]
        time = self._with_host(time, sampled)
        return time + self._launch[tokens] if self._waits else max(time, self._launch[tokens])

    def encode(self, images: int) -> float:
        """Seconds that encoding so many images on the busiest rank adds to an iteration."""
        most = len(self._images) - 1
        if images <= most:
            return self._images[images]
        return self._images[most] * images / most

    def decode_attention(self, sequences: int, context: float) -> float:
        """Decode attention of all layers, linear between the points of the context axis."""
        row = self._decode[sequences]
        place = context / self._stride
        low = int(place)
        if low >= _CONTEXTS - 1:
            low = _CONTEXTS - 2
        return row[low] + (row[low + 1] - row[low]) * (place - low)

    def prompt_attention(self, chunk: int, past: int) -> float:
        """Prefill attention of all layers for one chunk behind ``past`` tokens."""
        if self._behind:
            return self._at(self._prompt, chunk) + self._added(chunk, past)
        time = self._at(self._prompt, math.sqrt(chunk * (chunk + 2.0 * past)))
        return max(time, self._at(self._walk, chunk + past)) if past and chunk > 1 else time

    def _added(self, chunk: int, past: int) -> float:
        """What ``past`` adds to the attention of a chunk, linear between the points of both."""
        if not past:
            return 0.0
        row = chunk.bit_length() - 1
        below, above = self._behind[row], self._behind[row + 1]
        place = past / self._past_stride
        low = min(int(place), _PASTS - 2)
        share, more = place - low, chunk / (1 << row) - 1.0
        least = below[low] + (below[low + 1] - below[low]) * share
        most = above[low] + (above[low + 1] - above[low]) * share
        return least + (most - least) * more

    def _at(self, values: list[float], length: float) -> float:
        place = length / self._prompt_stride
        low = min(int(place), len(values) - 2)
        return values[low] + (values[low + 1] - values[low]) * (place - low)

    @property
    def prompt_floor(self) -> float:
        """Prefill attention of the shortest prompt: what several prompts share once."""
        return self._prompt[0]

    def _prompt_scan(self, tokens: int, prompts: int) -> float:
        row = self._scan[min(max(prompts, 1).bit_length(), len(_PROMPTS)) - 1]
        place = tokens / self._scan_stride
        low = int(place)
        return row[low] + (row[low + 1] - row[low]) * (place - low)

    def _groups(self, tokens: int) -> float:
        place = tokens / self._group_stride
        low = int(place)
        return self._group[low] + (self._group[low + 1] - self._group[low]) * (place - low)

    def _with_host(self, gpu: float, running: int) -> float:
        host = self._host.seconds_per_iteration + self._host.seconds_per_sequence * running
        time = max(gpu, host) if self._hidden else gpu + host
        return time + self._exposed


def _summed(parts: Iterable[Array]) -> list[float]:
    found: list[float] = sum(parts, np.zeros(1)).tolist()
    return found


def _encoding(step: StepModel, images: Images, most_tokens: int) -> list[float]:
    """Seconds to encode 0, 1, 2, ... images, as many as an iteration has tokens for."""
    counts = np.arange(most_tokens // max(images.tokens, 1) + 2.0)
    found: list[float] = step.image_seconds(counts, np.full(len(counts), images.patches)).tolist()
    return found


def _further_passes(draft: StepModel, most: int, passes: int) -> list[float]:
    """Seconds of ``passes`` of the draft layer, without attention, by sequences of a rank."""
    rows = np.arange(most + 1.0)
    each = draft.rank_seconds(rows) + draft.group_seconds(rows * draft.parallel.dp)
    found: list[float] = (passes * (each + draft.sampled_seconds(rows))).tolist()
    return found


def _decode_attention(
    parts: Sequence[tuple[StepModel, int, int]], most: int, longest: int
) -> list[list[float]]:
    """Rows by batch size (0 to ``most``), columns by context.

    parts: step models, tokens of each sequence in a pass of theirs, and their passes.
    """
    contexts = np.linspace(0.0, longest, _CONTEXTS)
    sizes = np.unique(np.concatenate([np.arange(1.0, 65.0), np.geomspace(64.0, most, 48)]))
    sizes = np.unique(np.round(sizes[sizes <= most]))
    n, c = (grid.ravel() for grid in np.meshgrid(sizes, contexts, indexing="ij"))
    known = np.zeros(len(n))
    for step, each, passes in parts:
        batch = Batch.of(decode=n, context=np.maximum(c, 1.0), drafted=each)
        known = known + passes * step.attention_seconds(batch)
    table = known.reshape(len(sizes), _CONTEXTS)
    every: Array = np.array(
        [np.interp(np.arange(most + 1.0), sizes, table[:, i]) for i in range(_CONTEXTS)]
    )
    rows: list[list[float]] = every.T.tolist()
    return rows


def _prompt_attention(steps: Sequence[StepModel], longest: int) -> tuple[list[float], float]:
    """Attention of one causal prompt by its length, evenly spaced."""
    stride = max(longest / 2048.0, 1.0)
    lengths = np.arange(0.0, longest + 2 * stride, stride)
    lengths[0] = 1.0
    batch = Batch.of(prefill_tokens=lengths)
    return _summed(step.attention_seconds(batch) for step in steps), stride


def _behind(steps: Sequence[StepModel], most: int, longest: int) -> list[list[float]]:
    """What a past adds to the attention of a chunk, by chunks of 1, 2, 4, ... and by past."""
    chunks = 2.0 ** np.arange(most.bit_length() + 1)
    past = np.linspace(0.0, longest, _PASTS)
    chunk, behind = (axis.ravel() for axis in np.meshgrid(chunks, past, indexing="ij"))
    batch = Batch.of(prefill_tokens=chunk, prefill_past=behind)
    total = np.array(_summed(step.attention_seconds(batch) for step in steps))
    grid = total.reshape(len(chunks), _PASTS)
    found: list[list[float]] = (grid - grid[:, :1]).tolist()
    return found


def _prompt_scan(step: StepModel, most: int, stride: int) -> list[list[float]]:
    """Linear attention by number of prompts (``_PROMPTS``) and their tokens, evenly spaced."""
    tokens = np.arange(0.0, most + 2.0 * stride, stride)
    rows: list[list[float]] = [
        step.prompt_scan_seconds(tokens, np.full(tokens.shape, float(count))).tolist()
        for count in _PROMPTS
    ]
    return rows


def _padding(sizes: Array, most: int) -> list[int]:
    """Graph size that each number of sequences is padded to."""
    if not len(sizes):
        return list(range(most + 1))
    wanted = np.arange(most + 1)
    place = np.searchsorted(sizes, wanted)
    padded = np.where(place < len(sizes), sizes[np.minimum(place, len(sizes) - 1)], wanted)
    padded[0] = 0
    found: list[int] = np.minimum(padded, most).astype(int).tolist()
    return found
