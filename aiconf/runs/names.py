"""Model names of measured rows, looked up among the embedded models only (never the hub)."""

from __future__ import annotations

from functools import lru_cache

from aiconf.model.library import checkpoint_names, load_model
from aiconf.model.spec import ModelSpec
from aiconf.runs.cells import Skipped


@lru_cache(maxsize=512)
def model_of(name: str, precision: str | None) -> ModelSpec:
    """Return the checkpoint that a row names, by id where no precision is stated.

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
    return load_model(name.rsplit("/", 1)[-1], precision)
