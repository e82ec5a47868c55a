"""How a checkpoint stores its weights, read into one `Quantization`.

Every scheme is asked the same question: in which format is the module of this name? Modules that
stand for a class of weights are asked about in every layer, so that lists are honoured however
they are spelled; where layers differ, the format of most of them counts, and a note says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiconf.model.families.config import Config
from aiconf.model.module_names import (
    ATTENTION,
    DENSE,
    EXPERTS,
    LINEAR,
    OUTPUT,
    SHARED,
    places,
)
from aiconf.model.schemes import Scheme, read_scheme
from aiconf.model.spec import (
    Attention,
    DenseFfn,
    LayerGroup,
    LinearAttention,
    MoeFfn,
    Precision,
    Quantization,
)


def read_quantization(
    config: Config,
    beside: Mapping[str, Any] | None,
    layers: tuple[LayerGroup, ...],
    place: str = "mlp.experts",
    text: Config | None = None,
) -> tuple[Quantization, tuple[str, ...]]:
    """Read the quantisation of a checkpoint, and what was assumed of it.

    Parameters
    ----------
    config
        The section of config.json that may have ``quantization_config``.
    beside
        The parsed hf_quant_config.json of ModelOpt, where there is one; it comes first.
    layers
        The layers, to know which classes of weights there are.
    place
        Where a layer holds its routed experts.
    text
        The section that has the layers' figures, where it is another one.

    Raises
    ------
    UserError
        For a scheme that is not known, by name with those that are.
    """
    scheme = read_scheme(config, beside)
    if scheme is None:
        return Quantization(), ()
    asked = _Asked(scheme)
    where = places(text or config, layers)
    routed = any(isinstance(group.ffn, MoeFfn) for group in layers)
    shared = any(isinstance(g.ffn, MoeFfn) and g.ffn.shared_intermediate for g in layers)
    attention = output = linear = plain = experts = None
    if any(isinstance(group.attention, Attention) for group in layers):
        attention = asked.of("attention", where.attention, ATTENTION)
        output = asked.of("attention output", where.attention, OUTPUT)
    if any(isinstance(group.attention, LinearAttention) for group in layers):
        linear = asked.of("linear attention", where.linear, LINEAR)
    if shared:
        plain = asked.of("shared expert", where.experts, SHARED)
    elif any(isinstance(group.ffn, DenseFfn) for group in layers):
        plain = asked.of("feed-forward", where.dense, DENSE)
    if routed:
        names = [name.replace("mlp.experts", place) for name in EXPERTS]
        experts = asked.of("expert", where.experts, names)
    attention = attention or linear or "bf16"
    output = output or attention
    weight_only = "int4" in (attention, output, linear, plain, experts)
    return Quantization(
        attention=attention,
        dense=plain or "bf16",
        experts=experts or "bf16",
        lm_head=scheme.precision(["lm_head"]) if scheme.head else "bf16",
        kv="fp8" if scheme.kv == "fp8" else "bf16",
        output=None if output == attention else output,
        linear=None if linear in (None, attention) and output == attention else linear,
        group=scheme.group if weight_only else 128,
    ), (*scheme.notes, *asked.notes)


class _Asked:
    """Puts the question of each class to a scheme, and keeps what was found mixed."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.notes: list[str] = []

    def of(self, what: str, layers: Sequence[int], modules: Iterable[str]) -> Precision:
        """Return the format of a class of weights in most layers."""
        names = tuple(modules)
        found = Counter(
            self.scheme.precision(
                f"{root}.layers.{layer}.{name}" for root in ("model", "backbone") for name in names
            )
            for layer in layers
        )
        if not found:
            return "bf16"
        (kind, count), *others = found.most_common()
        if others:
            self.notes.append(
                f"{what} weights are {kind} in {count} layers and "
                f"{' and '.join(f'{other} in {n}' for other, n in others)}: taken as {kind}"
            )
        return kind
