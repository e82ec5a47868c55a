"""Time of one iteration of one engine: a layout and a batch in, seconds out.

Built once per layout. Everything that depends on the token count alone (matrix products,
experts, collectives, small kernels) is summed over the layers into curves on one grid of token
counts, so that timing a batch is one interpolation; attention is read from its own surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aiconf.engine.attention import AttentionTimer
from aiconf.engine.batch import Array, Batch
from aiconf.engine.curves import PART, TOKENS, Curves
from aiconf.engine.launches import ATTENTION, blocks, graph_kinds, launch_seconds, launches
from aiconf.engine.linear import LinearTimer
from aiconf.engine.operator_time import OperatorTimer
from aiconf.engine.traits import Traits
from aiconf.engine.vision import VisionTimer
from aiconf.model.operators import (
    Collective,
    Elementwise,
    Gemm,
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
from aiconf.perf.collective import send_seconds
from aiconf.perf.origin import Origin, Origins, unmeasured
from aiconf.perf.tables import Tables

_WHOLE = 1e-6  # of a sequence: rounding of a mean


@dataclass(frozen=True)
class StepTime:
    """Seconds of each iteration. by_part: (part, point). by_origin: (origin, point)."""

    seconds: Array
    by_part: Array
    by_origin: Array


class StepModel:
    """``seconds(batch)`` of one engine (see the module docstring).

    beside: operators that run in addition to those of ``spec``. stage: all that run, where they
    are not those of ``spec`` under ``parallel``.
    """

    def __init__(
        self,
        tables: Tables,
        spec: ModelSpec,
        parallel: Parallel,
        traits: Traits,
        kv_dtype: str,
        beside: tuple[Operator, ...] = (),
        stage: tuple[Operator, ...] | None = None,
    ) -> None:
        self.spec, self.parallel, self.traits, self.kv_dtype = spec, parallel, traits, kv_dtype
        self._tables = tables
        self._rank = Curves()  # of the tokens of one attention rank
        self._group = Curves()  # of the tokens of all ranks that share the experts
        self._sampled = Curves()  # of the sequences that sample a token
        # Captured sizes nest, so those of the engine's largest default stand for all.
        gpu = tables.system.gpu
        most = traits.max_sequences(gpu.memory_bytes, gpu.sm)
        largest = traits.largest_graph(gpu.memory_bytes, gpu.sm, parallel.stage_gpus)
        sizes = traits.graph_sizes(most, largest)
        self._graph_sizes = np.array(sizes, dtype=np.float64)
        stage = (*(operators(spec, parallel) if stage is None else stage), *beside)
        self._prompt_graph = traits.prefill_graph_tokens(
            sizes, traits.token_budget(gpu.memory_bytes, gpu.sm, parallel.dp), parallel,
            mla=any(isinstance(one, (MlaAttention, SparseBlock)) for one in stage),
            disaggregated=False, kinds=graph_kinds(spec),
        )  # fmt: skip
        fused = parallel.tp <= tables.system.nvlink_domain  # the fused kernels end there
        self._timer = OperatorTimer(
            tables, traits, parallel, spec.hidden, self._graph_sizes, self._prompt_graph,
            traits.norm_limit(gpu.sm, parallel.tp) if fused else 0.0,
        )  # fmt: skip
        scale = traits.scales.get("attention", 1.0)
        self._attention = AttentionTimer(tables, stage, kv_dtype, scale)
        self._linear = LinearTimer(tables, stage, scale)
        launched = [0, 0]  # kernels of a pass: all, and those that no graph holds
        for operator in stage:
            self._add(operator)
            if not isinstance(operator, PipelineSend) and not self.fused(operator):
                kernels = operator.count * launches(operator, traits.host, gpu.sm)
                launched[0] += kernels
                launched[1] += kernels * isinstance(operator, ATTENTION)
        self._all = (self._rank, self._group, self._sampled)
        for curves in self._all:
            curves.close()
        layers = sum(group.count for group in spec.layers)
        self._exposed = traits.host.seconds_exposed_per_layer * layers
        if not traits.asynchronous(parallel):
            self._exposed += traits.host.seconds_synchronous_per_layer * layers
        each = launch_seconds(traits)
        self._launch = (launched[0] * each, launched[1] * each)
        self._waits = self._launching_waits(stage)
        self._vision: VisionTimer | None = None  # built once images are timed

    def _launching_waits(self, stage: tuple[Operator, ...]) -> bool:
        host = self.traits.host
        if any(block in host.waiting_blocks for one in stage for block in blocks(one)):
            return True
        exchanged = any(isinstance(one, MoeExchange) for one in stage)
        return exchanged and self._timer.way in host.waiting_exchanges

    def seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration of ``batch``: every rank, all layers, one pass."""
        tokens = self._tokens(batch)
        total = self._operators(batch, tokens)
        total = total + self._host(batch, tokens[2], total)
        if batch.images.any():
            total = total + self.image_seconds(batch.images, batch.patches)
        return total

    def operator_seconds(self, batch: Batch) -> Array:
        """Seconds of each iteration on the GPU alone."""
        return self._operators(batch, self._tokens(batch))

    def _operators(self, batch: Batch, tokens: tuple[Array, ...]) -> Array:
        total = self._attention.seconds(batch)
        if self._linear:
            total += self._linear.seconds(batch)
        for curves, count in zip(self._all, tokens, strict=True):
            total += curves.total_at(count)
        return total

    def host_seconds(self, batch: Batch, gpu: Array) -> Array:
        """Seconds that the GPU, busy for ``gpu`` seconds, waits for the host in each iteration."""
        return self._host(batch, self._tokens(batch)[2], gpu)

    def image_seconds(self, images: Array, patches: Array) -> Array:
        """Seconds that encoding ``images`` of ``patches`` each adds to an iteration."""
        return self._encoder().seconds(images, patches)

    def _encoder(self) -> VisionTimer:
        if self._vision is None:
            tower = self.spec.vision
            if tower is None:
                raise ValueError(f"{self.spec.name} has no vision tower")
            self._vision = VisionTimer(self._tables, tower, self.parallel, self.traits)
        return self._vision

    @property
    def exposed_seconds(self) -> float:
        """Seconds of every iteration that its operators do not explain (see ``Host``)."""
        return self._exposed

    @property
    def launching_waits(self) -> bool:
        """Whether ``launch_seconds`` add to the GPU's own time (see ``Host``)."""
        return self._waits

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
    def sees_all(self) -> bool:
        """Whether every token attends to all before it (see ``AttentionTimer.sees_all``)."""
        return self._attention.sees_all

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
        return self.whole(batch, self.operator_time(batch))

    def operator_time(self, batch: Batch) -> Array:
        """Seconds on the GPU by (part, origin, point)."""
        rank, group, sampled = self._tokens(batch)
        total: Array = self._rank.at(rank) + self._group.at(group) + self._sampled.at(sampled)
        self._attention.add(total[PART["attention"]], batch)
        self._linear.add(total[PART["attention"]], batch)
        return total

    def whole(self, batch: Batch, gpu: Array) -> StepTime:
        """Join the time on the GPU (see ``operator_time``) with what it waits for the host."""
        waits = self.host_seconds(batch, gpu.sum(axis=(0, 1)))
        gpu[PART["overhead"], Origin.INTERPOLATED] += waits
        if batch.images.any():
            self._encoder().add(gpu, batch.images, batch.patches)
        return StepTime(gpu.sum(axis=(0, 1)), gpu.sum(axis=1), gpu.sum(axis=0))

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
        if self.parallel.dp > 1:  # ranks are padded alike, to the largest of them
            share = np.ceil(share - _WHOLE)
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
        launching = self.launch_seconds(batch.prefill_tokens)
        return late + launching if self._waits else np.maximum(late, launching - gpu)

    def _add(self, operator: Operator) -> None:
        """Sum one operator's curve over its layers."""
        if isinstance(operator, PipelineSend):
            self._add_send(operator)
            return
        if isinstance(operator, (*ATTENTION, LinearScan)) or self.fused(operator):
            return
        # Layouts share most of their shapes: each is timed once per set of tables.
        once = replace(operator, count=1)
        graphs = self._timer.captured if isinstance(operator, Collective) else 0.0
        key = (once, self._timer.norm_limit, self.traits.float32_products, graphs)
        built = self._tables.built
        if key not in built:
            built[key] = self._timer.timed(once)
        part, (time, origin) = built[key]
        if isinstance(operator, (Gemm, Elementwise, Quantize)) and operator.beside:
            # A second stream hides the latency of small kernels; their bytes still pass.
            hidden = self.traits.shared_stream_tokens >= TOKENS
            time = np.where(hidden, np.minimum(time, self._timer.traffic(operator)), time)
        scale = self.traits.scales.get(part, 1.0)
        self._curves(operator).add(part, time * (operator.count * scale), origin)

    def once(self, operator: Operator) -> tuple[Array, Origins] | None:
        """Seconds of one occurrence of an operator on the token grid, and where each came from.

        None for what has no time of its own there: attention, pipeline sends, parts of kernels.
        """
        apart = (*ATTENTION, LinearScan, PipelineSend)
        if isinstance(operator, apart) or self.fused(operator):
            return None
        return self._timer.timed(replace(operator, count=1))[1]

    def _curves(self, operator: Operator) -> Curves:
        """Whose tokens an operator's time depends on."""
        if isinstance(operator, Moe):
            return self._group
        if isinstance(operator, (Gemm, Collective)) and operator.tokens == "sampled":
            return self._sampled
        return self._rank

    def _add_send(self, operator: PipelineSend) -> None:
        """Activations cross every boundary between pipeline stages once."""
        system = self._tables.system
        crosses = self.parallel.gpus > system.nvlink_domain
        time = send_seconds(system, operator.bytes_per_token * TOKENS, crosses_domain=crosses)
        time = time * self.traits.scales.get("communication", 1.0)
        self._rank.add("communication", time * (self.parallel.pp - 1), unmeasured(time))

    def fused(self, operator: Operator) -> bool:
        """Whether a small operator is part of a larger kernel of this engine."""
        traits = self.traits
        if isinstance(operator, Quantize):
            whole = operator.in_module and self._attention.whole
            return whole or operator.after in traits.fused_quantization
        if not isinstance(operator, Elementwise):
            return False
        in_module = operator.kind in ("latent_norm", "rope", "kv_write")
        return operator.kind in traits.fused_elementwise or (in_module and self._attention.whole)
