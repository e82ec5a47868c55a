"""What ``dynamo.trtllm`` lays over command line and engine file: ``--trtllm.a.b``, or one JSON.

Dynamo (``dynamic_flags.py``, ``llm_worker.py`` of 1.6.1) makes one JSON object of the dotted flags
and merges it field by field over everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiconf.deploy.read.flags import named
from aiconf.errors import UserError

DOTTED = "trtllm."  # begins the name of such a flag
# How ``cuda_graph_config: null`` is handed on, since null means not set.
NO_GRAPHS = "none"


def nested(dotted: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return flags such as ``trtllm.kv_cache_config.dtype`` as one nested mapping.

    Raises
    ------
    UserError
        A flag has no single value, or says something inside another's value.
    """
    found: dict[str, Any] = {}
    for name, value in dotted.items():
        *outer, last = name.removeprefix(DOTTED).split(".")
        if not isinstance(value, str) or not all((*outer, last)):
            raise UserError(f"{where}: --{name} needs a name and one value")
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UserError(f"{where}: --{name} lies inside another flag's value")
        if isinstance(inner.get(last), dict):
            raise UserError(f"{where}: --{name} replaces what other flags say inside it")
        inner[last] = _typed(value)
    return found


def _typed(value: str) -> Any:
    """A whole number, a number, true or false, else the text, in the order of Dynamo."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(value.lower(), value)


def laid_over(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` by flag with the fields of ``over`` in their place; null: not set."""
    found = dict(values)
    for flag, value in named(over).items():
        if flag == "cuda-graph-config" and value is None:
            found[flag] = NO_GRAPHS
        elif value is None:
            found.pop(flag, None)
        else:
            found[flag] = _merged(found.get(flag), value)
    return found


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
