"""Dense decoders that differ from Llama in small things: biases, norms, windows, no gate.

What each has is read in its modeling file (huggingface/transformers, models/NAME; InternLM2's is
in vllm-project/vllm, model_executor/models).
"""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families.config import Config
from aiconf.model.families.dense import mistral, qwen2
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, DenseFfn, LayerGroup

Layers = tuple[LayerGroup, ...]


def windowed_layers(
    config: Config, full: Attention, ffn: DenseFfn, norms: int = 2, every: int = 0
) -> Layers:
    """Return equal layers, some of which see a window.

    Which ones: ``layer_types``; without it all but every ``every``-th layer, or none (0).
    """
    layers = config.whole("num_hidden_layers")
    kinds = config.kinds("layer_types")
    if kinds is None:
        windowed = layers - layers // every if every else 0
    else:
        unknown = sorted(set(kinds) - {"full_attention", "sliding_attention"})
        if unknown:
            raise config.problem(f"layer type '{unknown[0]}' is not modelled")
        windowed = kinds.count("sliding_attention")
    groups = [LayerGroup(layers - windowed, full, ffn, norms)]
    if windowed:
        seen = replace(full, window=config.whole("sliding_window"))
        groups.insert(0, LayerGroup(windowed, seen, ffn, norms))
    return tuple(group for group in groups if group.count)


def olmo(config: Config) -> Layers:
    """Read OlmoForCausalLM: norms without weights."""
    return _plain(config, bias=config.flag("attention_bias"))


def olmo2(config: Config) -> Layers:
    """Read Olmo2ForCausalLM and Olmo3ForCausalLM: norms behind the blocks, q and k normed whole."""
    attention = _attention(config, qk_norm=True, qk_norm_joint=True)
    return windowed_layers(config, attention, _ffn(config))


def cohere(config: Config) -> Layers:
    """Read CohereForCausalLM (Command-R): one norm, attention and feed-forward side by side."""
    attention = _attention(
        config, bias=config.flag("attention_bias"), qk_norm=config.flag("use_qk_norm")
    )
    return windowed_layers(config, attention, _ffn(config), norms=1)


def cohere2(config: Config) -> Layers:
    """Read Cohere2ForCausalLM (Command-R7B, Command-A): windows in three of four layers."""
    every = config.whole("sliding_window_pattern", default=4)
    attention = _attention(config, bias=config.flag("attention_bias"))
    return windowed_layers(config, attention, _ffn(config), norms=1, every=every)


def seed_oss(config: Config) -> Layers:
    """Read SeedOssForCausalLM: biases on q, k and v."""
    attention = _attention(
        config, bias=config.flag("attention_bias"), output_bias=config.flag("attention_out_bias")
    )
    return windowed_layers(config, attention, _ffn(config))


def exaone4(config: Config) -> Layers:
    """Read Exaone4ForCausalLM: norms on q and k and behind the blocks, windows in some layers."""
    if config.get("sliding_window") and config.get("layer_types") is None:
        raise config.problem("sliding_window without layer_types is not modelled")
    return windowed_layers(config, _attention(config, qk_norm=True), _ffn(config))


def glm4(config: Config) -> Layers:
    """Read Glm4ForCausalLM (GLM-4-0414): biases on q, k and v, norms before and behind."""
    attention = _attention(config, bias=config.flag("attention_bias"))
    return windowed_layers(config, attention, _ffn(config), norms=4)


def gemma(config: Config) -> Layers:
    """Read GemmaForCausalLM."""
    return _plain(config, bias=config.flag("attention_bias"))


def gemma2(config: Config) -> Layers:
    """Read Gemma2ForCausalLM: every second layer sees a window, norms before and behind."""
    attention = _attention(config, bias=config.flag("attention_bias"))
    return windowed_layers(config, attention, _ffn(config), norms=4, every=2)


def ungated(config: Config) -> Layers:
    """Read NemotronForCausalLM and ArceeForCausalLM: ReLU^2 of up alone, no gate."""
    bias = config.flag("attention_bias")
    attention = _attention(config, bias=bias, output_bias=bias)
    return windowed_layers(config, attention, DenseFfn(config.whole("intermediate_size"), False))


def apertus(config: Config) -> Layers:
    """Read ApertusForCausalLM: no gate, norms on q and k."""
    attention = _attention(config, bias=config.flag("attention_bias"), qk_norm=True)
    return windowed_layers(config, attention, DenseFfn(config.whole("intermediate_size"), False))


def starcoder2(config: Config) -> Layers:
    """Read Starcoder2ForCausalLM: biases, no gate, one window for all layers."""
    bias = config.flag("use_bias", default=True)
    window = config.whole("sliding_window", default=0, least=0) or None
    attention = replace(_attention(config, bias=bias, output_bias=bias), window=window)
    ffn = DenseFfn(config.whole("intermediate_size"), gated=False)
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


def internlm(config: Config) -> Layers:
    """Read InternLM2ForCausalLM (``bias``) and InternLM3ForCausalLM (``qkv_bias`` too)."""
    bias = config.flag("bias")
    return _plain(config, bias=config.flag("qkv_bias", default=bias), output_bias=bias)


def ernie(config: Config) -> Layers:
    """Read Ernie4_5ForCausalLM."""
    bias = config.flag("use_bias")
    return _plain(config, bias=bias, output_bias=bias)


def hunyuan(config: Config) -> Layers:
    """Read HunYuanDenseV1ForCausalLM: norms on q and k."""
    return _plain(config, bias=config.flag("attention_bias"), qk_norm=True)


def _plain(config: Config, **traits: bool) -> Layers:
    group = LayerGroup(
        config.whole("num_hidden_layers"), _attention(config, **traits), _ffn(config)
    )
    return (group,)


def _attention(config: Config, **traits: bool) -> Attention:
    heads, kv_heads, size = config.head_counts()
    return Attention("gqa", heads, kv_heads, size, size, **traits)


def _ffn(config: Config) -> DenseFfn:
    return DenseFfn(config.whole("intermediate_size"))


ARCHITECTURES = {
    "ApertusForCausalLM": Family(apertus),
    "ArceeForCausalLM": Family(ungated),
    "CohereForCausalLM": Family(cohere, tied=True),
    "Cohere2ForCausalLM": Family(cohere2, tied=True),
    "Ernie4_5ForCausalLM": Family(ernie, tied=True),
    "Exaone4ForCausalLM": Family(exaone4),
    "GemmaForCausalLM": Family(gemma, tied=True),
    "Gemma2ForCausalLM": Family(gemma2, tied=True),
    "Glm4ForCausalLM": Family(glm4),
    "HunYuanDenseV1ForCausalLM": Family(hunyuan),
    "InternLM2ForCausalLM": Family(internlm),
    "InternLM3ForCausalLM": Family(internlm),
    "Ministral3ForCausalLM": Family(mistral),
    "NemotronForCausalLM": Family(ungated),
    "OlmoForCausalLM": Family(olmo),
    "Olmo2ForCausalLM": Family(olmo2),
    "Olmo3ForCausalLM": Family(olmo2),
    "Qwen2VLForConditionalGeneration": Family(qwen2),
    "Qwen2_5_VLForConditionalGeneration": Family(qwen2),
    "SeedOssForCausalLM": Family(seed_oss),
    "SmolLM3ForCausalLM": Family(olmo, tied=True),
    "Starcoder2ForCausalLM": Family(starcoder2, tied=True),
}
