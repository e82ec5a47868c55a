"""Kernels that move memory: norms, activation, quantisation, embedding, sampling, copies.

``quantize`` is the imported tables' own: bf16 to E4M3 with a scale that is known (op scale; their
compute_scale is a difference of two measurements, which no kernel takes, and is left to them).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from profilers import formats, memory_kernels
from profilers.check import relative_error, rows
from profilers.formats import BLOCK
from profilers.memory_kernels import EPSILON, TOP_K, TOP_P
from profilers.operator import Inputs, Key, Line, Operator, Work
from profilers.source import Source

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device

# Rows and columns of the imported quantize tables.
_QUANTIZE_M = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072)
_WIDTHS = (4096, 8192, 2048, 14336, 7168, 5120, 1024, 2880, 16384, 512)
_QUANTIZE_WIDTHS = (4096, 16384, 1024, 65536, 8192, 256, 2048, 7168, 5120, 12288)
_TOKENS = tuple(2**i for i in range(16))
_EMBEDDED = 131072  # rows of an embedding: Llama's, Qwen's and gpt-oss's vocabularies are near it
_VOCABULARIES = (128256, 151936, 201088, 32000)  # Llama 3, Qwen3, gpt-oss, Llama 2 and Mistral
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# A page of 16 tokens of one layer (8 heads of 128, both caches, in bf16: 64 KiB; of one head:
# 8 KiB) and of all 80 layers together; 0: one piece.
_PAGES = (0, 65536, 8192, 2097152)
_BYTES = tuple(2**i for i in range(16, 31))
_COPIES = ("host_to_device", "device_to_host", "device_to_device")
_SPREAD = 1.0 / 32.0  # static scale: values of a standard normal fill E4M3 up to 14 sigma


def quantize_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Static quantisation of activations of several widths."""
    if device.datasheet and "fp8" not in device.flops:
        return ()
    widths = _QUANTIZE_WIDTHS[: 3 if quick else None]
    return tuple(Line({"op": "scale", "dtype": "fp8", "k": k}, _QUANTIZE_M) for k in widths)


def quantize_work(key: Key) -> Work:
    """2 bytes in and 1 out per number."""
    return Work("bf16", 0.0, 2.0 * key["m"] * key["k"], 1.0 * key["m"] * key["k"])


def quantize_draw(key: Key, source: Source) -> Inputs:
    """``x`` [m, k] bf16 and ``scale`` [1]."""
    import torch

    scale = torch.full((1,), _SPREAD, device=source.device)
    return {"x": source.normal(key["m"], key["k"]), "scale": scale}


def quantize_error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error against the same rounding in float32."""
    import torch

    some = rows(key["m"])
    narrow = (inputs["x"][some].float() / inputs["scale"]).to(torch.float8_e4m3fn)
    return relative_error(output[some], narrow)


def elementwise_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Every kernel for widths of served models."""
    some = [op for op in _REFERENCES if op != "quantize_groups" or _narrow(device)]
    widths = _WIDTHS[: 1 if quick else None]
    return tuple(Line({"op": op, "width": width}, _TOKENS) for width in widths for op in some)


def _narrow(device: Device) -> bool:
    return not device.datasheet or "fp8" in device.flops


# Numbers of bf16 read and written per token and number of width.
_MOVED = {
    "rms_norm": (1, 1), "add_rms_norm": (2, 2), "silu_and_mul": (2, 1), "embedding": (1, 1),
    "copy": (1, 1), "quantize_groups": (1, 0.5 + 2 / BLOCK),
}  # fmt: skip


def elementwise_work(key: Key) -> Work:
    """What crosses the memory at least."""
    size = 2.0 * key["tokens"] * key["width"]
    read, written = _MOVED[key["op"]]
    return Work("bf16", 0.0, read * size, written * size)


@lru_cache(maxsize=1)
def _table(device: str, width: int) -> Tensor:
    """An embedding, which all sets of inputs share: each reads other rows of it."""
    return Source.of(device, 0, f"embedding {width}").normal(_EMBEDDED, width)


def elementwise_draw(key: Key, source: Source) -> Inputs:
    """``x`` [tokens, width]; beside it what the kernel takes: weights, residual, ids and rows."""
    op, tokens, width = key["op"], key["tokens"], key["width"]
    found: dict[str, Any] = {}
    if op == "embedding":
        found["table"] = _table(source.device, width)
        found["ids"] = source.integers(0, _EMBEDDED, tokens)
        return found
    found["x"] = source.normal(tokens, 2 * width if op == "silu_and_mul" else width)
    if op in ("rms_norm", "add_rms_norm"):
        found["w"] = source.normal(width)
        found["residual"] = source.normal(tokens, width)
    return found


def _normed(inputs: Inputs, some: list[int], added: bool) -> Tensor:
    x: Tensor = inputs["x"][some].double()
    x = x + inputs["residual"][some].double() if added else x
    return x / (x.square().mean(1, keepdim=True) + EPSILON).sqrt() * inputs["w"].double()


def _gated(inputs: Inputs, some: list[int]) -> Tensor:
    gate, up = inputs["x"][some].double().chunk(2, dim=1)
    return gate.sigmoid() * gate * up


def _grouped(inputs: Inputs, some: list[int]) -> Tensor:
    return formats.per_token_block(inputs["x"][some]).data


_REFERENCES: dict[str, Callable[[Inputs, list[int]], Tensor]] = {
    "add_rms_norm": lambda inputs, some: _normed(inputs, some, added=True),
    "silu_and_mul": _gated,
    "quantize_groups": _grouped,
    "rms_norm": lambda inputs, some: _normed(inputs, some, added=False),
    "embedding": lambda inputs, some: inputs["table"][inputs["ids"][some]],
    "copy": lambda inputs, some: inputs["x"][some],
}


def elementwise_error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some tokens against float64."""
    some = rows(key["tokens"])
    return relative_error(output[some], _REFERENCES[key["op"]](inputs, some))


def sampling_lines(_device: Device, quick: bool) -> tuple[Line, ...]:
    """Greedy and random sampling over vocabularies of served models."""
    some = _VOCABULARIES[: 1 if quick else None]
    ops = ("top_k_top_p", "greedy")
    return tuple(Line({"op": op, "vocabulary": v}, _BATCH) for v in some for op in ops)


def sampling_work(key: Key) -> Work:
    """Logits, float32, are read once."""
    return Work("bf16", 0.0, 4.0 * key["batch"] * key["vocabulary"], 8.0 * key["batch"])


def sampling_draw(key: Key, source: Source) -> Inputs:
    """``logits`` [batch, vocabulary] float32."""
    import torch

    drawn = source.normal(key["batch"], key["vocabulary"], dtype=torch.float32, scale=3.0)
    return {"logits": drawn}


def sampling_error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Share of requests whose token may not have been chosen.

    output: int64 tokens [batch] seen as float64. Greedy: a token with the largest logit. Random:
    one of the TOP_K likeliest, and the probability of those likelier than it, among these, is
    below TOP_P (a thousandth more is allowed: sums of float32 differ).
    """
    import torch

    tokens = output.reshape(-1).view(torch.int64)
    logits = inputs["logits"].double()
    inside = (tokens >= 0) & (tokens < key["vocabulary"])
    own = logits.gather(1, tokens.clamp(0, key["vocabulary"] - 1)[:, None])
    best = logits.topk(1 if key["op"] == "greedy" else TOP_K, dim=1).values
    likelier = (best.softmax(1) * (best > own)).sum(1)
    allowed = inside & (own[:, 0] >= best[:, -1]) & (likelier <= TOP_P + 1e-3)
    return 1.0 - float(allowed.double().mean())


def copy_lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Copies in one piece and by pages; those with the host need a GPU."""
    ops = _COPIES if device.kind == "cuda" else _COPIES[2:]
    pages = _PAGES[: 2 if quick else None]
    return tuple(
        Line({"op": op, "page_bytes": page}, tuple(b for b in _BYTES if b >= 4 * page))
        for page in pages
        for op in ops
    )


def copy_work(key: Key) -> Work:
    """Bytes read from and written to the GPU's memory; the other side is the host's."""
    size = float(key["bytes"])
    read, written = key["op"] != "host_to_device", key["op"] != "device_to_host"
    return Work("bf16", 0.0, size * read, size * written)


def copy_draw(key: Key, source: Source) -> Inputs:
    """``source`` [pages, words] int64 and ``places`` [pages], in pinned memory on the host."""
    import torch

    page = key["page_bytes"] or key["bytes"]
    count = key["bytes"] // page
    drawn = source.integers(-(1 << 62), 1 << 62, count, page // 8)
    places = torch.randperm(count, generator=source.generator, device=source.device)
    if key["op"] == "host_to_device":
        drawn = drawn.cpu().pin_memory()
    return {"source": drawn, "places": places, "device": source.device, "op": key["op"]}


def copy_error(_key: Key, inputs: Inputs, output: Tensor) -> float:
    """Share of pages that differ. output: float64, whose bits are what was copied."""
    import torch

    places = inputs["places"].to(inputs["source"].device)
    right = inputs["source"][places].to(output.device)
    found = output.view(torch.int64).reshape(right.shape)
    return 1.0 - float((found == right).all(1).double().mean())


def _close(key: Key) -> float:
    """Rounding of an output to bf16, or ties of E4M3 that fall the other way."""
    return 2e-2 if key["op"] in ("scale", "quantize_groups") else 1e-2


def _exactly(_key: Key) -> float:
    return 0.0


OPERATORS = (
    Operator(
        "memory", "quantize", "m", quantize_lines, quantize_work, quantize_draw, quantize_error,
        _close, memory_kernels.QUANTIZE,
    ),
    Operator(
        "memory", "elementwise", "tokens", elementwise_lines, elementwise_work, elementwise_draw,
        elementwise_error, _close, memory_kernels.ELEMENTWISE,
    ),
    Operator(
        "memory", "sampling", "batch", sampling_lines, sampling_work, sampling_draw,
        sampling_error, _exactly, memory_kernels.SAMPLING,
    ),
    Operator(
        "memory", "copy", "bytes", copy_lines, copy_work, copy_draw, copy_error, _exactly,
        memory_kernels.COPIES,
    ),
)  # fmt: skip
