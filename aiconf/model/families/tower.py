"""Vision towers: from the keys of ``vision_config`` to a `VisionTower`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.model.families.config import Config
from aiconf.model.vision import PatchLimits, VisionTower
from aiconf.resources import read_yaml

SECTION = "vision_config"
_PROCESSORS = Path(__file__).parents[1] / "vision_processors.yaml"


@cache
def processor(name: str) -> PatchLimits:
    """Return the limits of a known image processor (see ``vision_processors.yaml``)."""
    return PatchLimits(**read_yaml(_PROCESSORS)[name])


def qwen(config: Config, _text: Config) -> VisionTower:
    """Tower of Qwen3-VL and Qwen3.5 (without DeepStack): transformers models/qwen3_vl."""
    vision = config.section(SECTION)
    hidden, heads = vision.whole("hidden_size"), vision.whole("num_heads")
    deep = vision.get("deepstack_visual_indexes") or []
    if not isinstance(deep, list):
        raise vision.problem(f"'deepstack_visual_indexes' must be a list: {deep}")
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


def moonvit(config: Config, text: Config) -> VisionTower:
    """MoonViT of Kimi-K2.5 and K3: vLLM model_executor/models/kimi_k25_vit.py."""
    vision = config.section(SECTION)
    hidden = vision.whole("vt_hidden_size", "hidden_size")
    heads = vision.whole("vt_num_attention_heads", "num_attention_heads")
    width = vision.whole("qkv_hidden_size", default=hidden)
    if width % heads:
        raise vision.problem(f"vision width {width} is not a multiple of its {heads} heads")
    later = vision.get("mm_projector_type") == "patchmergerv2"
    merge = vision.get("merge_kernel_size")
    if not isinstance(merge, list) or len(set(map(str, merge))) != 1 or str(merge[0]) != "2":
        raise vision.problem(f"'merge_kernel_size' must be [2, 2]: {merge}")
    rows, columns = vision.whole("init_pos_emb_height"), vision.whole("init_pos_emb_width")
    return VisionTower(
        layers=vision.whole("vt_num_hidden_layers", "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=width // heads,
        intermediate=vision.whole("vt_intermediate_size", "intermediate_size"),
        patch=vision.whole("patch_size"),
        merge=2,
        out=vision.whole("text_hidden_size", default=text.whole("hidden_size")),
        positions=rows * columns,
        bias=vision.flag("linear_bias", True),
        layer_norm=vision.get("norm_type") != "rmsnorm",
        projector_split=False,
        post_norm=later,
        limits=processor("kimi_k3" if later else "kimi_k25"),
    )


def siglip(config: Config, text: Config) -> VisionTower:
    """SigLIP of Gemma-3, whose patches are averaged to a fixed number of tokens.

    transformers models/siglip/modeling_siglip.py and models/gemma3/modeling_gemma3.py,
    Gemma3MultiModalProjector.
    """
    vision = config.section(SECTION)
    hidden, heads = vision.whole("hidden_size"), vision.whole("num_attention_heads")
    patch, tokens = vision.whole("patch_size"), config.whole("mm_tokens_per_image", default=256)
    side = vision.whole("image_size") // patch
    merge = side // max(math.isqrt(tokens), 1)
    if hidden % heads or not merge or (side // merge) ** 2 != tokens:
        raise vision.problem(
            f"{heads} heads of hidden_size {hidden}, or {side} x {side} patches of an image that "
            f"become {tokens} tokens, do not divide"
        )
    return VisionTower(
        layers=vision.whole("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=hidden // heads,
        intermediate=vision.whole("intermediate_size"),
        patch=patch,
        merge=merge,
        out=text.whole("hidden_size"),
        positions=side**2,
        projector_split=False,
        pooled=True,
        limits=PatchLimits("fixed", side**2, side**2),
    )


def with_processor(tower: VisionTower, figures: Mapping[str, Any], source: str) -> VisionTower:
    """Take the limits that a preprocessor_config.json states, as far as it does.

    Raises
    ------
    UserError
        A limit is no positive number, or the least exceeds the most; ``source`` is the file.
    """

    def stated(*places: tuple[object, str]) -> float | None:
        for section, key in places:
            value = section.get(key) if isinstance(section, Mapping) else None
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
                raise UserError(f"{source}: '{key}' must be a positive number: {value}")
            return value
        return None

    size, media = figures.get("size"), figures.get("media_proc_cfg")
    limits, area = tower.limits, tower.patch**2
    if limits.rounding == "nearest":
        least = stated((size, "shortest_edge"), (figures, "min_pixels"))
        most = stated((size, "longest_edge"), (figures, "max_pixels"))
        limits = replace(
            limits,
            least=math.ceil(least / area) if least else limits.least,
            most=int(most // area) if most else limits.most,
        )
    elif limits.rounding == "pad":
        most, side = stated((media, "in_patch_limit")), stated((media, "patch_limit_on_one_side"))
        limits = replace(limits, most=int(most or limits.most), side=int(side or limits.side))
    if not tower.merge**2 <= limits.most >= limits.least:
        raise UserError(
            f"{source}: images of {limits.least} to {limits.most} patches of {tower.patch} pixels "
            "cannot be"
        )
    return replace(tower, limits=limits)
