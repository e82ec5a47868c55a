"""A model's config.json from the Hugging Face hub or its local cache."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiconf.errors import UserError, nearest
from aiconf.model.checkpoint import build, read_config
from aiconf.model.families.config import shown
from aiconf.model.spec import ModelSpec

_TIMEOUT = 3.0  # s; a command must answer at once when there is no network


def read_hub(identifier: str, embedded: Iterable[str]) -> ModelSpec:
    """Read ``owner/name`` from the local hub cache, else over the network.

    Parameters
    ----------
    identifier
        Hub id.
    embedded
        Names to suggest when the hub cannot be asked or does not have it.

    Raises
    ------
    UserError
        Offline (``HF_HUB_OFFLINE=1``, or no answer in 3 s), unknown or gated id.
    """
    cached = _cached(identifier)
    if cached:
        return read_config(cached, identifier)
    near = " or ".join(nearest(identifier.rsplit("/", 1)[-1], embedded))
    hint = f"did you mean {near}?" if near else "give the folder of a local copy"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise UserError(f"unknown model '{identifier}' and HF_HUB_OFFLINE is set: {hint}")
    figures = _fetch(identifier, "config.json", hint) or _fetch(identifier, "params.json", hint)
    if figures is None:
        adapter = _fetch(identifier, "adapter_config.json", hint)
        if adapter is not None:
            base = shown(adapter.get("base_model_name_or_path"))
            raise UserError(
                f"'{identifier}' is a LoRA or PEFT adapter, not a model: give its base, '{base}'"
            )
        raise UserError(f"the hub has no config.json for '{identifier}': {hint}")
    beside = _fetch(identifier, "hf_quant_config.json", hint)
    pixels = None
    if figures.get("vision_config"):
        pixels = _fetch(identifier, "preprocessor_config.json", hint)
    tokenizer = _fetch(identifier, "tokenizer_config.json", hint)
    source = f"{identifier} config.json"
    return build(figures, beside, source, identifier, pixels=pixels, tokenizer=tokenizer)


def _cached(identifier: str) -> Path | None:
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    root = Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()
    folder = root / f"models--{identifier.replace('/', '--')}" / "snapshots"
    found = sorted(folder.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


def _fetch(identifier: str, file: str, hint: str) -> Mapping[str, Any] | None:
    """Return a parsed file of the repository's main branch, None where it does not exist."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{identifier}/resolve/main/{file}"
    try:
        with urlopen(url, timeout=_TIMEOUT) as answer:
            found = json.load(answer)
    except HTTPError as problem:
        if problem.code == 404:
            return None
        if problem.code in (401, 403):
            raise UserError(
                f"'{identifier}' is gated or does not exist on the hub: {hint}"
            ) from None
        raise UserError(f"the hub answered {problem.code} for '{identifier}': {hint}") from None
    except (URLError, OSError):
        raise UserError(f"unknown model '{identifier}' and no network to the hub: {hint}") from None
    except ValueError as problem:
        raise UserError(f"{identifier} {file}: not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise UserError(f"{identifier} {file}: not a JSON object")
    return found
