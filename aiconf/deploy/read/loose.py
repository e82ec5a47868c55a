"""Values of the settings that a reader names as not modelled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiconf.deploy.read.flags import Flags
from aiconf.errors import UserError

_SHORT = {"compilation-config": "O", "speculative-config": "sc"}  # of vLLM's flags


# Balance of experts, which the prediction assumes where experts are spread wide.
BALANCING = (
    "enable-eplb", "eplb-config", "ep-num-redundant-experts", "moe_config.load_balancer",
)  # fmt: skip
# Too small or too rare an effect for a note, but two deployments that differ in it differ.
_COMPARED = (
    *BALANCING, "kv-transfer-config", "compilation-config custom_ops", "hf-overrides", "dtype",
    "revision", "scheduler-cls", "kernel-config", "max-prefill-tokens", "load-balance-method",
    "disaggregation-transfer-backend", "speculative-eagle-topk", "allreduce-strategy",
    "batch-wait-timeout-ms", "batch-wait-timeout-iters", "batch-wait-max-tokens-ratio",
)  # fmt: skip


def valued(
    names: Sequence[str], values: Mapping[str, Any], env: Mapping[str, str]
) -> dict[str, str]:
    """Return the value of each setting as text, comparable whatever way it was written.

    To ``names`` come settings that no note tells but that two deployments may differ in.

    Parameters
    ----------
    names
        As readers give them: ``flag``, ``config field``, ``config.field`` or ``env NAME``.
    values, env
        Of the worker (see ``settings_of``).
    """
    found = {name: _value(name, values, env) for name in (*names, *_COMPARED)}
    return {name: value for name, value in found.items() if value or name in names}


def _value(name: str, values: Mapping[str, Any], env: Mapping[str, str]) -> str:
    if name.startswith("env "):
        return env.get(name.removeprefix("env "), "")
    if name in values:
        return _text(values[name])
    head, _, field = name.replace("_", "-").replace(".", " ", 1).partition(" ")
    try:
        inside = Flags(values, "").mapping(head, *filter(None, [_SHORT.get(head)]))
    except UserError:  # a plain value, with what is said of it behind
        return _text(values.get(head, ""))
    if not field:
        return _text(inside) if inside else ""
    found = {str(key).replace("_", "-"): value for key, value in inside.items()}
    return _text(found.get(field, ""))


def _text(value: Any) -> str:
    """One spelling of equal values: JSON text and what it holds are the same."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
    if value is True:
        return "True"
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, default=str)
