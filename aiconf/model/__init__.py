"""What is served: a model's layers, the operators of one forward pass, weights and KV bytes."""

from aiconf.model.layout import layout_problem
from aiconf.model.library import checkpoints, load_model, model_names
from aiconf.model.operators import operators
from aiconf.model.spec import ModelSpec

__all__ = [
    "ModelSpec",
    "checkpoints",
    "layout_problem",
    "load_model",
    "model_names",
    "operators",
]
