"""Llama, Mistral, Phi, Qwen2 and Qwen3: grouped attention, one gated feed-forward per layer."""

from __future__ import annotations

from dataclasses import replace

from aiconf.model.families import tower
from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, DenseFfn, LayerGroup


def llama(config: Config) -> tuple[LayerGroup, ...]:
    """Read LlamaForCausalLM."""
    bias = config.flag("attention_bias")
    return _uniform(config, _attention(config, bias=bias, output_bias=bias))


def mistral(config: Config) -> tuple[LayerGroup, ...]:
    """Read MistralForCausalLM: the window, where there is one, holds in every layer."""
    window = config.whole("sliding_window", default=0, least=0) or None
    return _uniform(config, replace(_attention(config), window=window))


def phi3(config: Config) -> tuple[LayerGroup, ...]:
    """Read Phi3ForCausalLM (Phi-3, Phi-4); a window as long as the context is none."""
    window = config.whole("sliding_window", default=0, least=0)
    seen = window if 0 < window < config.whole("max_position_embeddings") else None
    return _uniform(config, replace(_attention(config), window=seen))


def qwen2(config: Config) -> tuple[LayerGroup, ...]:
    """Read Qwen2ForCausalLM: biases on q, k and v."""
    return _late_windows(config, _attention(config, bias=True))


def qwen3(config: Config) -> tuple[LayerGroup, ...]:
    """Read Qwen3ForCausalLM: norms on q and k."""
    bias = config.flag("attention_bias")
    return _late_windows(config, _attention(config, bias=bias, output_bias=bias, qk_norm=True))


def _attention(config: Config, **traits: bool) -> Attention:
    heads, kv_heads, size = config.head_counts()
    return Attention("gqa", heads, kv_heads, size, size, **traits)


def _uniform(config: Config, attention: Attention) -> tuple[LayerGroup, ...]:
    ffn = DenseFfn(config.whole("intermediate_size"))
    return (LayerGroup(config.whole("num_hidden_layers"), attention, ffn),)


def _late_windows(config: Config, attention: Attention) -> tuple[LayerGroup, ...]:
    """Qwen windows the layers from ``max_window_layers`` on, if it windows any."""
    (group,) = _uniform(config, attention)
    window = config.whole("sliding_window", default=0, least=0)
    if not config.flag("use_sliding_window") or not window:
        return (group,)
    full = min(group.count, config.whole("max_window_layers", default=group.count, least=0))
    parts = (
        LayerGroup(full, attention, group.ffn),
        LayerGroup(group.count - full, replace(attention, window=window), group.ffn),
    )
    return tuple(part for part in parts if part.count)


ARCHITECTURES = {
    "LlamaForCausalLM": Family(llama),
    "GraniteForCausalLM": Family(llama),
    "Phi3ForCausalLM": Family(phi3),
    "Phi4MMForCausalLM": Family(phi3),
    "MistralForCausalLM": Family(mistral),
    "MiMoForCausalLM": Family(qwen2),
    "Qwen2ForCausalLM": Family(qwen2),
    "Qwen3ForCausalLM": Family(qwen3),
    "Qwen3VLForConditionalGeneration": Family(qwen3, section="text_config", vision=tower.qwen),
}
