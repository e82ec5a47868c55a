"""Caches of several kinds in one pool of pages, as vLLM keeps them.

Layers with caches of one kind form groups of equally many layers, and a page is what one group
holds for its tokens. All groups draw from one pool, so a page is as large as the largest group
needs, however little another puts into it; groups that come out short are padded
(vllm/v1/core/kv_cache_utils.py of 0.24: _get_kv_cache_groups_uniform_page_size,
unify_kv_cache_spec_page_size, _get_kv_cache_groups_uniform_groups, _bucket_layers_by_page_size).
Units: bytes, tokens, pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiconf.engine.trait_schema import SharedPages
from aiconf.model.cache import cache_kind, layer_caches, layer_state, packed_caches
from aiconf.model.shard import ceil_div
from aiconf.model.spec import Attention, LayerGroup, LinearAttention, ModelSpec, draft_layer
from aiconf.parallel import Parallel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tables:
    """``count`` groups of layers whose pages hold ``block`` tokens each.

    window: tokens that stay; None: all.
    """

    count: int
    block: int
    window: int | None

    def held(self, tokens: Array) -> Array:
        """Pages of a sequence on average, half of the last one empty."""
        seen = tokens + self.block / 2.0
        if self.window is not None:
            seen = np.minimum(seen, self.window + self.block)
        return self.count * seen / self.block

    def needed(self, tokens: int, budget: int) -> int:
        """Pages that the engine wants free for a sequence whose prompt comes in chunks."""
        if self.window is None:
            return self.count * ceil_div(tokens, self.block)
        most = min(self.window - 1 + budget, tokens)
        return self.count * (ceil_div(most, self.block) + 1)


@dataclass(frozen=True)
class Pages:
    """The pool of one GPU: bytes of a page, and what takes pages.

    states: groups of layers whose state is one page per sequence, however long it is.
    """

    page: float
    tables: tuple[Tables, ...]
    states: int = 0

    def sequence_bytes(self, tokens: ArrayLike) -> Array:
        """Bytes of pages that a sequence of ``tokens`` holds while it decodes."""
        length = np.asarray(tokens, dtype=np.float64)
        pages: Array = np.full(length.shape, float(self.states))
        for table in self.tables:
            pages = pages + table.held(length)
        return pages * self.page

    def admission_bytes(self, tokens: int, budget: int) -> float:
        """Bytes that must be free for a sequence of ``tokens`` to be admitted.

        Caches with a window also hold a whole chunk of the prompt, until it is computed
        (SlidingWindowSpec.max_admission_blocks_per_request). budget: tokens of an iteration.
        """
        pages = sum(table.needed(tokens, budget) for table in self.tables)
        return self.page * (pages + self.states)

    def passing_bytes(self, budget: int, longest: int | None = None) -> float:
        """Bytes that the prompts of one iteration hold beside what their sequences keep.

        longest: tokens of the longest request; None: longer than any window and budget.
        """
        pages = 0.0
        for table in self.tables:
            if table.window is not None:
                tokens = table.window + budget if longest is None else longest
                kept = float(table.held(np.asarray(float(tokens))))
                pages += max(table.needed(tokens, budget) - kept, 0.0)
        return pages * self.page


@lru_cache(maxsize=4096)
def shared_pages(
    spec: ModelSpec, parallel: Parallel, kv: str, rule: SharedPages | None, block: int,
    drafting: bool = False,
) -> Pages | None:  # fmt: skip
    """Return how an engine with ``rule`` pages the caches of ``spec``.

    None where each cache is its own: no rule, or caches that all keep the same tokens, which
    share one table. block: tokens of a page of an ordinary cache. drafting: with a draft layer.
    """
    if rule is None or spec.architecture in rule.whole_windows:
        return None
    layers = [*spec.layers, *([draft_layer(spec)] if drafting else [])]
    if cache_kind(spec) == "compressed":
        return _packed(layers, kv, rule, block, parallel.pp)
    return _equal(layers, parallel, kv, rule, block)


def _equal(
    layers: list[LayerGroup], parallel: Parallel, kv: str, rule: SharedPages, block: int
) -> Pages | None:
    """One cache per layer, with pages of one size for all (a state's is one page)."""
    caches: Counter[tuple[int | None, float]] = Counter()
    states: Counter[float] = Counter()
    for group in layers:
        if isinstance(group.attention, Attention):
            for cache in layer_caches(group.attention, parallel.tp, kv):
                caches[cache] += group.count
        elif isinstance(group.attention, LinearAttention):
            states[layer_state(group.attention, parallel.tp)] += group.count
    if not caches or (not states and len({window for window, _ in caches}) == 1):
        return None
    widest = max(size for _, size in caches)
    if states:  # a page takes as many tokens as are at least one state
        block *= ceil_div(int(max(states)), int(block * widest))
    page = block * widest
    size = _group_size([*caches.values(), *states.values()], rule.most_padding)
    tables = tuple(
        Tables(ceil_div(count, size), int(page // each) if page % each == 0 else block, window)
        for (window, each), count in caches.items()
    )
    held = sum(ceil_div(count, size) for count in states.values())
    return Pages(ceil_div(size, parallel.pp) * page, tables, held)


def _group_size(counts: list[int], most_padding: float) -> int:
    """Layers of a group: the fewest of a kind; the most where that pads little."""
    least, most = min(counts), max(counts)
    return most if most < least * most_padding else least


def _packed(
    layers: list[LayerGroup], kv: str, rule: SharedPages, block: int, pp: int
) -> Pages | None:
    """Several caches per layer (DeepSeek-V4), with pages of a few sizes."""
    full: Counter[int] = Counter()  # page bytes -> layers
    passing: dict[tuple[int, int], Counter[int]] = {}  # (block, window) -> the same
    for tokens, window, size, count in _caches(layers, kv, rule, block):
        page = ceil_div(int(tokens * size), rule.align) * rule.align
        if window is None:
            full[page] += count
        else:
            passing.setdefault((tokens, window), Counter())[page] += count
    if not full:  # nothing but windows: each is allocated as the engine allocates one
        return None
    deep = [max(full.values())] + [max(each.values()) for each in passing.values()]
    size = min(range(deep[0], max(deep) + 1), key=lambda d: (sum(-count % d for count in deep), -d))
    slots = Counter(full)
    tables = [Tables(1, block, None)]
    for (tokens, window), pages in passing.items():
        split = ceil_div(max(pages.values()), size)
        for page, count in pages.items():
            fitting = min(each for each in full if each >= page)
            slots[fitting] = max(slots[fitting], ceil_div(count, split))
        tables.append(Tables(split, tokens, window))
    return Pages(
        float(sum(page * ceil_div(count, pp) for page, count in slots.items())), tuple(tables)
    )


def _caches(
    layers: list[LayerGroup], kv: str, rule: SharedPages, block: int
) -> Iterator[tuple[int, int | None, float, int]]:
    """Yield (tokens of a page, window, bytes of a token, layers) of each cache."""
    for group in layers:
        if not isinstance(group.attention, Attention):
            continue
        for name, window, size in packed_caches(group.attention, kv):
            if name == "entries":
                tokens = block
            elif name == "window":
                tokens = rule.window_block
            else:
                tokens = rule.state_block[group.attention.compress]
            yield tokens, window, size, group.count
