"""Whether an engine must run Python code from a checkpoint's own repository to start it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_SHIPPED = Path(__file__).parent / "shipped_configs.yaml"


def needs_own_code(figures: Mapping[str, Any], tokenizer: Mapping[str, Any] | None) -> bool:
    """Whether ``auto_map`` names code that nothing else stands in for.

    A tokenizer's always counts. A configuration's counts where transformers ships no class for
    its ``model_type``: where it does, that one is taken (DeepSeek-V3). Code of the model alone
    does not count, since engines bring their own.

    Parameters
    ----------
    figures, tokenizer
        config.json and tokenizer_config.json (None: not there), parsed.
    """
    if "AutoTokenizer" in _auto_map(tokenizer or {}):
        return True
    return "AutoConfig" in _auto_map(figures) and str(figures.get("model_type")) not in _shipped()


def _auto_map(parsed: Mapping[str, Any]) -> Mapping[str, Any]:
    found = parsed.get("auto_map")
    return found if isinstance(found, Mapping) else {}


@cache
def _shipped() -> frozenset[str]:
    from aiconf.resources import read_yaml

    return frozenset(read_yaml(_SHIPPED)["model_types"])
