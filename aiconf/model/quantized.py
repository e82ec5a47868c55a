"""How a checkpoint says its weights are stored, read into one `Quantization`.

Every scheme is asked the same question: in which format is the module of this name? Modules that
stand for a class of weights (``self_attn.q_proj``, ``mlp.experts.0.gate_proj``, ...) of a middle
layer are asked about, so that exclusion lists are honoured however they are spelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiconf.model.families.config import Config
from aiconf.model.spec import DenseFfn, LayerGroup, MoeFfn, Precision, Quantization

_ATTENTION = (
    "self_attn.q_proj",
    "self_attn.q_a_proj",
    "self_attn.q_b_proj",
    "linear_attn.in_proj_qkv",
    "linear_attn.in_proj_qkvz",
)
_OUTPUT = ("self_attn.o_proj", "linear_attn.out_proj")
_DENSE = ("mlp.gate_proj",)
_SHARED = ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj")
_EXPERTS = (
    "mlp.experts.0.gate_proj",
    "mlp.experts.gate_up_proj",
    "block_sparse_moe.experts.0.w1",
)
_MODELOPT: dict[str, Precision] = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8_block",
    "FP8_PB": "fp8_block",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_NVFP4": "nvfp4",  # the same weights; Hopper runs all nvfp4 with bf16 activations
    "W4A16_AWQ": "int4",
    "INT4_AWQ": "int4",
    "INT8_SQ": "int8",
    "MXFP4": "mxfp4",
    "MXFP8": "fp8_block",  # blocks of 32; no table knows them apart
}


@dataclass(frozen=True)
class _Scheme:
    """Formats by module pattern (the first match counts), what stays bf16, and the rest."""

    formats: tuple[tuple[str, Precision], ...]
    excluded: tuple[str, ...] = ()
    kv: str = "bf16"
    group: int = 128
    head: bool = False  # whether the scheme reaches the output head at all

    def precision(self, modules: Iterable[str]) -> Precision:
        """Return the format of a class of weights: excluded if any of its names is."""
        names = tuple(modules)
        if any(_matches(pattern, name) for pattern in self.excluded for name in names):
            return "bf16"
        for pattern, precision in self.formats:
            if any(_matches(pattern, name) for name in names):
                return precision
        return "bf16"


def read_quantization(
    config: Config,
    beside: Mapping[str, Any] | None,
    layers: tuple[LayerGroup, ...],
    place: str = "mlp.experts",
) -> Quantization:
    """Read the quantisation of a checkpoint.

    Parameters
    ----------
    config
        The section of config.json that may have ``quantization_config``.
    beside
        The parsed hf_quant_config.json of ModelOpt, where there is one; it comes first.
    layers
        The layers, to know which of them to ask about.
    place
        Where a layer holds its routed experts.

    Raises
    ------
    UserError
        For a scheme that is not known, by name with those that are.
    """
    scheme = _scheme(config, beside)
    if scheme is None:
        return Quantization()
    total = sum(group.count for group in layers)
    first = layers[0].count if len(layers) > 1 and isinstance(layers[0].ffn, DenseFfn) else 0
    middle, dense = (first + total) // 2, max(0, first - 1)
    sparse = any(isinstance(group.ffn, MoeFfn) for group in layers)
    shared = any(isinstance(g.ffn, MoeFfn) and g.ffn.shared_intermediate for g in layers)

    def ask(layer: int, modules: Iterable[str]) -> Precision:
        return scheme.precision(f"model.layers.{layer}.{module}" for module in modules)

    attention, output = ask(middle, _ATTENTION), ask(middle, _OUTPUT)
    has_dense = any(isinstance(group.ffn, DenseFfn) for group in layers)
    plain = ask(middle, _SHARED) if shared else ask(dense, _DENSE) if has_dense else "bf16"
    routed = [name.replace("mlp.experts", place) for name in _EXPERTS]
    experts = ask(middle, routed) if sparse else "bf16"
    weight_only = "int4" in (attention, output, plain, experts)
    return Quantization(
        attention=attention,
        dense=plain,
        experts=experts,
        lm_head=scheme.precision(["lm_head"]) if scheme.head else "bf16",
        kv="fp8" if scheme.kv == "fp8" else "bf16",
        output=None if output == attention else output,
        group=scheme.group if weight_only else 128,
    )


def _matches(pattern: str, module: str) -> bool:
    """Tell whether an entry of an exclusion list means a module.

    Entries are regular expressions (``re:``), globs, or names: of the module, of something that
    contains it, or of one part of its path (``gate`` is not ``gate_proj``).
    """
    if pattern in ("Linear", "*"):
        return True
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    pattern = pattern.replace("language_model.", "")
    if "*" in pattern:
        return fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*")
    return f".{pattern.strip('.')}." in f".{module}."


def _scheme(config: Config, beside: Mapping[str, Any] | None) -> _Scheme | None:
    stated = config.get("quantization_config")
    if beside and isinstance(beside.get("quantization"), Mapping):
        return _modelopt(config, beside["quantization"])
    if stated is None:
        return None
    if not isinstance(stated, Mapping):
        raise config.problem("'quantization_config' is not an object")
    method = stated.get("quant_method") or ("modelopt" if stated.get("quant_algo") else None)
    readers = {
        "fp8": _fp8,
        "fbgemm_fp8": _fp8,
        "mxfp4": _mxfp4,
        "compressed-tensors": _compressed,
        "modelopt": _modelopt,
        "modelopt_fp4": _modelopt,
        "awq": _weight_only,
        "gptq": _weight_only,
    }
    if method not in readers:
        known = ", ".join(readers)
        raise config.problem(f"quant_method '{method}' is not known; known are {known}")
    return readers[method](config, stated)


def _excluded(stated: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("exclude_modules", "ignore", "modules_to_not_convert", "ignored_layers")
    return tuple(entry for key in keys for entry in (stated.get(key) or ()))


def _fp8(config: Config, stated: Mapping[str, Any]) -> _Scheme:
    block = stated.get("weight_block_size")
    if block and list(block) != [128, 128]:
        raise config.problem(f"weight_block_size {block} is not known; known is [128, 128]")
    return _Scheme((("*", "fp8_block" if block else "fp8"),), _excluded(stated))


def _mxfp4(_: Config, stated: Mapping[str, Any]) -> _Scheme:
    """Only experts are converted, whatever the exclusion list says (as engines load it)."""
    return _Scheme((("experts", "mxfp4"),), _excluded(stated))


def _weight_only(config: Config, stated: Mapping[str, Any]) -> _Scheme:
    bits = stated.get("bits", stated.get("w_bit", 4))
    if bits != 4:
        raise config.problem(f"weight-only quantisation to {bits} bits is not known; known is 4")
    group = stated.get("group_size", stated.get("q_group_size", 128))
    return _Scheme((("*", "int4"),), _excluded(stated), group=group if group > 0 else 128)


def _compressed(config: Config, stated: Mapping[str, Any]) -> _Scheme:
    groups = (stated.get("config_groups") or {}).values()
    formats = [
        (target, _format(config, group.get("weights") or {}))
        for group in groups
        for target in group.get("targets") or ["Linear"]
    ]
    sizes = [(group.get("weights") or {}).get("group_size") for group in groups]
    specific_first = sorted(formats, key=lambda entry: entry[0] == "Linear")
    return _Scheme(
        tuple(specific_first),
        _excluded(stated),
        _kv(stated.get("kv_cache_scheme")),
        next((size for size in sizes if size), 128),
        head=True,
    )


def _format(config: Config, weights: Mapping[str, Any]) -> Precision:
    kind, bits = weights.get("type"), weights.get("num_bits")
    if kind == "float" and bits == 8:
        return "fp8_block" if weights.get("strategy") == "block" else "fp8"
    if kind == "float" and bits == 4:
        return "mxfp4" if weights.get("group_size") == 32 else "nvfp4"
    if kind == "int" and bits in (4, 8):
        return "int4" if bits == 4 else "int8"
    raise config.problem(f"weights of {bits} bits of type {kind} are not known")


def _modelopt(config: Config, stated: Mapping[str, Any]) -> _Scheme:
    algorithm = str(stated.get("quant_algo") or "").upper()
    kv = _kv(stated.get("kv_cache_quant_algo") or stated.get("kv_cache_scheme"))
    if algorithm == "MIXED_PRECISION":
        formats = tuple(
            (name, _algorithm(config, layer.get("quant_algo")))
            for name, layer in (stated.get("quantized_layers") or {}).items()
        )
    elif not algorithm:
        formats = ()
    else:
        formats = (("*", _algorithm(config, algorithm)),)
    size = stated.get("group_size") or 128
    return _Scheme(formats, _excluded(stated), kv, size, head=True)


def _algorithm(config: Config, name: object) -> Precision:
    found = _MODELOPT.get(str(name).upper())
    if found is None:
        raise config.problem(f"quant_algo '{name}' is not known; known are {', '.join(_MODELOPT)}")
    return found


def _kv(stated: object) -> str:
    """Tell fp8 from the spellings in use: ``FP8``, or an object with 8 float bits."""
    if isinstance(stated, Mapping):
        return "fp8" if stated.get("num_bits") == 8 else "bf16"
    return "fp8" if str(stated).upper() == "FP8" else "bf16"
