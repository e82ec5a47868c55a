"""Time of single operators on the grid of token counts, by the kernels that an engine picks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiconf.engine.batch import Array
from aiconf.engine.curves import TOKENS
from aiconf.engine.trait_schema import Exchange as ExchangeKernel
from aiconf.engine.traits import Traits
from aiconf.model.activations import BF16
from aiconf.model.operators import (
    Collective,
    Elementwise,
    Gemm,
    HyperConnection,
    Moe,
    MoeExchange,
    Operator,
    Quantize,
)
from aiconf.parallel import Parallel
from aiconf.perf.collective import collective_seconds
from aiconf.perf.exchange import (
    Exchange,
    exchange_seconds,
    measured_kernels,
    sent_precision,
)
from aiconf.perf.float32 import float32_seconds
from aiconf.perf.gemm import gemm_light, gemm_seconds
from aiconf.perf.memory import memory_seconds
from aiconf.perf.mixing import mixing_seconds
from aiconf.perf.moe import Experts, moe_seconds
from aiconf.perf.origin import Origins
from aiconf.perf.tables import Tables
from aiconf.perf.wide_moe import wide_moe_seconds


@dataclass(frozen=True)
class OperatorTimer:
    """Times one occurrence of an operator.

    hidden: width of the model. graph_sizes: captured batch sizes, ascending. prompt_graph: tokens
    up to which iterations with prompts run in a graph. norm_limit: largest message in bytes whose
    all-reduce also adds the residual and norms; 0: none.
    """

    tables: Tables
    traits: Traits
    parallel: Parallel
    hidden: int
    graph_sizes: Array
    prompt_graph: int
    norm_limit: float

    def timed(self, operator: Operator) -> tuple[str, tuple[Array, Origins]]:
        """Part of the model and seconds of one occurrence on the token grid."""
        if isinstance(operator, (HyperConnection, Elementwise, Quantize)):
            return "memory", self._moved(operator)
        if isinstance(operator, Gemm):
            return "gemm", self._product(operator)
        if isinstance(operator, Collective):
            moved = operator.bytes_per_token * TOKENS
            return "communication", self._collective(operator, moved)
        if isinstance(operator, MoeExchange):
            return "communication", self._exchange(operator)
        assert isinstance(operator, Moe)
        return "moe", self._experts(operator)

    @property
    def captured(self) -> float:
        """Tokens of the largest iteration that a graph may hold, of decodes or with prompts."""
        largest = float(self.graph_sizes[-1]) if len(self.graph_sizes) else 0.0
        return max(largest, float(self.prompt_graph))

    def _moved(self, operator: HyperConnection | Elementwise | Quantize) -> tuple[Array, Origins]:
        """Kernels that memory traffic bounds."""
        tables = self.tables
        if isinstance(operator, HyperConnection):
            return mixing_seconds(tables, operator.hidden, operator.streams, TOKENS)
        if isinstance(operator, Quantize):
            return memory_seconds(tables, 3.0 * operator.k * TOKENS)
        return self._elementwise(operator)

    def _product(self, operator: Gemm) -> tuple[Array, Origins]:
        tables, n, k, dtype = self.tables, operator.n, operator.k, operator.dtype
        if dtype == "float32":
            return float32_seconds(tables, n, k, TOKENS, self.traits.float32_products)
        return gemm_seconds(tables, dtype, n, k, TOKENS)

    def traffic(self, operator: Gemm | Elementwise | Quantize) -> Array:
        """Seconds that one occurrence takes at the speed of light."""
        gpu = self.tables.system.gpu
        if isinstance(operator, Gemm):
            return gemm_light(gpu, operator.dtype, operator.n, operator.k, TOKENS)
        each = 3.0 * operator.k if isinstance(operator, Quantize) else operator.bytes_per_token
        return each * TOKENS / gpu.memory_bandwidth

    def _experts(self, operator: Moe) -> tuple[Array, Origins]:
        tables = self.tables
        shape = Experts(
            operator.hidden, operator.inter, operator.topk, operator.experts,
            operator.tp, operator.ep, operator.gated,
        )  # fmt: skip
        dtype = self._moe_dtype(operator.dtype)
        if operator.attention_dp and self._all_to_all():
            balanced = operator.ep >= self.traits.layouts.balanced_ep
            wide = wide_moe_seconds(tables, dtype, shape, TOKENS, balanced=balanced)
            if wide is not None:
                return wide
        return moe_seconds(tables, dtype, shape, TOKENS, attention_dp=operator.attention_dp)

    def _collective(self, operator: Collective, moved: Array) -> tuple[Array, Origins]:
        """An all-reduce takes the kernel that also norms as far as the engine uses it.

        Iterations beyond every captured graph, of decodes or with prompts, launch theirs one by
        one.
        """
        shape = (self.tables, operator.op, operator.ranks, moved)
        time, origin = collective_seconds(*shape)
        if len(self.graph_sizes):
            later, other = collective_seconds(*shape, eager=True)
            outside = self.captured < TOKENS
            time, origin = np.where(outside, later, time), np.where(outside, other, origin)
        norms_next = operator.op == "all_reduce" and operator.where != "qk_norm"
        if not norms_next or not self.norm_limit:
            return time, origin
        normed, lent = collective_seconds(*shape, normed=True)
        joined = moved <= self.norm_limit
        return np.where(joined, normed, time), np.where(joined, lent, origin)

    def _elementwise(self, operator: Elementwise) -> tuple[Array, Origins]:
        """Kernels that move memory; of a norm in the all-reduce before it only the traffic."""
        moved = operator.bytes_per_token * TOKENS
        time, origin = memory_seconds(self.tables, moved / operator.launches)
        time = time * operator.launches
        if operator.kind == "norm":
            traffic = moved / self.tables.system.gpu.memory_bandwidth
            message = TOKENS * self.hidden * BF16
            time = np.where(message <= self.norm_limit, traffic, time)
        return time, origin

    def _exchange(self, operator: MoeExchange) -> tuple[Array, Origins]:
        tables = self.tables
        shape = Exchange(
            operator.ranks, operator.hidden, operator.topk, operator.experts,
            sent_precision(operator.dtype),
        )  # fmt: skip
        return exchange_seconds(tables, self.way, shape, TOKENS * operator.token_share)

    @property
    def way(self) -> ExchangeKernel:
        """How tokens reach the experts of other ranks."""
        domain = self.tables.system.nvlink_domain
        return self.traits.exchange(self.parallel, domain, measured_kernels(self.tables))

    def _all_to_all(self) -> bool:
        """Whether a rank receives only the tokens of its own experts."""
        return self.way not in ("none", "all_reduce", "allgather_reducescatter")

    def _moe_dtype(self, dtype: str) -> str:
        """mxfp4 experts multiply by 8-bit activations where the GPU has 4-bit tensor cores."""
        return "mxfp4_fp8" if dtype == "mxfp4" and self.tables.system.gpu.sm >= 100 else dtype
