"""Multi-head latent attention of DeepSeek-V3: prefill unabsorbed, decode absorbed, projections.

Prefill is ordinary causal attention of keys and values that were projected from the latent
vectors before. Decode writes the new latent vectors and attends to the paged latent cache, all
heads to the same vectors. ``mla_bmm`` projects queries into the latent space before it (pre) and
its outputs back (post). Scope ``kernel`` of the tables: the projections are other rows.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from aiconf.perf.light import CACHE_BYTES
from profilers import mla_kernels, paged
from profilers.check import SAMPLED, relative_error, rows
from profilers.mla_kernels import LATENT, NOPE, ROPE, VALUE
from profilers.operator import Inputs, Key, Line, Operator, Work
from profilers.paged import Requests

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device
    from profilers.source import Source

PAGE = 64  # tokens: what FlashMLA takes (vllm/v1/attention/backends/mla/flashmla.py, 0.24.0)
_SCALE = (NOPE + ROPE) ** -0.5
# Lengths, batches and heads of the imported tables.
_ISL = (16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10240, 12288, 16384)
_PAST = tuple(2**i - 1 for i in range(4, 18))
_TOKENS = (
    *(1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024, 1536),
    *(2048, 3072, 4096, 6144, 8192, 12288, 16384, 20480),
)
_HEADS = (16, 128, 64, 32, 8)
_PREFILL_BATCH, _DECODE_BATCH = (1, 4, 2, 8, 16, 32), (16, 1, 64, 128, 4, 32, 256, 8, 2)
_QUICK = 2  # heads and batches of them
_MOST_TOKENS = 65536  # of one prefill
_CHECKED = 1 << 25  # elements that the reference reads at most


def _lines(
    heads: tuple[int, ...], batches: tuple[int, ...], kv_dtypes: tuple[str, ...], axis: str
) -> tuple[Line, ...]:
    values = _ISL if axis == "isl" else _PAST
    pairs = sorted(product(range(len(heads)), range(len(batches))), key=max)
    return tuple(
        Line(
            {
                "scope": "kernel", "gemm_dtype": "", "mla_dtype": "bf16", "kv_dtype": kv,
                "heads": heads[i], "batch": batches[j],
            },
            tuple(n for n in values if axis == "past" or n * batches[j] <= _MOST_TOKENS),
        )
        for i, j in pairs
        for kv in kv_dtypes
    )  # fmt: skip


def _some(quick: bool, *choices: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(choice[:_QUICK] if quick else choice for choice in choices)


def prefill_lines(_device: Device, quick: bool) -> tuple[Line, ...]:
    """Prompts; keys and values are projected to bf16 whatever the cache holds."""
    heads, batches = _some(quick, _HEADS, _PREFILL_BATCH)
    return _lines(heads, batches, ("bf16",), "isl")


def decode_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Pasts behind one new token, for a wide and a narrow cache."""
    heads, batches = _some(quick, _HEADS, _DECODE_BATCH)
    narrow = not quick and (not device.datasheet or "fp8" in device.flops)
    return _lines(heads, batches, ("bf16", "fp8") if narrow else ("bf16",), "past")


def bmm_lines(_device: Device, quick: bool) -> tuple[Line, ...]:
    """Both projections for every number of heads."""
    return tuple(
        Line({"op": op, "dtype": "bf16", "heads": heads}, _TOKENS)
        for heads in (_HEADS[:_QUICK] if quick else _HEADS)
        for op in ("pre", "post")
    )


def requests(key: Key) -> Requests:
    """The batch of a prefill or decode shape."""
    return Requests.alike(key["batch"], key.get("isl", 1), key.get("past", 0))


def prefill_work(key: Key) -> Work:
    """2 FLOP per pair of tokens and number of key and value, of every head."""
    batch, heads = requests(key), key["heads"]
    flops = 2.0 * batch.pairs(0) * heads * (NOPE + ROPE + VALUE)
    read = batch.tokens * heads * 2.0 * (2 * (NOPE + ROPE) + VALUE)
    return Work("bf16", flops, read, batch.tokens * heads * 2.0 * VALUE)


def decode_work(key: Key) -> Work:
    """Every head scores and sums the latent vectors, which are read once; fp8 may multiply so."""
    batch, heads = requests(key), key["heads"]
    width = CACHE_BYTES[key["kv_dtype"]] * (LATENT + ROPE)
    flops = 2.0 * batch.pairs(0) * heads * (2 * LATENT + ROPE)
    query = batch.tokens * heads * (LATENT + ROPE) * CACHE_BYTES[key["kv_dtype"]]
    written = batch.tokens * (heads * LATENT * 2.0 + width)
    return Work(key["kv_dtype"], flops, query + batch.keys(0) * width, written)


def _widths(key: Key) -> tuple[int, int]:
    """Depth and columns of the projection."""
    return (NOPE, LATENT) if key["op"] == "pre" else (LATENT, VALUE)


def bmm_work(key: Key) -> Work:
    """One product of [tokens, depth] and [depth, columns] per head."""
    depth, columns = _widths(key)
    heads, tokens = key["heads"], key["tokens"]
    read = 2.0 * heads * (depth * columns + tokens * depth)
    return Work(
        "bf16", 2.0 * tokens * heads * depth * columns, read, 2.0 * tokens * heads * columns
    )


def draw_prefill(key: Key, source: Source) -> Inputs:
    """``q`` and ``k`` [tokens, heads, 192], ``v`` [tokens, heads, 128], ``starts`` [batch + 1]."""
    import torch

    batch, heads = requests(key), key["heads"]
    starts = torch.arange(len(batch.new) + 1, dtype=torch.int32, device=source.device)
    q, k = (source.normal(batch.tokens, heads, NOPE + ROPE) for _ in range(2))
    v = source.normal(batch.tokens, heads, VALUE)
    return {
        "q": q, "k": k, "v": v, "starts": starts * key["isl"], "requests": batch, "scale": _SCALE
    }  # fmt: skip


def draw_decode(key: Key, source: Source) -> Inputs:
    """``q`` [batch, heads, 576], ``cache`` [pages, 64, 576], new latent vectors, ``pages``."""
    import torch

    found = paged.pages(source, requests(key), page=PAGE)
    narrow = torch.float8_e4m3fn if key["kv_dtype"] == "fp8" else torch.bfloat16
    cache = source.normal(found.count, PAGE, LATENT + ROPE).to(narrow)
    q = source.normal(len(found.slots), key["heads"], LATENT + ROPE).to(narrow)
    new = cache.flatten(0, 1)[found.slots].to(torch.bfloat16)
    return {
        "q": q.to(torch.bfloat16), "cache": cache, "new": new, "pages": found, "scale": _SCALE
    }  # fmt: skip


def draw_bmm(key: Key, source: Source) -> Inputs:
    """``x`` [tokens, heads, depth] and ``w`` [heads, depth, columns]."""
    depth, columns = _widths(key)
    return {
        "x": source.normal(key["tokens"], key["heads"], depth),
        "w": source.normal(key["heads"], depth, columns),
    }


def _few(count: int, elements: int) -> list[int]:
    """Tokens to compare: fewer where each reads much."""
    return rows(count, max(4, min(SAMPLED, _CHECKED // elements)))


def prefill_error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some tokens against attention in float64."""
    import torch

    isl, reference = key["isl"], []
    tokens = _few(len(inputs["q"]), isl * key["heads"] * (NOPE + ROPE))
    for token in tokens:
        seen = slice(token // isl * isl, token + 1)
        q, k, v = inputs["q"][token].double(), inputs["k"][seen], inputs["v"][seen]
        weights = torch.einsum("hd,nhd->hn", q * inputs["scale"], k.double()).softmax(-1)
        reference.append(torch.einsum("hn,nhd->hd", weights, v.double()))
    return relative_error(output[tokens], torch.stack(reference))


def decode_error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some requests, all heads, against attention in float64."""
    import torch

    found, reference = inputs["pages"], []
    tokens = _few(len(found.slots), max(found.requests.seen) * (LATENT + ROPE))
    cache = inputs["cache"].flatten(0, 1)
    for token in tokens:
        seen = cache[paged.seen_by(found, token, 0)].double()
        weights = (inputs["q"][token].double() * inputs["scale"] @ seen.T).softmax(-1)
        reference.append(weights @ seen[:, :LATENT])
    return relative_error(output[tokens], torch.stack(reference))


def bmm_error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some tokens; outputs are [tokens, heads, columns]."""
    import torch

    some = rows(key["tokens"])
    reference = torch.einsum("thd,hdc->thc", inputs["x"][some].double(), inputs["w"].double())
    return relative_error(output[some], reference)


def tolerance(key: Key) -> float:
    """bf16 weights and output: under 1e-2; kernels that weigh in E4M3 (3 bits): under 6e-2."""
    return 6e-2 if key.get("kv_dtype") == "fp8" else 1e-2


OPERATORS = (
    Operator(
        "mla", "mla_prefill", "isl", prefill_lines, prefill_work, draw_prefill, prefill_error,
        tolerance, mla_kernels.PREFILL, 2,
    ),
    Operator(
        "mla", "mla_decode", "past", decode_lines, decode_work, draw_decode, decode_error,
        tolerance, mla_kernels.DECODE,
    ),
    Operator(
        "mla", "mla_bmm", "tokens", bmm_lines, bmm_work, draw_bmm, bmm_error, tolerance,
        mla_kernels.BMM,
    ),
)  # fmt: skip
