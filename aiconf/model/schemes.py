"""Quantisation schemes of checkpoints: what each says, in one form that can be asked by module.

Sources: huggingface/transformers utils/quantization_config.py; vllm-project/vllm
model_executor/layers/quantization; the checkpoints' own files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiconf.model.families.config import Config, shown
from aiconf.model.module_names import Patterns
from aiconf.model.spec import Precision

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
    "W8A8_SQ_PER_CHANNEL": "int8",
    "INT8_SQ": "int8",
    "MXFP4": "mxfp4",
    "MXFP8": "fp8_block",  # blocks of 32; no table knows them apart
}
_EXCLUDED = ("exclude_modules", "ignore", "modules_to_not_convert", "ignored_layers", "exclude")


_NONE = Patterns(())


@dataclass(frozen=True)
class Scheme:
    """Formats by module (the first match counts), what stays as it was, and the rest bf16.

    rest: format of what no entry means. head: whether the scheme reaches the output head.
    """

    formats: tuple[tuple[Patterns, Precision], ...]
    excluded: Patterns = _NONE
    rest: Precision = "bf16"
    kv: str = "bf16"
    group: int = 128
    head: bool = False
    notes: tuple[str, ...] = ()

    def precision(self, modules: Iterable[str]) -> Precision:
        """Return the format of a class of weights: excluded if any of its names is."""
        names = tuple(modules)
        if any(self.excluded.match(name) for name in names):
            return "bf16"
        for patterns, precision in self.formats:
            if any(patterns.match(name) for name in names):
                return precision
        return self.rest


def read_scheme(config: Config, beside: Mapping[str, Any] | None) -> Scheme | None:
    """Read the scheme of a checkpoint, None where its weights are not quantised.

    Parameters
    ----------
    config
        What may have ``quantization_config``.
    beside
        The parsed hf_quant_config.json of ModelOpt, where there is one; it comes first.

    Raises
    ------
    UserError
        For a scheme that is not known, by name with those that are.
    """
    stated = config.get("quantization_config")
    try:
        own = None if stated is None else _own(config, stated)
        listed = (beside or {}).get("quantization")
        if listed is None or (own is not None and _mixed_fp8(stated)):
            return own
        return _modelopt(config, _object(config, "quantization", listed))
    except re.error as problem:
        raise config.problem(f"quantization_config: not a regular expression: {problem}") from None


def _mixed_fp8(stated: object) -> bool:
    """Tell blocks of fp8 with experts of another format, where both files list the experts."""
    return isinstance(stated, Mapping) and stated.get("quant_method") == "fp8"


def _own(config: Config, stated: object) -> Scheme:
    found = _object(config, "quantization_config", stated)
    method = found.get("quant_method") or ("modelopt" if found.get("quant_algo") else None)
    reader = _READERS.get(str(method).lower().replace("_", "-"))
    if reader is None:
        raise config.problem(
            f"quant_method '{shown(method)}' is not known; known are {', '.join(_READERS)}"
        )
    return reader(config, found)


def _object(config: Config, name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise config.problem(f"'{name}' is not an object: {shown(value)}")
    return value


def _objects(config: Config, stated: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    """Return an object of objects, empty where the key is absent."""
    inner = _object(config, key, stated.get(key) or {})
    return {str(name): _object(config, f"{key}.{name}", value) for name, value in inner.items()}


def _names(config: Config, key: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise config.problem(f"'{key}' must be a list of names: {shown(value)}")
    return tuple(value)


def _excluded(config: Config, stated: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(entry for key in _EXCLUDED for entry in _names(config, key, stated.get(key)))


def _group(config: Config, stated: Mapping[str, Any], *keys: str) -> int:
    """Return weights per scale; -1 and nothing mean a whole column, whose scales hardly count."""
    size = next((stated[key] for key in keys if stated.get(key) is not None), 128)
    if isinstance(size, bool) or not isinstance(size, int) or size == 0 or not -1 <= size <= 2**20:
        raise config.problem(f"'{keys[0]}' must be a whole number: {shown(size)}")
    return size if size > 0 else 128


def _fp8(config: Config, stated: Mapping[str, Any]) -> Scheme:
    """Per tensor, per channel, or in blocks; ``quantized_layers`` are in another format."""
    block = stated.get("weight_block_size")
    if block and block != [128, 128]:
        raise config.problem(f"weight_block_size {shown(block)} is not known; known is [128, 128]")
    kind: Precision = "fp8_block" if block else "fp8"
    others = _layers(config, stated)
    if others:
        return Scheme(others, rest=kind)
    return Scheme((), Patterns(_excluded(config, stated)), rest=kind)


def _mxfp4(config: Config, stated: Mapping[str, Any]) -> Scheme:
    """Only experts are converted, whatever the exclusion list says (as engines load it)."""
    return Scheme(((Patterns(["experts"]), "mxfp4"),), Patterns(_excluded(config, stated)))


def _weight_only(config: Config, stated: Mapping[str, Any]) -> Scheme:
    """AWQ, GPTQ and AutoRound; some state exceptions by module (``dynamic``, ``extra_config``)."""
    bits = stated.get("bits", stated.get("w_bit", 4))
    if bits != 4 or stated.get("data_type", "int") != "int":
        raise config.problem(
            f"weight-only quantisation to {shown(bits)} bits of type "
            f"{shown(stated.get('data_type', 'int'))} is not known; known is 4 bits of type int"
        )
    excluded = [*_excluded(config, stated)]
    for rule in _objects(config, stated, "dynamic"):  # GPTQModel: "-:" leaves out
        if not rule.startswith("-:"):
            raise config.problem(f"the rule '{shown(rule)}' of 'dynamic' is not modelled")
        excluded.append(f"re:.*(?:{rule[2:]})")
    for module, other in _objects(config, stated, "extra_config").items():  # AutoRound
        if other.get("bits", 4) in (16, 32):
            excluded.append(module)
        elif other.get("bits", 4) != 4:
            raise config.problem(f"{shown(other['bits'])} bits in '{shown(module)}' are not known")
    group = _group(config, stated, "group_size", "q_group_size")
    return Scheme((), Patterns(excluded), rest="int4", group=group)


def _compressed(config: Config, stated: Mapping[str, Any]) -> Scheme:
    found: list[tuple[str, Precision]] = []
    sizes = []
    for name, group in _objects(config, stated, "config_groups").items():
        weights = _object(config, f"config_groups.{name}.weights", group.get("weights") or {})
        kind = _format(config, weights, group.get("input_activations"))
        targets = _names(config, "targets", group.get("targets")) or ("Linear",)
        found += [(target, kind) for target in targets]
        if kind == "int4" and weights.get("group_size"):
            sizes.append(_group(config, weights, "group_size"))
    if not found:
        raise config.problem("'quantization_config' has no config_groups")
    specific_first = sorted(found, key=lambda entry: entry[0] == "Linear")
    kv, notes = _kv(stated.get("kv_cache_scheme"))
    return Scheme(
        tuple((Patterns([target]), kind) for target, kind in specific_first),
        Patterns(_excluded(config, stated)),
        kv=kv,
        group=sizes[0] if sizes else 128,
        head=True,
        notes=notes,
    )


def _format(config: Config, weights: Mapping[str, Any], inputs: object) -> Precision:
    kind, bits = weights.get("type"), weights.get("num_bits")
    strategy = weights.get("strategy")
    if kind == "float" and bits == 8 and strategy != "group":
        block = weights.get("block_structure")
        if strategy == "block" and block not in (None, [128, 128], "128x128"):
            raise config.problem(f"block_structure {shown(block)} is not known: [128, 128] is")
        return "fp8_block" if strategy == "block" else "fp8"
    if kind == "float" and bits == 4:
        return "mxfp4" if weights.get("group_size") == 32 else "nvfp4"
    if kind == "int" and bits == 4:
        return "int4"
    if kind == "int" and bits == 8 and inputs is not None:
        return "int8"
    alone = "" if inputs is not None else " (weight only)"
    raise config.problem(
        f"weights of {shown(bits)} bits of type {shown(kind)} {shown(strategy)}{alone} are not "
        "known; known are 8 and 4 bits of type float, 4 of type int, and 8 of type int with "
        "quantised activations"
    )


def _quark(config: Config, stated: Mapping[str, Any]) -> Scheme:
    """AMD Quark: one scheme for all, others by module."""
    found = _quark_format(config, stated.get("global_quant_config"))
    layers = tuple(
        (Patterns([name]), _quark_format(config, rule))
        for name, rule in _objects(config, stated, "layer_quant_config").items()
    )
    cache = _object(config, "kv_cache_quant_config", stated.get("kv_cache_quant_config") or {})
    excluded = Patterns(_excluded(config, stated))
    return Scheme(layers, excluded, rest=found, kv="fp8" if cache else "bf16")


def _quark_format(config: Config, rule: object) -> Precision:
    weights = _object(config, "global_quant_config", rule).get("weight") or {}
    if isinstance(weights, list):  # formats laid over each other
        raise config.problem("weights of Quark in two formats at once are not known")
    stated = _object(config, "weight", weights)
    kind, scheme = stated.get("dtype"), stated.get("qscheme")
    if kind == "fp8_e4m3" and scheme in ("per_tensor", "per_channel"):
        return "fp8"
    if kind == "fp4" and stated.get("group_size") == 32:
        return "mxfp4"
    if kind == "int8":
        return "int8"
    raise config.problem(
        f"weights of Quark as {shown(kind)} {shown(scheme)} are not known; known are fp8_e4m3 "
        "per_tensor or per_channel, fp4 in groups of 32, int8"
    )


def _modelopt(config: Config, stated: Mapping[str, Any]) -> Scheme:
    algorithm = str(stated.get("quant_algo") or "").upper()
    kv, notes = _kv(stated.get("kv_cache_quant_algo") or stated.get("kv_cache_scheme"))
    mixed = algorithm == "MIXED_PRECISION"
    found = Scheme(
        _layers(config, stated) if mixed else (),
        Patterns(_excluded(config, stated)),
        rest="bf16" if mixed or not algorithm else _algorithm(config, algorithm),
        kv=kv,
        group=_group(config, stated, "group_size"),
        head=mixed,  # an output head is quantised where a list names it, not otherwise
        notes=notes,
    )
    if not mixed or found.formats:
        return found
    raise config.problem("quant_algo MIXED_PRECISION without quantized_layers")


def _layers(config: Config, stated: Mapping[str, Any]) -> tuple[tuple[Patterns, Precision], ...]:
    """Return formats that are stated module by module."""
    names: dict[Precision, list[str]] = {}
    for name, layer in _objects(config, stated, "quantized_layers").items():
        names.setdefault(_algorithm(config, layer.get("quant_algo")), []).append(name)
    return tuple((Patterns(listed), kind) for kind, listed in names.items())


def _algorithm(config: Config, name: object) -> Precision:
    found = _MODELOPT.get(str(name).upper())
    if found is None:
        raise config.problem(
            f"quant_algo '{shown(name)}' is not known; known are {', '.join(_MODELOPT)}"
        )
    return found


def _kv(stated: object) -> tuple[str, tuple[str, ...]]:
    """Return the cache's format from the spellings in use, and what was assumed of it."""
    if isinstance(stated, Mapping):
        kind = f"{stated.get('type')}{stated.get('num_bits')}".lower()
    else:
        kind = str(stated or "").lower()
    if kind in ("fp8", "float8", "fp8_e4m3"):
        return "fp8", ()
    if kind in ("", "none", "auto", "bf16", "bfloat16", "fp16", "float16"):
        return "bf16", ()
    return "fp8", (f"a KV cache of '{shown(kind)}' is taken as fp8",)


def _plain(kind: Precision) -> Callable[[Config, Mapping[str, Any]], Scheme]:
    """Return the reader of a scheme that has one format."""

    def read(config: Config, stated: Mapping[str, Any]) -> Scheme:
        return Scheme((), Patterns(_excluded(config, stated)), rest=kind)

    return read


_READERS: dict[str, Callable[[Config, Mapping[str, Any]], Scheme]] = {
    "fp8": _fp8,
    "fbgemm-fp8": _fp8,
    "mxfp4": _mxfp4,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "modelopt-fp4": _modelopt,
    "modelopt-mixed": _modelopt,
    "awq": _weight_only,
    "awq-marlin": _weight_only,
    "gptq": _weight_only,
    "gptq-marlin": _weight_only,
    "auto-round": _weight_only,
    "quark": _quark,
    "w8a8-int8": _plain("int8"),
    "w8a8-fp8": _plain("fp8"),
}
