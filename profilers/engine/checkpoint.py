"""A model folder without weights: config.json and a tokenizer of made-up words.

Engines start from it with dummy weights and without a network. The config is written from the
embedded figures of a model and read back with aiconf's own reader: a folder that would be
another model is refused. The tokenizer has one word per id (tokenizers' WordLevel model), so that
any sampled id is a piece of text.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from aiconf.errors import UserError
from aiconf.model import ModelSpec
from aiconf.model.checkpoint import read_config
from aiconf.model.spec import Attention, DenseFfn, MoeFfn

_DENSE = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_MOE = {  # the key of the number of experts, and of the width of one
    "MixtralForCausalLM": ("num_local_experts", "intermediate_size"),
    "Qwen3MoeForCausalLM": ("num_experts", "moe_intermediate_size"),
}
_MODEL_TYPE = {
    "LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3", "MixtralForCausalLM": "mixtral",
    "Qwen3MoeForCausalLM": "qwen3_moe",
}  # fmt: skip
# As the checkpoints state them: quantised while loading (fp8), or in blocks of 128 x 128.
_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
_QUANTIZED: dict[str, dict[str, Any]] = {
    "bf16": {},
    "fp8": {"quantization_config": _FP8},
    "fp8_block": {"quantization_config": _FP8 | {"weight_block_size": [128, 128]}},
}


def write_checkpoint(spec: ModelSpec, folder: Path) -> Path:
    """Write config.json and tokenizer of ``spec`` into ``folder`` and return it.

    Raises
    ------
    UserError
        The model's figures do not say all that its config.json needs: give the checkpoint's own.
    """
    figures = config_of(spec)
    back = read_config(figures, spec.checkpoint)
    same = (back.layers, back.hidden, back.vocab, back.tied_embeddings, back.quantization)
    if same != (spec.layers, spec.hidden, spec.vocab, spec.tied_embeddings, spec.quantization):
        raise _incomplete(spec)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", figures)
    write_tokenizer(spec.vocab, spec.max_context, folder)
    return folder


def _incomplete(spec: ModelSpec) -> UserError:
    return UserError(
        f"{spec.checkpoint} ({spec.architecture}): no config.json can be made from its embedded "
        "figures; give a folder with the checkpoint's config.json instead"
    )


def config_of(spec: ModelSpec) -> dict[str, Any]:
    """Return the figures of a config.json of the Hugging Face form for a model of equal layers."""
    group = spec.layers[0]
    attention, ffn = group.attention, group.ffn
    known = spec.architecture in _MODEL_TYPE and len(spec.layers) == 1
    stated = spec.quantization.attention
    if not known or not isinstance(attention, Attention) or stated not in _QUANTIZED:
        raise _incomplete(spec)
    figures: dict[str, Any] = {
        "architectures": [spec.architecture],
        "model_type": _MODEL_TYPE[spec.architecture],
        "torch_dtype": "bfloat16",
        "hidden_size": spec.hidden,
        "vocab_size": spec.vocab,
        "num_hidden_layers": group.count,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "max_position_embeddings": spec.max_context,
        "tie_word_embeddings": spec.tied_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "sliding_window": attention.window,
        **_QUANTIZED[stated],
    }
    if spec.architecture in _DENSE and isinstance(ffn, DenseFfn):
        return figures | {"intermediate_size": ffn.intermediate}
    if spec.architecture in _MOE and isinstance(ffn, MoeFfn):
        experts, width = _MOE[spec.architecture]
        return figures | {
            "intermediate_size": ffn.intermediate, experts: ffn.experts, width: ffn.intermediate,
            "num_experts_per_tok": ffn.topk, "norm_topk_prob": True, "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }  # fmt: skip
    raise _incomplete(spec)


def write_tokenizer(vocab: int, max_context: int, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json with ``vocab`` words."""
    special = ["<unk>", "<eos>"]
    words = special + [f"w{number}" for number in range(len(special), vocab)]
    added = [
        {
            "id": number, "content": word, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
        for number, word in enumerate(special)
    ]  # fmt: skip
    _write(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None, "decoder": None,
        "model": {
            "type": "WordLevel", "unk_token": special[0],
            "vocab": {word: number for number, word in enumerate(words)},
        },
    })  # fmt: skip
    _write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": special[0],
        "eos_token": special[1], "bos_token": special[1], "model_max_length": max_context,
    })  # fmt: skip


def digest(folder: Path) -> str:
    """First 12 digits of the checksum of a folder's config.json."""
    return hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]


def _write(path: Path, figures: Any) -> None:
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(json.dumps(figures, indent=None), encoding="utf-8")
    staged.replace(path)
