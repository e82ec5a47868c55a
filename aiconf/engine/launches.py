"""Kernels that operators launch one by one where no CUDA graph holds them."""

from __future__ import annotations

from aiconf.engine.trait_schema import Block, Host, at
from aiconf.engine.traits import Traits
from aiconf.model.operators import (
    GqaAttention,
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    Operator,
    SparseBlock,
)
from aiconf.model.spec import ModelSpec

ATTENTION = (GqaAttention, MlaAttention, SparseBlock)  # what a piecewise graph leaves out


def blocks(operator: Operator) -> tuple[Block, ...]:
    """Return the blocks of many kernels that one occurrence of ``operator`` runs."""
    if isinstance(operator, Moe):
        return ("mxfp4_experts",) if operator.dtype == "mxfp4" else ("experts",)
    if isinstance(operator, LinearScan):
        return ("linear",)
    if isinstance(operator, (MlaAttention, SparseBlock)):
        return ("latent", "indexer") if operator.index_heads else ("latent",)
    return ()


def launches(operator: Operator, host: Host, sm: int) -> int:
    """Return the kernels that one occurrence of ``operator`` launches outside a graph."""
    if isinstance(operator, HyperConnection):
        return 4  # one before and one after each block
    return sum(at(host.block_launches[block], sm) for block in blocks(operator)) or 1


def launch_seconds(traits: Traits) -> float:
    """Return what launching one kernel takes on the processor of the host."""
    return traits.host.seconds_per_launch * traits.scales.get("launch", 1.0)


def graph_kinds(spec: ModelSpec) -> frozenset[str]:
    """Return what ``spec`` is of the kinds whose prompts an engine may keep out of CUDA graphs.

    Hugging Face names an architecture that reads more than text ``...ForConditionalGeneration``.
    """
    kinds: set[str] = {one.kind for group in spec.layers if (one := group.attention) is not None}
    if any(block.index_heads for block, _ in spec.softmax):
        kinds.add("indexed")
    if spec.architecture.endswith("ForConditionalGeneration"):
        kinds.add("multimodal")
    return frozenset(kinds)
