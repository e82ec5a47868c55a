"""Softmax attention over a paged KV cache: prefill, decode, and batches that are both.

One call writes the new keys and values into the cache and attends: that is what a layer of an
engine does, and what the imported tables hold (collector/vllm/collect_attn.py of
ai-dynamo/aiconfigurator). Queries and new keys come rotated; an fp8 cache holds E4M3 with scale
1, and the query that is attended to it has E4M3 values too, so that kernels that multiply in fp8
and those that widen see the same numbers.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from aiconf.perf.light import CACHE_BYTES
from profilers import attention_kernels, paged
from profilers.check import SAMPLED, relative_error, rows
from profilers.operator import Inputs, Key, Line, Operator, Work
from profilers.paged import Requests

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device
    from profilers.source import Source

# Lengths and batches of the imported tables, so that both can be compared point by point.
_ISL = (16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10240, 12288, 16384)
_PAST = tuple(2**i - 1 for i in range(4, 18))
_PREFILL_BATCH = (1, 8, 2, 4, 16, 32, 64)
_DECODE_BATCH = (16, 1, 128, 4, 64, 256, 2, 8, 32, 512, 1024)
# (head_dim, window, heads, kv_heads) on one GPU, in order of worth: Llama 3.1 70B on 8, 4, 2 and
# 1 GPUs or 8B on 1, gpt-oss with and without its window, Qwen3-235B on 4, MHA, Gemma 3.
_HEADS = (
    (128, 0, 8, 1), (128, 0, 32, 8), (64, 128, 64, 8), (128, 0, 16, 2), (128, 0, 64, 8),
    (64, 0, 64, 8), (128, 0, 16, 1), (128, 0, 32, 32), (256, 1024, 16, 8), (256, 0, 16, 8),
    (64, 0, 8, 1), (64, 128, 8, 1), (128, 0, 4, 1), (128, 0, 96, 8), (128, 0, 8, 8),
)  # fmt: skip
_QUICK_HEADS, _QUICK_BATCHES = 3, 3  # of them
_MOST_TOKENS = 131072  # of one prefill: more than an engine lets into an iteration
_CHUNKS = ((1, 2048), (1, 512), (8, 512), (4, 2048), (1, 8192))  # (batch, tokens of each)
_CHUNK_PAST = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_CHECKED = 1 << 25  # elements of keys that the reference reads at most


def _kv_dtypes(device: Device) -> tuple[str, ...]:
    return ("bf16", "fp8") if not device.datasheet or "fp8" in device.flops else ("bf16",)


def _shapes(
    device: Device, quick: bool, batches: tuple[int, ...]
) -> list[tuple[dict[str, object], int]]:
    """Heads and batches, mixed so that any beginning is nearly a full grid of both."""
    heads = _HEADS[:_QUICK_HEADS] if quick else _HEADS
    batches = batches[:_QUICK_BATCHES] if quick else batches
    pairs = sorted(product(range(len(heads)), range(len(batches))), key=max)
    found: list[tuple[dict[str, object], int]] = []
    for i, j in pairs:
        dim, window, count, kv_heads = heads[i]
        for kv in _kv_dtypes(device):
            # A quick look leaves the narrow cache to one shape.
            if quick and kv != "bf16" and i:
                continue
            shape = {
                "dtype": "bf16", "kv_dtype": kv, "head_dim": dim, "window": window,
                "heads": count, "kv_heads": kv_heads, "batch": batches[j],
            }  # fmt: skip
            found.append((shape, batches[j]))
    return found


def _line(fixed: dict[str, object], axis: str, values: tuple[int, ...]) -> Line:
    return Line({k: v for k, v in fixed.items() if k != axis}, values)


def prefill_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Prompts of every length for heads, cache and batch."""
    return tuple(
        _line(shape, "isl", tuple(n for n in _ISL if n * batch <= _MOST_TOKENS))
        for shape, batch in _shapes(device, quick, _PREFILL_BATCH)
    )


def decode_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Pasts of every length for heads, cache and batch; memory bounds them."""
    return tuple(_line(shape, "past", _PAST) for shape, _ in _shapes(device, quick, _DECODE_BATCH))


def chunk_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Chunks behind a past, then ragged prompts, chunks and decodes."""
    heads = _HEADS[:1] if quick else _HEADS[:6]
    kinds = [("equal", b, n) for b, n in _CHUNKS] + [("ragged", b, 1) for b in (16, 64, 256)]
    kinds += [("ragged", 8, 512), ("ragged", 16, 1024)]
    if quick:
        kinds = [("equal", 1, 2048), ("ragged", 64, 1), ("ragged", 8, 512)]
    return tuple(
        Line(
            {
                "dtype": "bf16", "kv_dtype": kv, "head_dim": dim, "window": window,
                "heads": count, "kv_heads": kv_heads, "batch": batch, "lengths": lengths,
                "isl": isl,
            },
            tuple(p for p in _CHUNK_PAST if p or isl > 1),
        )
        for lengths, batch, isl in kinds
        for dim, window, count, kv_heads in heads
        for kv in (_kv_dtypes(device)[:1] if quick else _kv_dtypes(device))
    )  # fmt: skip


def requests(key: Key) -> Requests:
    """The batch of a shape of any of the three tables."""
    new, past = key.get("isl", 1), key.get("past", 0)
    kind = Requests.ragged if key.get("lengths") == "ragged" else Requests.alike
    return kind(key["batch"], new, past)


def work(key: Key) -> Work:
    """4 FLOP per pair of tokens and query element; seen keys and values read once.

    A kernel may multiply an fp8 cache in fp8, so that is the rate that bounds it.
    """
    batch, window = requests(key), key["window"]
    heads, kv_heads, dim = key["heads"], key["kv_heads"], key["head_dim"]
    cache = 2.0 * kv_heads * dim * CACHE_BYTES[key["kv_dtype"]]  # bytes of a token
    query = batch.tokens * heads * dim * (1.0 if key["kv_dtype"] == "fp8" else 2.0)
    flops = 4.0 * batch.pairs(window) * heads * dim
    written = batch.tokens * (2.0 * heads * dim + cache)
    return Work(key["kv_dtype"], flops, query + batch.keys(window) * cache, written)


def draw(key: Key, source: Source) -> Inputs:
    """Draw ``q`` [tokens, heads, dim], new ``k`` and ``v``, both caches, and their ``pages``."""
    import torch

    found = paged.pages(source, requests(key), key["window"])
    heads, dim = (key["kv_heads"], key["head_dim"])
    cache = (found.count, paged.PAGE, heads, dim)
    narrow = torch.float8_e4m3fn if key["kv_dtype"] == "fp8" else torch.bfloat16
    k_cache, v_cache = (source.normal(*cache).to(narrow) for _ in range(2))
    q = source.normal(len(found.slots), key["heads"], dim).to(narrow).to(torch.bfloat16)
    k, v = (c.view(-1, heads, dim)[found.slots].to(torch.bfloat16) for c in (k_cache, v_cache))
    return {
        "q": q, "k": k, "v": v, "k_cache": k_cache, "v_cache": v_cache, "pages": found,
        "window": key["window"], "scale": dim**-0.5,
    }  # fmt: skip


def error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some new tokens, all heads, against attention in float64."""
    import torch

    found, window, heads = inputs["pages"], key["window"], key["kv_heads"]
    longest = max(found.requests.seen)
    longest = min(longest, window) if window else longest
    few = max(4, min(SAMPLED, _CHECKED // (longest * heads * key["head_dim"])))
    tokens = rows(len(found.slots), few)
    k_cache, v_cache = (inputs[c].view(-1, heads, key["head_dim"]) for c in ("k_cache", "v_cache"))
    reference = []
    for token in tokens:
        slots = paged.seen_by(found, token, window)
        k, v = k_cache[slots].double(), v_cache[slots].double()
        q = inputs["q"][token].double().reshape(heads, -1, key["head_dim"])
        weights = torch.einsum("hgd,nhd->hgn", q * inputs["scale"], k).softmax(-1)
        reference.append(torch.einsum("hgn,nhd->hgd", weights, v).flatten(0, 1))
    return relative_error(output[tokens], torch.stack(reference))


def tolerance(key: Key) -> float:
    """bf16 weights and output: under 1e-2; kernels that weigh in E4M3 (3 bits): under 6e-2."""
    return 6e-2 if key["kv_dtype"] == "fp8" else 1e-2


_PHASES = (
    ("prefill_attention", "isl", prefill_lines, attention_kernels.PREFILL, 2),
    ("decode_attention", "past", decode_lines, attention_kernels.DECODE, 1),
    ("chunk_attention", "past", chunk_lines, attention_kernels.CHUNK, 1),
)
OPERATORS = tuple(
    Operator("attention", table, axis, lines, work, draw, error, tolerance, kernels, power)
    for table, axis, lines, kernels, power in _PHASES
)
