"""What a module of this folder declares for each architecture that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiconf.model.families.config import Config
from aiconf.model.spec import LayerGroup, Quantization
from aiconf.model.vision import VisionTower


@dataclass(frozen=True)
class Family:
    """Reads the layers of an architecture.

    section: where config.json holds the language model's figures. experts: where a layer holds
    its routed experts, as lists of quantised modules name them. precisions: corrects what
    ``quantization_config`` says by what engines make of it. vision: reads the tower from the
    whole config and the language model's part; None: the tower is not known. mtp_ends: MTP
    layers ship an embedding and an output head of their own. notes: what this reading leaves
    out, shown with every answer. tied: what a config without ``tie_word_embeddings`` means.
    """

    layers: Callable[[Config], tuple[LayerGroup, ...]]
    section: str | None = None
    experts: str = "mlp.experts"
    precisions: Callable[[Config, Quantization], Quantization] | None = None
    vision: Callable[[Config, Config], VisionTower] | None = None
    mtp_ends: bool = False
    notes: tuple[str, ...] = ()
    tied: bool = False
