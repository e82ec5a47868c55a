"""Kernels that operators launch one by one where no CUDA graph holds them."""

from __future__ import annotations

from aiconf.engine.trait_schema import Host
from aiconf.model.operators import (
    GqaAttention,
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    Operator,
    SparseBlock,
)

ATTENTION = (GqaAttention, MlaAttention, SparseBlock)  # what a piecewise graph leaves out


def launches(operator: Operator, host: Host) -> int:
    """Return the kernels that one occurrence of ``operator`` launches outside a graph."""
    if isinstance(operator, Moe):
        return host.block_launches["experts"]
    if isinstance(operator, LinearScan):
        return host.block_launches["linear"]
    if isinstance(operator, HyperConnection):
        return 4  # one before and one after each block
    if isinstance(operator, (MlaAttention, SparseBlock)):
        index = host.block_launches["indexer"] if operator.index_heads else 0
        return host.block_launches["latent"] + index
    return 1
