"""Mistral's own ``params.json`` in the words of config.json.

Which key becomes which: vllm-project/vllm transformers_utils/configs/mistral.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiconf.model.families.config import Config, shown

_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
_EXPERT_KEYS = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "expert_hidden_dim": "moe_intermediate_size",
    "num_shared_experts": "n_shared_experts",
    "first_k_dense_replace": "first_k_dense_replace",
    "route_every_n": "moe_layer_freq",
}
_CONTEXT = 128_000  # where params.json states none, as vLLM assumes


def is_params(figures: Mapping[str, Any]) -> bool:
    """Tell Mistral's own file from config.json."""
    return "dim" in figures and "n_layers" in figures and "architectures" not in figures


def from_params(figures: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the figures under the keys of config.json.

    Raises
    ------
    UserError
        For weights in a format that is not known, or layers of another kind.
    """
    config = Config(figures, source)
    found = {_KEYS.get(key, key): value for key, value in figures.items()}
    found["max_position_embeddings"] = (
        config.get("max_position_embeddings") or config.get("max_seq_len") or _CONTEXT
    )
    moe = config.section("moe") if config.get("moe") else None
    if config.get("model_type") == "mamba":
        raise config.problem("'model_type' mamba means a state-space layer; it is not modelled")
    latent = bool(config.get("kv_lora_rank"))
    if moe is not None:
        for key, name in _EXPERT_KEYS.items():
            if moe.get(key) is not None:
                found[name] = moe.get(key)
    if latent and moe is not None:
        found["architectures"] = ["MistralLarge3ForCausalLM"]
    elif latent:
        raise config.problem("latent attention without experts is not modelled")
    elif moe is not None:
        found["architectures"] = ["MixtralForCausalLM"]
        found["num_local_experts"] = moe.get("num_experts")
    else:
        found["architectures"] = ["MistralForCausalLM"]
    if isinstance(config.get("sliding_window"), list):
        raise config.problem("a list of windows is not modelled")
    stated = config.section("quantization") if config.get("quantization") else None
    if stated is not None and stated.get("qformat_weight") == "fp8_e4m3":
        found["quantization_config"] = {"quant_method": "fp8"}
    elif stated is not None and stated.get("config_groups"):
        found["quantization_config"] = {
            **dict(figures["quantization"]),
            "quant_method": "compressed-tensors",
        }
    elif stated is not None:
        kind = shown(stated.get("qformat_weight"))
        raise config.problem(f"weights of '{kind}' are not known; known is fp8_e4m3")
    return found
