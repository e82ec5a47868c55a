"""Model names of measured rows, looked up among the embedded models only (never the hub)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from aiconf.errors import UserError
from aiconf.model.library import checkpoint_names, checkpoints, load_model, model_names
from aiconf.model.spec import ModelSpec, MoeFfn
from aiconf.resources import read_yaml
from aiconf.runs.cells import Skipped


@cache
def short_names() -> Mapping[str, str]:
    """Return the family by the name (in lower case) that InferenceX's result files use."""
    found: Mapping[str, str] = read_yaml(Path(__file__).with_name("inferencex.yaml"))["names"]
    return found


@lru_cache(maxsize=512)
def model_of(name: str, precision: str | None) -> ModelSpec:
    """Return the checkpoint that a row names, by id where no precision is stated.

    Rows name the original model beside the precision that was served (``DeepSeek-R1-0528``,
    fp4), so its family's checkpoint of that precision is taken; where the family has none, one
    of a model of the same architecture (``Llama-3.3-70B`` for ``Llama-3.1-70B``).

    Raises
    ------
    Skipped
        When no model is stated.
    UserError
        For a model that is not embedded, or not in that precision.
    """
    name = name.strip()
    if not name:
        raise Skipped("model is not stated")
    if precision is None and name in checkpoint_names():
        return load_model(name)
    tail = name.rsplit("/", 1)[-1]
    tail = short_names().get(tail.lower(), tail)
    try:
        return load_model(tail, precision)
    except UserError as error:
        for other in _relatives(tail):
            try:
                return load_model(other, precision)
            except UserError:
                continue
        raise error


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _relatives(tail: str) -> list[str]:
    """Families whose name begins ``tail``, longest first, and those of its architecture."""
    wanted = _folded(tail)
    begun = [name for name in model_names() if wanted.startswith(_folded(name))]
    begun.sort(key=len, reverse=True)
    try:
        spec = checkpoints(tail)[0]
    except UserError:
        return []  # the model is not known under any precision
    return [*begun, *(name for name in model_names() if _same(checkpoints(name)[0], spec))]


def _same(one: ModelSpec, other: ModelSpec) -> bool:
    mine, yours = (one.layers, one.hidden, one.vocab), (other.layers, other.hidden, other.vocab)
    return mine == yours


@lru_cache(maxsize=512)
def replicated(spec: ModelSpec, ranks: int) -> ModelSpec:
    """Return ``spec`` with its experts rounded up to a multiple of ``ranks``.

    Wide expert parallelism fills the ranks with redundant copies of experts (SGLang:
    --ep-num-redundant-experts; 256 experts on 48 ranks become 288): they take memory and are
    read like any other.
    """
    layers = []
    for group in spec.layers:
        ffn = group.ffn
        if isinstance(ffn, MoeFfn) and ffn.experts % ranks:
            ffn = replace(ffn, experts=-(-ffn.experts // ranks) * ranks)
        layers.append(replace(group, ffn=ffn))
    return replace(spec, layers=tuple(layers))
