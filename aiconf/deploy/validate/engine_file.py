"""Engine files of TensorRT-LLM: their fields and types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from aiconf.deploy.validate.command_line import MOST
from aiconf.deploy.validate.flag_lists import engine_fields
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched
from aiconf.deploy.versions import engines
from aiconf.errors import UserError, nearest

# Fields with free content, which the list of fields leaves out.
_FREE = {
    "model", "tokenizer", "tokenizer_mode", "trust_remote_code", "revision", "speculative_model",
    "speculative_model_dir", "load_balancer", "quant_config", "model_kwargs", "mamba_state_config",
    "hf_revision", "checkpoint_format", "checkpoint_loader", "load_format", "attn_backend",
}  # fmt: skip
_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "list": (list,),
    "dict": (dict,),
}  # fmt: skip


def problems(one: Launched) -> Iterator[Problem]:
    """Yield what is wrong with the engine file of a worker, and with sizes that depend."""
    where = spelled((*one.component.container, "args"))
    try:
        config = one.config
    except UserError as error:
        yield Problem(one.graph.source, where, str(error).partition(": ")[2], "")
        return
    if one.engine == "trtllm" and config:
        wanted = engines()[one.release]["trtllm"]
        version, fields = engine_fields(wanted)
        sure = one.exact and version == wanted
        path = one.line.text("--extra-engine-args")
        for key, what, fix, is_certain in islice(_fields(config, fields, ""), MOST):
            level = "error" if is_certain and sure else "warning"
            told = f"{path}: {key}: {what}"
            if not sure:
                told += f" (of TensorRT-LLM {version}, the nearest that is known)"
            yield Problem(
                one.graph.source, where, told, fix, "error" if level == "error" else "warning"
            )


_Found = tuple[str, str, str, bool]  # key, what, fix, certain


def _fields(config: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[_Found]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key not in known:
            # The list has no fields of free text.
            if key not in _FREE and not isinstance(value, str):
                near = nearest(str(key), known, limit=1)
                fix = f"did you mean {near[0]}?" if near else ""
                yield name, "unknown field", fix, not prefix
        elif isinstance(known[key], dict):
            if isinstance(value, dict):
                yield from _fields(value, known[key], f"{name}.")
            elif value is not None:
                yield name, f"'{value}' is not a mapping", "", True
        elif value is not None and (told := _unfit(value, known[key])):
            near = nearest(str(value), known[key], limit=1) if _is_choice(known[key]) else []
            yield name, told, near[0] if near else "", True


def _is_choice(wanted: Any) -> bool:
    return isinstance(wanted, list)


def _unfit(value: Any, wanted: Any) -> str | None:
    """Return why ``value`` is none of the choices, or not of a type such as ``int>0?``."""
    if _is_choice(wanted):
        folded = [str(choice).lower() for choice in wanted]
        values = value if isinstance(value, list) else [value]
        fine = all(str(one).lower() in folded for one in values)
        return None if fine else f"'{value}' is none of {', '.join(map(str, wanted))}"
    match = re.match(r"(\w+)", str(wanted))
    types = _TYPES.get(match.group(1) if match else "")
    if types is None:
        return None
    mistaken = isinstance(value, bool) and bool not in types
    if not isinstance(value, types) or mistaken:
        return f"'{value}' is not of type {wanted.rstrip('?')}"
    if ">0" in wanted and isinstance(value, int) and value <= 0 and "list" not in wanted:
        return f"{value} must be more than 0"
    return None
