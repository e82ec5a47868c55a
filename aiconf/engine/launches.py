"""How many kernels an operator is: what an iteration outside CUDA graphs pays the host for."""

from __future__ import annotations

from aiconf.engine.trait_schema import Host
from aiconf.model.operators import (
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    Operator,
    SparseBlock,
)


def launches(operator: Operator, host: Host) -> int:
    """Kernels that one occurrence of ``operator`` launches outside a graph."""
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
