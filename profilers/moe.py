"""Routed experts of one layer on its busiest GPU: router, two grouped products, gated SiLU, sum.

``tokens`` are those of the whole expert-parallel group; all of them reach the call, as in engines
that gather tokens, and pairs whose expert lies on another GPU are left out of its sum. Each of
``tp`` GPUs holds a part of every expert; its sum is what all-reduce would add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from aiconf.perf.light import FORMATS
from profilers import formats, moe_kernels, routing
from profilers.check import relative_error, rows
from profilers.formats import BLOCK, Quantized
from profilers.microscaling import exact_mxfp4, mxfp4
from profilers.operator import Inputs, Key, Line, Operator, Work
from profilers.source import Source

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device

# Tokens of the imported tables.
_TOKENS = (
    *(1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024, 1536),
    *(2048, 3072, 4096, 6144, 8192, 12288, 16384),
)
# (hidden, inter, topk, experts, precisions): Qwen3-30B-A3B, Mixtral 8x7B, DeepSeek-V3,
# Qwen3-235B-A22B, gpt-oss; all are in the imported tables.
_MODELS: tuple[tuple[int, int, int, int, tuple[str, ...]], ...] = (
    (2048, 768, 8, 128, ("bf16", "fp8_block")),
    (4096, 14336, 2, 8, ("bf16", "fp8_block")),
    (7168, 2048, 8, 256, ("fp8_block",)),
    (4096, 1536, 8, 128, ("bf16", "fp8_block")),
    (2880, 2880, 4, 128, ("mxfp4", "bf16")),
)
_SPLITS = ((1, 1), (1, 8), (4, 1), (2, 1), (1, 4), (1, 2), (8, 1), (1, 16), (1, 32))  # (tp, ep)
_DISTRIBUTIONS = ("power_law_1.01", "balanced", "power_law_1.2", "uniform")
_QUICK = (  # (model, split, distribution) by place
    (0, 0, 0), (2, 1, 0), (1, 2, 0), (4, 0, 0), (0, 0, 1),
)  # fmt: skip
_CHECKED = 4  # tokens that the reference computes, all experts of each
_FEWEST = {"balanced": 1.0, "uniform": 0.7}  # experts hit, at least, over those expected
_FEWEST_SKEWED = 0.3  # where few experts take most tokens


def lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Experts of served models, split and loaded in several ways."""
    every = product(range(len(_MODELS)), range(len(_SPLITS)), range(len(_DISTRIBUTIONS)))
    places: Sequence[tuple[int, int, int]] = sorted(every, key=sum)
    found = []
    for model, split, load in _QUICK if quick else places:
        hidden, inter, topk, experts, dtypes = _MODELS[model]
        tp, ep = _SPLITS[split]
        for dtype in dtypes:
            if experts % ep or (dtype == "fp8_block" and inter // tp % BLOCK):
                continue
            if device.datasheet and FORMATS[dtype].rate not in device.flops:
                continue
            fixed = {
                "dtype": dtype, "hidden": hidden, "inter": inter, "topk": topk,
                "experts": experts, "tp": tp, "ep": ep, "distribution": _DISTRIBUTIONS[load],
            }  # fmt: skip
            found.append(Line(fixed, _TOKENS))
    return tuple(found)


def work(key: Key) -> Work:
    """6 h i FLOP per pair; weights of the experts hit at least once, activations of the pairs.

    Pairs of the busiest rank are no fewer than its share. How many experts are hit is chance:
    what is certain enough counts, so that no kernel that computes all of them beats it.
    """
    kind, hidden, ep = FORMATS[key["dtype"]], key["hidden"], key["ep"]
    inter, tokens, load = key["inter"] / key["tp"], key["tokens"], key["distribution"]
    share = 0.5 if load == "uniform" else 1.0  # rank 0 is not the busiest where all is chance
    pairs = share * tokens * key["topk"] / ep
    missed = (1.0 - key["topk"] / key["experts"]) ** tokens
    hit = key["experts"] / ep * (1.0 - missed) * _FEWEST.get(load, _FEWEST_SKEWED)
    read = hit * 3.0 * hidden * inter * kind.weight_bytes + tokens * key["experts"] * 4.0
    read += min(pairs, tokens) * hidden * 2.0
    return Work(kind.rate, 6.0 * pairs * hidden * inter, read, 2.0 * tokens * hidden)


@lru_cache(maxsize=1)
def _weights(device: str, dtype: str, experts: int, hidden: int, inter: int) -> dict[str, Any]:
    """``gate_up`` [experts, 2 inter, hidden] and ``down`` [experts, hidden, inter], narrowed.

    They exceed the last-level cache many times and each set of inputs hits others of them, so
    all sets and points of a line share them: drawing them takes longer than any measurement.
    """
    source = Source.of(device, 0, f"experts {dtype} {experts} {hidden} {inter}")
    shapes = {"gate_up": (2 * inter, hidden), "down": (hidden, inter)}
    return {name: _drawn(source, dtype, experts, *shape) for name, shape in shapes.items()}


def _drawn(source: Source, dtype: str, experts: int, n: int, k: int) -> Any:
    """Weights of all experts; a Quantized whose data and scale have the experts first."""
    import torch

    if dtype == "bf16":
        return source.normal(experts, n, k, scale=k**-0.5)
    parts = []
    for _ in range(experts):
        w = source.normal(n, k, scale=k**-0.5)
        # Blocks of different size have different scales: a kernel that mixes them up is wrong.
        high, wide = -(-n // BLOCK), -(-k // BLOCK)
        size = torch.exp2(source.normal(high, wide, dtype=torch.float32))
        size = size.repeat_interleave(BLOCK, 0)[:n].repeat_interleave(BLOCK, 1)[:, :k]
        parts.append(formats.per_block(w * size) if dtype == "fp8_block" else mxfp4(w))
    data, scale = (torch.stack([getattr(p, name) for p in parts]) for name in ("data", "scale"))
    return Quantized(data, scale, parts[0].block)


def draw(key: Key, source: Source) -> Inputs:
    """``x`` [tokens, hidden], ``logits`` [tokens, experts], ``picked``, and weights of rank 0."""
    tokens, experts, topk, ep = (key[n] for n in ("tokens", "experts", "topk", "ep"))
    picked = routing.chosen(source, key["distribution"], tokens, experts, topk, ep)
    inter = key["inter"] // key["tp"]
    weights = _weights(source.device, key["dtype"], experts // ep, key["hidden"], inter)
    return {
        "x": source.normal(tokens, key["hidden"]), "topk": topk,
        "logits": routing.logits(source, picked, experts), "picked": picked, **weights,
    }  # fmt: skip


def error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Error of some tokens that have experts here, against float64.

    Where activations are quantised, the reference rounds them as the kernels do.
    """
    import torch

    here = (inputs["picked"] < key["experts"] // key["ep"]).any(1).nonzero().flatten()
    if not len(here):  # nothing to do for this rank: all must be zero
        return float(output.double().abs().max())
    last = len(output) - 1  # whether it has experts here or must be zero
    tokens = sorted({*here[rows(len(here), _CHECKED)].tolist(), last})
    best = torch.gather(inputs["logits"], 1, inputs["picked"]).double().softmax(1)
    reference = [_token(key, inputs, t, best[t]) for t in tokens]
    return relative_error(output[tokens], torch.stack(reference))


def _token(key: Key, inputs: Inputs, token: int, shares: Tensor) -> Tensor:
    import torch

    scaled = key["dtype"] == "fp8_block"
    local = key["experts"] // key["ep"]
    x = _rounded(inputs["x"][token : token + 1], scaled)
    total = torch.zeros(key["hidden"], dtype=torch.float64, device=x.device)
    for expert, share in zip(inputs["picked"][token].tolist(), shares.tolist(), strict=True):
        if expert < local:
            gate, up = (x @ exact_expert(inputs["gate_up"], expert, key["hidden"]).T).chunk(
                2, dim=1
            )
            h = _rounded(torch.nn.functional.silu(gate) * up, scaled)
            total += share * (h @ exact_expert(inputs["down"], expert, h.shape[1]).T)[0]
    return total


def _rounded(x: Tensor, scaled: bool) -> Tensor:
    return formats.exact(formats.per_token_block(x), list(range(len(x)))) if scaled else x.double()


def exact_expert(weights: Any, expert: int, depth: int) -> Tensor:
    """Weights of one expert [n, depth] in float64."""
    import torch

    if not isinstance(weights, Quantized):
        wide: Tensor = weights[expert].double()
        return wide
    one = Quantized(weights.data[expert], weights.scale[expert], weights.block)
    if one.data.dtype == torch.uint8:
        return exact_mxfp4(one)[:, :depth]
    return formats.exact(one, list(range(len(one.data))))


def tolerance(key: Key) -> float:
    """bf16 between the products: 1e-2; rounding to E4M3 may fall the other way: 4e-2."""
    return 4e-2 if key["dtype"] == "fp8_block" else 1e-2


OPERATORS = (
    Operator("moe", "moe", "tokens", lines, work, draw, error, tolerance, moe_kernels.KERNELS),
)
