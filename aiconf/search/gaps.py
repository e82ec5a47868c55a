"""Shapes that a model needs on a system and that no table holds: what to measure next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiconf.engine.attention import block_shape
from aiconf.engine.engine import Platform
from aiconf.engine.step import StepModel
from aiconf.model.operators import (
    Collective,
    Gemm,
    GqaAttention,
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    MoeExchange,
    Operator,
    SparseBlock,
    operators,
)
from aiconf.model.spec import ModelSpec
from aiconf.perf.attention import Heads, attention_origin
from aiconf.perf.block import block_origin
from aiconf.perf.linear import Recurrence, linear_origin
from aiconf.perf.origin import Origin, Origins
from aiconf.perf.tables import Tables
from aiconf.search.space import layouts

_BATCH = np.array([1.0, 4.0, 16.0, 64.0, 256.0])
_LENGTH = np.array([1024.0, 1024.0, 4096.0, 4096.0, 8192.0])
_ANSWERS = {
    Origin.INTERPOLATED: "neighbouring shapes",
    Origin.FALLBACK: "the speed of light and the nearest efficiency",
}


@dataclass
class _Gap:
    origin: Origin
    layouts: list[str] = field(default_factory=list)


def gaps(spec: ModelSpec, platform: Platform) -> tuple[list[dict[str, Any]], int]:
    """Shapes of ``spec`` without a measured point, over the layouts of one node.

    Returns
    -------
    Records with ``table``, ``shape`` (key columns), ``answered``: what stands in, ``needed_by``:
    in how many layouts, and the ``first`` of them; those with the weakest answer and the most
    layouts first. And the number of shapes that are needed in all.
    """
    found: dict[tuple[str, str], _Gap] = {}
    needed: set[tuple[str, str]] = set()
    for layout in layouts(platform, spec, platform.system.gpus_per_node):
        step = platform.step(spec, layout, spec.quantization.kv)
        for place, origins in _needs(platform.tables, step, operators(spec, layout)):
            needed.add(place)
            best = Origin(int(origins.min()))
            if best is not Origin.MEASURED:
                found.setdefault(place, _Gap(best)).layouts.append(str(layout))
    records = [
        {
            "table": table, "shape": shape, "answered": _ANSWERS[gap.origin],
            "needed_by": len(gap.layouts), "first": gap.layouts[0],
        }
        for (table, shape), gap in sorted(
            found.items(), key=lambda item: (-item[1].origin, -len(item[1].layouts), item[0])
        )
    ]  # fmt: skip
    return records, len(needed)


def _needs(
    tables: Tables, step: StepModel, stage: tuple[Operator, ...]
) -> Iterator[tuple[tuple[str, str], Origins]]:
    """((table, shape), origins over typical points) of the kernels of a forward pass."""
    kv = step.kv_dtype
    for operator in stage:
        if isinstance(operator, GqaAttention):
            heads = Heads(operator.heads, operator.kv_heads, operator.head_dim, operator.window, kv)
            for phase in ("prefill", "decode"):
                origins = attention_origin(tables, phase, heads, _BATCH, _LENGTH)
                shape = _text(kv_dtype=kv, head_dim=heads.head_dim, window=heads.window or 0,
                              heads=heads.heads, kv_heads=heads.kv_heads)  # fmt: skip
                yield (f"{phase}_attention", shape), origins
        elif isinstance(operator, (MlaAttention, SparseBlock)):
            block = block_shape(operator, kv)
            kind = "mla" if isinstance(operator, MlaAttention) else "sparse"
            kind = "dsa" if kind == "mla" and operator.index_heads else kind
            shape = _text(gemm_dtype=operator.gemm_dtype, kv_dtype=kv, heads=operator.heads)
            for phase in ("prefill", "decode"):
                yield (
                    (f"{kind}_{phase}", shape),
                    block_origin(tables, phase, block, _BATCH, _LENGTH),
                )
        elif isinstance(operator, LinearScan):
            yield from _linear(tables, operator)
        else:
            timed = step.once(operator)
            place = _place(operator)
            if timed is not None and place is not None:
                yield place, timed[1]


def _linear(tables: Tables, operator: LinearScan) -> Iterator[tuple[tuple[str, str], Origins]]:
    shape = Recurrence(
        operator.kind, operator.key_heads, operator.value_heads, operator.key_dim,
        operator.value_dim, operator.taps,
    )  # fmt: skip
    for phase in ("prefill", "decode"):
        origins = linear_origin(tables, phase, shape, _BATCH, _LENGTH)
        text = _text(kind=operator.kind, phase=phase, key_heads=operator.key_heads,
                     value_heads=operator.value_heads)  # fmt: skip
        yield ("linear_attention", text), origins


def _place(operator: Operator) -> tuple[str, str] | None:
    """Table and shape of an operator; None for what is read by the bytes it moves."""
    o = operator
    if isinstance(o, Gemm) and o.dtype != "float32":
        return "gemm", _text(dtype=o.dtype, n=o.n, k=o.k)
    if isinstance(o, Moe):
        return "moe", _text(
            dtype=o.dtype, hidden=o.hidden, inter=o.inter, topk=o.topk, experts=o.experts,
            tp=o.tp, ep=o.ep,
        )  # fmt: skip
    if isinstance(o, Collective):
        return "collective", _text(op=o.op, gpus=o.ranks)
    if isinstance(o, MoeExchange):
        return "moe_all_to_all", _text(ep=o.ranks, hidden=o.hidden, topk=o.topk, experts=o.experts)
    if isinstance(o, HyperConnection):
        return "hyper_connection", _text(hidden=o.hidden, streams=o.streams)
    return None


def _text(**key: object) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items())
