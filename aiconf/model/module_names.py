"""Names of a checkpoint's modules: which stand for a class of weights, and what a list means.

Lists of quantised or excluded modules name them in many spellings; an entry may be a regular
expression (``re:``), a glob, or a name: of the module, of something that contains it, or of one
part of its path (``gate`` is not ``gate_proj``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate

from aiconf.model.families.config import Config
from aiconf.model.spec import DenseFfn, LayerGroup, LinearAttention, MoeFfn

# One module of each class is asked about, under every name that architectures have for it.
ATTENTION = ("self_attn.q_proj", "self_attn.q_a_proj", "self_attn.q_b_proj", "mixer.q_proj")
OUTPUT = ("self_attn.o_proj", "mixer.o_proj")
LINEAR = (
    "linear_attn.in_proj_qkv",
    "linear_attn.in_proj_qkvz",
    "mixer.in_proj",
    "mamba.in_proj",
    "self_attn.q_proj",  # Kimi names both kinds alike
)
DENSE = ("mlp.gate_proj", "mixer.up_proj", "feed_forward.gate_proj", "shared_mlp.input_linear")
SHARED = (
    "mlp.shared_experts.gate_proj",
    "mlp.shared_expert.gate_proj",
    "mixer.shared_experts.up_proj",
    "block_sparse_moe.shared_experts.gate_proj",
    "share_expert.gate_proj",
)
EXPERTS = (
    "mlp.experts.0.gate_proj",
    "mlp.experts.gate_up_proj",
    "block_sparse_moe.experts.0.w1",
    "mixer.experts.0.up_proj",
)
_BLOCKS = {
    **{"*": "attention", "M": "linear", "-": "dense", "E": "experts"},
    **{"attention": "attention", "mamba": "linear", "mlp": "dense", "moe": "experts"},
}
_LINEAR_KINDS = ("linear_attention", "mamba")
_IN_LAYER = re.compile(r"layers\.(\d+)(?=\.|$)")


@dataclass(frozen=True)
class Places:
    """In which layers, counted as the checkpoint counts them, each class of weights is."""

    attention: Sequence[int]
    linear: Sequence[int]
    dense: Sequence[int]
    experts: Sequence[int]


def places(config: Config, layers: tuple[LayerGroup, ...]) -> Places:
    """Find the layers of each class from what config.json says of their order.

    Where it says nothing, every layer stands for every class: lists that name each module are
    then a vote of all layers.
    """
    pattern = str(config.get("hybrid_override_pattern") or "")
    blocks = [_BLOCKS.get(str(b), "") for b in pattern or config.listed("layers_block_type") or ()]
    if set(blocks) & {"dense", "experts"}:  # each block is counted on its own (Nemotron)
        kinds = ("attention", "linear", "dense", "experts")
        return Places(*([i for i, block in enumerate(blocks) if block == kind] for kind in kinds))
    total = config.whole("num_hidden_layers", default=sum(group.count for group in layers))
    whole = range(total)
    linear, full = list(whole), list(whole)
    if any(isinstance(group.attention, LinearAttention) for group in layers):
        linear = _linear(config, total)
        full = [layer for layer in whole if layer not in set(linear)] or list(whole)
    plain = sum(group.count for group in layers if isinstance(group.ffn, DenseFfn))
    first = isinstance(layers[0].ffn, DenseFfn) and any(
        isinstance(group.ffn, MoeFfn) for group in layers
    )
    return Places(
        full,
        linear or list(whole),
        range(plain) if first else whole,
        range(plain, total) if first and plain < total else whole,
    )


def _linear(config: Config, total: int) -> list[int]:
    kinds = config.listed("layer_types") or config.listed("layers_block_type")
    if kinds:
        return [layer for layer, kind in enumerate(kinds) if str(kind) in _LINEAR_KINDS]
    stated = config.get("linear_attn_config")
    if isinstance(stated, dict):
        full = Config(stated, config.source).indices("full_attn_layers")
        return [layer for layer in range(total) if layer + 1 not in full]
    every = config.whole("full_attention_interval", default=0, least=0)
    return [layer for layer in range(total) if not every or (layer + 1) % every]


class Patterns:
    """Entries of a list, ready to be asked for many modules.

    Parameters
    ----------
    entries
        As the checkpoint has them.

    Raises
    ------
    re.error
        For an entry that is not a regular expression though it says so.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._all = False
        self._names: set[str] = set()
        self._raw: list[re.Pattern[str]] = []
        self._globs: dict[str, list[re.Pattern[str]]] = {}  # by the layer that they name
        for entry in entries:
            if entry in ("Linear", "*"):
                self._all = True
            elif entry.startswith("re:"):
                self._raw.append(re.compile(entry[3:]))
            elif "*" in entry or "?" in entry:
                plain = entry.replace("language_model.", "")
                found = _IN_LAYER.search(plain)
                layer = found.group(1) if found else ""
                self._globs.setdefault(layer, []).append(re.compile(_glob(plain)))
            else:
                self._names.add(entry.replace("language_model.", "").strip("."))

    def __bool__(self) -> bool:
        """Whether there is any entry."""
        return bool(self._all or self._names or self._raw or self._globs)

    def match(self, module: str) -> bool:
        """Tell whether an entry means a module."""
        if self._all:
            return True
        parts = module.split(".")
        count = len(parts)
        spans = ((a, b) for a in range(count) for b in range(a + 1, count + 1))
        if self._names and any(".".join(parts[a:b]) in self._names for a, b in spans):
            return True
        found = _IN_LAYER.search(module)
        near = [*self._globs.get("", ()), *self._globs.get(found.group(1) if found else "", ())]
        if any(glob.match(module) for glob in near):
            return True
        return any(entry.match(name) for entry in self._raw for name in _spellings(module))


def _glob(pattern: str) -> str:
    """Turn a glob into an expression that also means what lies inside a match."""
    return f"{translate(pattern)}|{translate(f'{pattern}.*')}"


def _spellings(module: str) -> tuple[str, ...]:
    """Return a module's name in a language model, and in one beside a vision tower."""
    if not module.startswith("model."):
        return (module,)
    return module, f"model.language_model.{module[6:]}", f"language_model.{module}"
