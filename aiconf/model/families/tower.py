"""Vision towers: from the keys of ``vision_config`` to a `VisionTower`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.model.families.config import Config
from aiconf.model.vision import PatchLimits, VisionTower
from aiconf.resources import read_yaml

_PROCESSORS = Path(__file__).parents[1] / "vision_processors.yaml"


@cache
def processor(name: str) -> PatchLimits:
    """Return the limits of a known image processor (see ``vision_processors.yaml``)."""
    return PatchLimits(**read_yaml(_PROCESSORS)[name])


def qwen(vision: Config, _text: Config) -> VisionTower:
    """Tower of Qwen3-VL and Qwen3.5 (without DeepStack): transformers models/qwen3_vl."""
    hidden, heads = vision.whole("hidden_size"), vision.whole("num_heads")
    deep = vision.get("deepstack_visual_indexes") or []
    if hidden % heads:
        raise vision.problem(f"vision hidden_size {hidden} is not a multiple of num_heads {heads}")
    return VisionTower(
        layers=vision.whole("depth"),
        hidden=hidden,
        heads=heads,
        head_dim=hidden // heads,
        intermediate=vision.whole("intermediate_size"),
        patch=vision.whole("patch_size"),
        merge=vision.whole("spatial_merge_size"),
        out=vision.whole("out_hidden_size"),
        positions=vision.whole("num_position_embeddings"),
        frames=vision.whole("temporal_patch_size"),
        mergers=1 + len(deep),
        limits=processor("qwen"),
    )


def moonvit(vision: Config, text: Config) -> VisionTower:
    """MoonViT of Kimi-K2.5 and K3: vLLM model_executor/models/kimi_k25_vit.py."""
    hidden = vision.whole("vt_hidden_size", "hidden_size")
    heads = vision.whole("vt_num_attention_heads", "num_attention_heads")
    width = vision.whole("qkv_hidden_size", default=hidden)
    if width % heads:
        raise vision.problem(f"vision width {width} is not a multiple of its {heads} heads")
    later = vision.get("mm_projector_type") == "patchmergerv2"
    merge = vision.get("merge_kernel_size") or (2, 2)
    rows, columns = vision.whole("init_pos_emb_height"), vision.whole("init_pos_emb_width")
    return VisionTower(
        layers=vision.whole("vt_num_hidden_layers", "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=width // heads,
        intermediate=vision.whole("vt_intermediate_size", "intermediate_size"),
        patch=vision.whole("patch_size"),
        merge=int(merge[0]),
        out=vision.whole("text_hidden_size", default=text.whole("hidden_size")),
        positions=rows * columns,
        bias=vision.flag("linear_bias", True),
        layer_norm=vision.get("norm_type") != "rmsnorm",
        projector_split=False,
        post_norm=later,
        limits=processor("kimi_k3" if later else "kimi_k25"),
    )


def with_processor(tower: VisionTower, figures: Mapping[str, Any]) -> VisionTower:
    """Take the limits that a preprocessor_config.json states, as far as it does."""
    from dataclasses import replace

    size = figures.get("size") or {}
    media = figures.get("media_proc_cfg") or {}
    area = tower.patch**2
    least = size.get("shortest_edge") or figures.get("min_pixels")
    most = size.get("longest_edge") or figures.get("max_pixels")
    limits = tower.limits
    if tower.limits.rounding == "nearest":
        limits = replace(
            limits,
            least=math.ceil(least / area) if least else limits.least,
            most=int(most // area) if most else limits.most,
        )
    else:
        limits = replace(
            limits,
            most=int(media.get("in_patch_limit") or limits.most),
            side=int(media.get("patch_limit_on_one_side") or limits.side),
        )
    return replace(tower, limits=limits)
