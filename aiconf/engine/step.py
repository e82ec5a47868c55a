"""Time of one iteration of one engine: a layout and a batch in, seconds out.

Built once per layout. Everything that depends on the token count alone (matrix products,
experts, collectives, small kernels) is summed over the layers into curves on one grid of token
counts, so that timing a batch is one interpolation; attention is read from its own surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiconf.engine.attention import AttentionTimer
from aiconf.engine.batch import Array, Batch
from aiconf.engine.curves import PART, TOKENS, Curves
from aiconf.engine.launches import launches
from aiconf.engine.linear import LinearTimer
from aiconf.engine.trait_schema import Exchange as ExchangeKernel
from aiconf.engine.traits import Traits
from aiconf.model.activations import BF16
from aiconf.model.operators import (
    Collective,
    Elementwise,
    Gemm,
    GqaAttention,
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    MoeExchange,
    Operator,
    PipelineSend,
    Quantize,
    SparseBlock,
    operators,
)
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.perf.collective import collective_seconds, send_seconds
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
from aiconf.perf.origin import Origin, Origins, unmeasured
from aiconf.perf.tables import Tables
from aiconf.perf.wide_moe import wide_moe_seconds


@dataclass(frozen=True)
class StepTime:
    """Seconds of each iteration. by_part: (part, point). by_origin: (origin, point)."""

    seconds: Array
    by_part: Array
    by_origin: Array


_ATTENTION = (GqaAttention, MlaAttention, SparseBlock)  # kernels that a piecewise graph leaves out


class StepModel:
    """``seconds(batch)`` of one engine (see the module docstring).

    beside: operators that run in addition to those of ``spec``.
    """

    def __init__(
        self,
        tables: Tables,
        spec: ModelSpec,
        parallel: Parallel,
        traits: Traits,
        kv_dtype: str,
        beside: tuple[Operator, ...] = (),
    ) -> None:
        self.spec, self.parallel, self.traits, self.kv_dtype = spec, parallel, traits, kv_dtype
        self._tables = tables
        # Largest message in bytes whose all-reduce also adds the residual and norms; 0: none.
        self._norm_limit = traits.norm_limit(tables.system.gpu.sm, parallel.tp)
        self._rank = Curves()  # of the tokens of one attention rank
        self._group = Curves()  # of the tokens of all ranks that share the experts
        self._sampled = Curves()  # of the sequences that sample a token
        # Captured sizes nest, so those of the engine's largest default stand for all.
        gpu = tables.system.gpu
        most = traits.max_sequences(gpu.memory_bytes, gpu.sm)
        largest = traits.largest_graph(gpu.memory_bytes, gpu.sm, parallel.stage_gpus)
        sizes = traits.graph_sizes(most, largest)
        self._graph_sizes = np.array(sizes, dtype=np.float64)
        stage = (*operators(spec, parallel), *beside)
        scale = traits.scales.get("attention", 1.0)
        self._attention = AttentionTimer(tables, stage, kv_dtype, scale)
        self._linear = LinearTimer(tables, stage, scale)
        launched = [0, 0]  # kernels of a pass: all, and those that no graph holds
        for operator in stage:
            self._add(operator)
            if not isinstance(operator, PipelineSend) and not self._fused(operator):
                kernels = operator.count * launches(operator, traits.host)
                launched[0] += kernels
                launched[1] += kernels * isinstance(operator, _ATTENTION)
        self._all = (self._rank, self._group, self._sampled)
        for curves in self._all:
            curves.close()
        layers = sum(group.count for group in spec.layers)
        self._exposed = traits.host.seconds_exposed_per_layer * layers
        if not traits.asynchronous(parallel):
            self._exposed += traits.host.seconds_synchronous_per_layer * layers
        self._prompt_graph = traits.prefill_graph_tokens(
            sizes, traits.token_budget(gpu.memory_bytes, gpu.sm, parallel.dp), parallel,
            mla=any(isinstance(one, (MlaAttention, SparseBlock)) for one in stage),
            disaggregated=False,
        )  # fmt: skip
        each = traits.host.seconds_per_launch
        self._launch = (launched[0] * each, launched[1] * each)

    def seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration of ``batch``: every rank, all layers, one pass."""
        rank, group, sampled = self._tokens(batch)
        total = self._attention.seconds(batch)
        if self._linear:
            total += self._linear.seconds(batch)
        for curves, tokens in zip(self._all, (rank, group, sampled), strict=True):
            total += curves.total_at(tokens)
        return total + self._host(batch, sampled, total)

    @property
    def exposed_seconds(self) -> float:
        """Seconds of every iteration that its operators do not explain (see ``Host``)."""
        return self._exposed

    @property
    def graph_sizes(self) -> Array:
        """Batch sizes captured as CUDA graphs, ascending."""
        return self._graph_sizes

    def rank_seconds(self, tokens: Array) -> Array:
        """Seconds of what depends on the tokens of one attention rank."""
        return self._rank.total_at(tokens) + self._attention.projection_seconds(tokens)

    def group_seconds(self, tokens: Array) -> Array:
        """Seconds of what depends on the tokens of all ranks that share the experts."""
        return self._group.total_at(tokens)

    def sampled_seconds(self, sequences: Array) -> Array:
        """Seconds of what depends on the sequences that sample a token."""
        return self._sampled.total_at(sequences)

    def attention_seconds(self, batch: Batch) -> Array:
        """Seconds of attention beside ``rank_seconds`` and ``prompt_scan_seconds``."""
        rows = batch.prefill_tokens + batch.decode * batch.drafted
        found = self._attention.seconds(batch) - self._attention.projection_seconds(rows)
        if self._linear:
            found += self._linear.decode_seconds(batch.decode * batch.drafted)
        return found

    @property
    def scans(self) -> bool:
        """Whether layers of linear attention take ``prompt_scan_seconds``."""
        return bool(self._linear)

    def prompt_scan_seconds(self, tokens: Array, sequences: Array) -> Array:
        """Seconds of linear attention for the ``tokens`` of ``sequences`` prompts."""
        return self._linear.prompt_seconds(tokens, sequences)

    def walk_seconds(self, keys: Array) -> Array:
        """Least attention seconds of a chunk that sees ``keys`` (see ``perf.attention``)."""
        return self._attention.walk_seconds(keys)

    def time(self, batch: Batch) -> StepTime:
        """Seconds of each iteration with its parts and their origin."""
        rank, group, sampled = self._tokens(batch)
        total = self._rank.at(rank) + self._group.at(group) + self._sampled.at(sampled)
        self._attention.add(total[PART["attention"]], batch)
        self._linear.add(total[PART["attention"]], batch)
        gpu = total.sum(axis=(0, 1))
        total[PART["overhead"], Origin.INTERPOLATED] += self._host(batch, sampled, gpu)
        return StepTime(total.sum(axis=(0, 1)), total.sum(axis=1), total.sum(axis=0))

    def _tokens(self, batch: Batch) -> tuple[Array, Array, Array]:
        """Tokens of one rank, of all ranks that share the experts, and sampled sequences."""
        decode = self._padded(batch) * batch.drafted
        dp = self.parallel.dp
        group = np.minimum(batch.prefill_ranks, dp) * batch.prefill_tokens + dp * decode
        prompts = np.where(batch.prefill_tokens > 0, batch.prefill_sequences, 0.0)
        return batch.prefill_tokens + decode, group, decode + prompts

    def _padded(self, batch: Batch) -> Array:
        """Decode batches are padded to the next captured graph when no prompt is beside them."""
        if not len(self._graph_sizes):
            return batch.decode
        # A mean of 4.25 sequences is 4 in three of four batches and 5 in the other.
        below = np.floor(batch.decode)
        share = batch.decode - below
        mean = self._captured(below) * (1.0 - share) + self._captured(below + 1.0) * share
        return np.where(batch.prefill_tokens > 0, batch.decode, mean)

    def _captured(self, sequences: Array) -> Array:
        sizes = self._graph_sizes
        place = np.searchsorted(sizes, sequences)
        padded = sizes[np.minimum(place, len(sizes) - 1)]
        return np.where((sequences > 0) & (place < len(sizes)), padded, sequences)

    def launch_seconds(self, prompt_tokens: Array) -> Array:
        """Seconds that the host takes to launch an iteration with ``prompt_tokens``.

        Such an iteration runs outside CUDA graphs, or in a graph without its attention.
        """
        whole, attention = self._launch
        inside = np.where(prompt_tokens <= self._prompt_graph, attention, whole)
        return np.where(prompt_tokens > 0, inside, 0.0)

    def _host(self, batch: Batch, running: Array, gpu: Array) -> Array:
        """Host time that the GPU waits for: what is exposed always, and all of the rest or what
        exceeds the GPU's own time."""
        host = self.traits.host
        busy = host.seconds_per_iteration + host.seconds_per_sequence * running
        hidden = gpu if self.traits.asynchronous(self.parallel) else 0.0
        late = np.where(running > 0, np.maximum(busy - hidden, 0.0) + self._exposed, 0.0)
        return np.maximum(late, self.launch_seconds(batch.prefill_tokens) - gpu)

    def _add(self, operator: Operator) -> None:
        """Sum one operator's curve over its layers."""
        if isinstance(operator, PipelineSend):
            self._add_send(operator)
            return
        if isinstance(operator, (*_ATTENTION, LinearScan)) or self._fused(operator):
            return
        # Layouts share most of their shapes: each is timed once per set of tables.
        once = replace(operator, count=1)
        key = (once, self._norm_limit, self.traits.float32_products)
        built = self._tables.built
        if key not in built:
            built[key] = self._timed(once)
        part, (time, origin) = built[key]
        if isinstance(operator, (Gemm, Elementwise, Quantize)) and operator.beside:
            # A second stream hides the latency of small kernels; their bytes still pass.
            hidden = self.traits.shared_stream_tokens >= TOKENS
            time = np.where(hidden, np.minimum(time, self._traffic(operator)), time)
        scale = self.traits.scales.get(part, 1.0)
        self._curves(operator).add(part, time * (operator.count * scale), origin)

    def once(self, operator: Operator) -> tuple[Array, Origins] | None:
        """Seconds of one occurrence of an operator on the token grid, and where each came from.

        None for what has no time of its own there: attention, pipeline sends, parts of kernels.
        """
        apart = (*_ATTENTION, LinearScan, PipelineSend)
        if isinstance(operator, apart) or self._fused(operator):
            return None
        return self._timed(replace(operator, count=1))[1]

    def _curves(self, operator: Operator) -> Curves:
        """Whose tokens an operator's time depends on."""
        if isinstance(operator, Moe):
            return self._group
        if isinstance(operator, (Gemm, Collective)) and operator.tokens == "sampled":
            return self._sampled
        return self._rank

    def _timed(self, operator: Operator) -> tuple[str, tuple[Array, Origins]]:
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

    def _moved(self, operator: HyperConnection | Elementwise | Quantize) -> tuple[Array, Origins]:
        """Kernels that memory traffic bounds."""
        tables = self._tables
        if isinstance(operator, HyperConnection):
            return mixing_seconds(tables, operator.hidden, operator.streams, TOKENS)
        if isinstance(operator, Quantize):
            return memory_seconds(tables, 3.0 * operator.k * TOKENS)
        return self._elementwise(operator)

    def _product(self, operator: Gemm) -> tuple[Array, Origins]:
        tables, n, k, dtype = self._tables, operator.n, operator.k, operator.dtype
        if dtype == "float32":
            return float32_seconds(tables, n, k, TOKENS, self.traits.float32_products)
        return gemm_seconds(tables, dtype, n, k, TOKENS)

    def _traffic(self, operator: Gemm | Elementwise | Quantize) -> Array:
        """Seconds that one occurrence takes at the speed of light."""
        gpu = self._tables.system.gpu
        if isinstance(operator, Gemm):
            return gemm_light(gpu, operator.dtype, operator.n, operator.k, TOKENS)
        each = 3.0 * operator.k if isinstance(operator, Quantize) else operator.bytes_per_token
        return each * TOKENS / gpu.memory_bandwidth

    def _experts(self, operator: Moe) -> tuple[Array, Origins]:
        tables = self._tables
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

        Iterations beyond the largest captured graph launch theirs one by one.
        """
        shape = (self._tables, operator.op, operator.ranks, moved)
        time, origin = collective_seconds(*shape)
        if self.traits.graphs.prefill == "captured" and len(self._graph_sizes):
            later, other = collective_seconds(*shape, eager=True)
            outside = self._graph_sizes[-1] < TOKENS
            time, origin = np.where(outside, later, time), np.where(outside, other, origin)
        norms_next = operator.op == "all_reduce" and operator.where != "qk_norm"
        if not norms_next or not self._norm_limit:
            return time, origin
        normed, lent = collective_seconds(*shape, normed=True)
        joined = moved <= self._norm_limit
        return np.where(joined, normed, time), np.where(joined, lent, origin)

    def _elementwise(self, operator: Elementwise) -> tuple[Array, Origins]:
        """Kernels that move memory; of a norm in the all-reduce before it only the traffic."""
        moved = operator.bytes_per_token * TOKENS
        time, origin = memory_seconds(self._tables, moved / operator.launches)
        time = time * operator.launches
        if operator.kind == "norm":
            traffic = moved / self._tables.system.gpu.memory_bandwidth
            message = TOKENS * self.spec.hidden * BF16
            time = np.where(message <= self._norm_limit, traffic, time)
        return time, origin

    def _exchange(self, operator: MoeExchange) -> tuple[Array, Origins]:
        tables = self._tables
        shape = Exchange(
            operator.ranks, operator.hidden, operator.topk, operator.experts,
            sent_precision(operator.dtype),
        )  # fmt: skip
        return exchange_seconds(tables, self._way(), shape, TOKENS * operator.token_share)

    def _way(self) -> ExchangeKernel:
        domain = self._tables.system.nvlink_domain
        return self.traits.exchange(self.parallel, domain, measured_kernels(self._tables))

    def _all_to_all(self) -> bool:
        """Whether a rank receives only the tokens of its own experts."""
        return self._way() not in ("none", "all_reduce", "allgather_reducescatter")

    def _add_send(self, operator: PipelineSend) -> None:
        """Activations cross every boundary between pipeline stages once."""
        system = self._tables.system
        crosses = self.parallel.gpus > system.nvlink_domain
        time = send_seconds(system, operator.bytes_per_token * TOKENS, crosses_domain=crosses)
        time = time * self.traits.scales.get("communication", 1.0)
        self._rank.add("communication", time * (self.parallel.pp - 1), unmeasured(time))

    def _fused(self, operator: Operator) -> bool:
        """Whether a small operator is part of a larger kernel of this engine."""
        traits = self.traits
        if isinstance(operator, Quantize):
            whole = operator.in_module and self._attention.whole
            return whole or operator.after in traits.fused_quantization
        if not isinstance(operator, Elementwise):
            return False
        in_module = operator.kind in ("latent_norm", "rope", "kv_write")
        return operator.kind in traits.fused_elementwise or (in_module and self._attention.whole)

    def _moe_dtype(self, dtype: str) -> str:
        """mxfp4 experts multiply by 8-bit activations where the GPU has 4-bit tensor cores."""
        return "mxfp4_fp8" if dtype == "mxfp4" and self._tables.system.gpu.sm >= 100 else dtype


def shares(values: Array) -> NDArray[np.float64]:
    """Normalise parts (first axis) to sum to 1."""
    total = values.sum(axis=0, keepdims=True)
    found: Array = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    return found
