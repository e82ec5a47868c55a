"""Operators of a vision tower on one rank: per patch, and per token of the language model.

As engines run it: eagerly, every norm, sum, rotation and activation a kernel of its own, in bf16
(vLLM model_executor/models/qwen3_vl.py and kimi_k25_vit.py; SGLang models/qwen3_vl.py alike).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aiconf.model.activations import BF16
from aiconf.model.operation import Collective, Elementwise, Gemm
from aiconf.model.vision import CHANNELS, VisionTower, splits

Simple = Gemm | Elementwise | Collective

_NORM, _SUM, _ACTIVATION = 2, 3, 2  # reads and writes of each element
_CORNERS = 4  # learned positions that one patch is interpolated from


@dataclass(frozen=True)
class VisionOperators:
    """What a rank runs: ``patch`` once per patch, ``token`` once per token that comes out.

    heads: of the attention of each of ``layers`` layers. together: ranks that share one image;
    1: each rank encodes images of its own.
    """

    patch: tuple[Simple, ...]
    token: tuple[Simple, ...]
    heads: int
    layers: int
    together: int

    @property
    def launches(self) -> int:
        """Kernels launched to encode a batch of images."""
        simple = sum(
            one.count * (one.launches if isinstance(one, Elementwise) else 1)
            for one in (*self.patch, *self.token)
        )
        return simple + self.layers


def vision_operators(tower: VisionTower, tp: int) -> VisionOperators:
    """List the operators of ``tower`` on one of ``tp`` ranks (see `VisionOperators`)."""
    together = tp if splits(tower, tp) else 1
    return VisionOperators(
        patch=tuple(_per_patch(tower, together)),
        token=tuple(_per_token(tower, together)),
        heads=tower.heads // together,
        layers=tower.layers,
        together=together,
    )


def _gemm(n: int, k: int, count: int) -> Gemm:
    return Gemm(n, k, "bf16", count, "all", "dense")


def _pass(width: float, passes: int, launches: int, count: int, kind: str) -> Elementwise:
    return Elementwise(width * passes * BF16, launches, count, kind)  # type: ignore[arg-type]


def _per_patch(tower: VisionTower, tp: int) -> Iterator[Simple]:
    hidden, layers = tower.hidden, tower.layers
    width, inner = tower.heads * tower.head_dim // tp, -(-tower.intermediate // tp)
    yield _gemm(hidden, CHANNELS * tower.frames * tower.patch**2, 1)
    yield _pass(hidden, _CORNERS + _SUM, 2, 1, "embedding")
    yield _pass(hidden, _NORM, 1, 2 * layers, "norm")
    yield _gemm(3 * width, hidden, layers)
    yield _pass(2 * width, _NORM, 2, layers, "rope")  # queries and keys
    yield _gemm(hidden, width, layers)
    yield _gemm(inner, hidden, layers)
    yield _pass(inner, _ACTIVATION, 1, layers, "activation")
    yield _gemm(hidden, inner, layers)
    yield _pass(hidden, _SUM, 1, 2 * layers, "norm")  # residuals
    if tp > 1:
        yield Collective("all_reduce", tp, hidden * BF16, 2 * layers, "ffn")


def _per_token(tower: VisionTower, tp: int) -> Iterator[Simple]:
    joined, mergers = tower.joined, tower.mergers
    ranks = tp if tower.projector_split else 1
    if tower.pooled:
        yield _pass(joined, 1, 1, 1, "activation")  # the average
        yield _pass(tower.hidden, _NORM, 1, 1, "norm")
        yield _gemm(tower.out, tower.hidden, 1)
        yield _pass(tower.out, _NORM, 1, 1, "embedding")
        return
    yield _pass(joined, _NORM, 1, mergers, "norm")
    yield _gemm(joined // ranks, joined, mergers)
    yield _pass(joined // ranks, _ACTIVATION, 1, mergers, "activation")
    yield _gemm(tower.out, joined // ranks, mergers)
    if ranks > 1:
        yield Collective("all_reduce", ranks, tower.out * BF16, mergers, "ffn")
    yield _pass(tower.out, _NORM, 1, 1, "embedding")  # into the prompt's embeddings


def vision_flops(tower: VisionTower, patches: int) -> float:
    """FLOP to encode one image of so many patches: 2 per weight met, 4 per pair of patches."""
    whole = vision_operators(tower, 1)
    linear = sum(2.0 * o.n * o.k * o.count * patches for o in whole.patch if isinstance(o, Gemm))
    tokens = tower.tokens(patches)
    linear += sum(2.0 * o.n * o.k * o.count * tokens for o in whole.token if isinstance(o, Gemm))
    return linear + 4.0 * patches**2 * tower.heads * tower.head_dim * tower.layers
