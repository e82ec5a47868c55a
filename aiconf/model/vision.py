"""The vision tower of a model: its shape, and how an image becomes patches and tokens.

A tower cuts an image into patches of ``patch`` x ``patch`` pixels, runs them through layers of full
attention, and joins ``merge`` x ``merge`` neighbours into one token of the language model by a
two-layer projection (the merger). Shapes after transformers models/qwen3_vl/modeling_qwen3_vl.py
and vLLM model_executor/models/kimi_k25_vit.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

CHANNELS = 3  # red, green, blue


@dataclass(frozen=True)
class PatchLimits:
    """How an image processor sizes an image; ``least``, ``most`` count patches of an image.

    rounding: ``nearest``: each side to the nearest multiple of patch x merge, then scaled into the
    limits, up or down (transformers models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize).
    ``pad``: scaled down into the limits, never up, and each side padded to such a multiple
    (navit_resize of Kimi's processor). ``fixed``: every image is made ``most`` patches.
    side: most patches along one side; 0: no limit.
    """

    rounding: Literal["nearest", "pad", "fixed"]
    least: int
    most: int
    side: int = 0


@dataclass(frozen=True)
class VisionTower:
    """A vision encoder with its projector, as far as time and memory depend on it.

    frames: equal frames that an image is taken as (patches span this many). positions: learned
    position embeddings. out: width of the language model's tokens. mergers: projections of the
    same shape; Qwen3-VL has one more for each layer that DeepStack reads. projector_split: whether
    engines divide them over TP ranks. bias: on every product; layer_norm: norms with a bias.
    post_norm: the projector norms what it writes, and not what it reads. pooled: joined patches are
    averaged and projected by one product without a bias (Gemma-3), in place of a merger.
    """

    layers: int
    hidden: int
    heads: int
    head_dim: int
    intermediate: int
    patch: int
    merge: int
    out: int
    positions: int
    limits: PatchLimits
    frames: int = 1
    mergers: int = 1
    bias: bool = True
    layer_norm: bool = True
    projector_split: bool = True
    post_norm: bool = False
    pooled: bool = False

    @property
    def joined(self) -> int:
        """Width of the patches that are joined into one token."""
        return self.hidden * self.merge**2

    def patches(self, width: int, height: int) -> int:
        """Patches of an image of ``width`` x ``height`` pixels after the processor's resizing.

        Raises
        ------
        ValueError
            For an image longer than 200 times its other side, which Qwen's processor refuses.
        """
        if self.limits.rounding == "fixed":
            return self.limits.most
        if self.limits.rounding == "pad":
            sides = self._padded(width, height)
        else:
            sides = self._nearest(width, height)
        return (sides[0] // self.patch) * (sides[1] // self.patch)

    def tokens(self, patches: int) -> int:
        """Tokens of the language model that an image of so many patches takes."""
        return patches // self.merge**2

    def _nearest(self, width: int, height: int) -> tuple[int, int]:
        unit, area = self.patch * self.merge, self.patch**2
        if max(width, height) / min(width, height) > 200:
            raise ValueError(f"sides of {width}x{height} differ by more than 200 times")
        # Python's round halves to even, as the processor's does.
        wide, high = round(width / unit) * unit, round(height / unit) * unit
        if wide * high > self.limits.most * area:
            scale = math.sqrt(width * height / (self.limits.most * area))
            wide = max(unit, math.floor(width / scale / unit) * unit)
            high = max(unit, math.floor(height / scale / unit) * unit)
        elif wide * high < self.limits.least * area:
            scale = math.sqrt(self.limits.least * area / (width * height))
            wide = math.ceil(width * scale / unit) * unit
            high = math.ceil(height * scale / unit) * unit
        return wide, high

    def _padded(self, width: int, height: int) -> tuple[int, int]:
        unit, limits = self.patch * self.merge, self.limits
        cells = max(1.0, width // self.patch) * max(1.0, height // self.patch)
        scale = min(1.0, math.sqrt(limits.most / cells))
        longest = limits.side * self.patch if limits.side else max(width, height)
        scale = min(scale, longest / width, longest / height)
        wide, high = (min(max(1, int(side * scale)), longest) for side in (width, height))
        return -(-wide // unit) * unit, -(-high // unit) * unit


def vision_parameters(tower: VisionTower, tp: int = 1) -> float:
    """Parameters of the tower with its projectors, or those of one of ``tp`` ranks.

    Products are divided over the ranks as vLLM divides them (qkv and the first of each MLP by
    column, the others by row); embeddings, norms and biases of row products are whole.
    """
    hidden, width = tower.hidden, tower.heads * tower.head_dim
    split = tp if splits(tower, tp) else 1
    norm = hidden * (2 if tower.layer_norm else 1)
    weights = 4 * hidden * width + 2 * hidden * tower.intermediate
    cut = (3 * width + tower.intermediate) * tower.bias
    layer = (weights + cut) / split + 2 * hidden * tower.bias + 2 * norm
    pixels = CHANNELS * tower.frames * tower.patch**2
    patches = pixels * hidden + hidden * tower.bias + tower.positions * hidden
    joined = tower.joined
    shared = split if tower.projector_split else 1
    merger = (joined * joined + joined * tower.out + joined * tower.bias) / shared
    merger += tower.out * tower.bias
    if tower.pooled:
        merger = hidden * tower.out
    norms = norm + (tower.mergers - 1) * joined * 2
    if tower.post_norm:
        norms = norm + tower.out
    elif tower.pooled:
        norms += hidden  # of the tower's own last norm, and of the pooled patches
    elif not tower.projector_split:
        norms += norm  # the encoder's own last norm, before the projector's
    return tower.layers * layer + patches + tower.mergers * merger + norms


def splits(tower: VisionTower, tp: int) -> bool:
    """Whether ``tp`` ranks divide the tower.

    Where heads do not divide, each holds it whole and encodes images of its own (vLLM
    model_executor/models/vision.py, is_vit_use_data_parallel).
    """
    return tp > 1 and tower.heads % tp == 0
