"""What an engine does by default: its scheduler, memory rules, graphs, layouts and kernels.

The facts are data (``backends/*.yaml``, each with its source, typed in ``trait_schema``); here
are the few rules that combine them. Units: bytes, seconds, tokens, sequences.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiconf.engine.trait_schema import (
    FORBID,
    Activation,
    Communication,
    Exchange,
    Graphs,
    Host,
    KvCache,
    Layouts,
    Memory,
    Producer,
    Scheduler,
    Small,
    Tier,
    Vision,
    at,
)
from aiconf.errors import unknown
from aiconf.model.cache import LATENT, CacheKind
from aiconf.model.expert_kernel import PLAIN, ExpertKernel
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel, pod_gpus
from aiconf.resources import data_dir, read_yaml

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class Traits:
    """One engine version's defaults and rules. ``sources``: fact -> where it was read.

    kernels: choice -> sm -> kernels of a table that holds several, the default first.
    serial_prefill: prefill attention kernels that do not divide the keys of a query tile among
        thread blocks, so that a short chunk behind a long past waits for one block.
    sparse_settings: kind of cache -> smallest sm -> what the engine must be told of attention.
    moe_settings: MoE kernel of a table -> value of the engine's MoE backend setting.
    expert_kernels: precision of experts -> architecture (``any``: others) -> smallest sm -> how
        the default kernel holds them; as they are stored where nothing is said.
    lenders: choice -> smallest sm -> backend whose table of the same kernel stands in for an
        unusable own one.
    scales: part of an iteration (``curves.PARTS``) -> factor on its time; acceptance -> factor on
        the probability that a drafted token is kept; launch -> factor on ``seconds_per_launch`` of
        the host's processors. From a calibration; none: 1.
    fused_quantization: producers of activations that quantise them in the same kernel.
    fused_elementwise: kinds of small operators that are part of a larger kernel.
    shared_stream_tokens: most tokens of an iteration whose shared experts run on a stream of
        their own beside the routed ones; 0: never.
    float32_products: whether products of float32 run without tensor cores or as TF32.
    norm_in_all_reduce: largest message in bytes whose all-reduce also adds the residual and
        norms, by ``sm`` and ranks (0: never, None: always); empty where no engine kernel does.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    name: str
    title: str
    version: str
    scheduler: Scheduler
    kv: KvCache
    memory: Memory
    activation: Activation
    graphs: Graphs
    layouts: Layouts
    communication: Communication
    host: Host
    vision: Vision
    kernels: Mapping[str, Mapping[int, tuple[str, ...]]]
    sparse_settings: Mapping[str, Mapping[int, Mapping[str, str]]]
    serial_prefill: tuple[str, ...]
    moe_settings: Mapping[str, str]
    expert_kernels: Mapping[str, Mapping[str, Mapping[int, ExpertKernel]]]
    lenders: Mapping[str, Mapping[int, str]]
    scales: Mapping[str, float]
    fused_quantization: tuple[Producer, ...]
    fused_elementwise: tuple[Small, ...]
    float32_products: Literal["simt", "tf32"]
    shared_stream_tokens: int
    norm_in_all_reduce: Mapping[int, Mapping[int, int | None]]
    sources: Mapping[str, str]
    notes: tuple[str, ...]

    def tier(self, memory_bytes: float, sm: int) -> Tier:
        """Return the defaults for a GPU with ``memory_bytes`` in total."""
        tiers = self.scheduler.tiers
        fits = (t for t in tiers if memory_bytes >= t.min_memory_bytes and sm >= t.min_sm)
        return next(fits, tiers[-1])

    def token_budget(self, memory_bytes: float, sm: int, dp: int = 1) -> int:
        """Return the default tokens of one iteration on one attention-DP rank."""
        budget = self.tier(memory_bytes, sm).token_budget
        return budget // dp if self.scheduler.budget_shared_by_dp else budget

    def asynchronous(self, parallel: Parallel) -> bool:
        """Return whether the host's work hides behind the GPU's under this layout."""
        piped = parallel.pp > 1 and not self.scheduler.async_with_pipeline
        return self.scheduler.async_scheduling and not piped

    def max_sequences(self, memory_bytes: float, sm: int) -> int:
        """Return the default bound on running sequences of one attention-DP rank."""
        return self.tier(memory_bytes, sm).max_sequences

    def block_tokens(self, sm: int, kind: CacheKind) -> int:
        """Return the tokens of one KV block."""
        only = self.kv.block_tokens_only.get(kind)
        if only is not None:
            return only
        return at(self.kv.block_tokens_mla if kind in LATENT else self.kv.block_tokens, sm)

    def gathered_requests(self, kind: CacheKind, sm: int) -> int:
        """Return for how many of the longest requests prompts gather an fp8 cache in bf16."""
        return at(self.kv.gathered.get(kind, {}), sm, 0)

    def graph_sizes(self, max_sequences: int, largest: int | None = None) -> tuple[int, ...]:
        """Return the captured batch sizes, ascending.

        ``largest`` replaces the engine's own bound (SGLang's depends on the GPU: see
        ``Tier.largest_graph``; a deployment may raise TensorRT-LLM's).
        """
        rule = self.graphs
        bound = largest if largest is not None else rule.limit
        scaled = int(rule.limit_factor * max_sequences)
        top = scaled if bound is None else min(bound, scaled)
        sizes = {size for part in rule.sizes for size in part.up_to(top)}
        if rule.append_limit and top > 0:
            sizes.add(top)
        return tuple(sorted(sizes))

    def largest_graph(self, memory_bytes: float, sm: int, ranks: int) -> int:
        """Return the engine's default for the largest captured decode batch."""
        return at(self.tier(memory_bytes, sm).largest_graph, ranks)

    def prefill_graph_tokens(
        self,
        sizes: tuple[int, ...],
        token_budget: int,
        parallel: Parallel,
        *,
        mla: bool,
        disaggregated: bool,
        kinds: Collection[str] = (),
    ) -> int:
        """Return the most tokens with which an iteration that holds prompts runs in a graph.

        0: such iterations launch every kernel from the host. kinds: what the model is of
        ``Graphs.prefill_excludes``.
        """
        rule = self.graphs
        plain = parallel.pp == 1 and parallel.dp == 1 and not disaggregated
        if rule.prefill == "none" or not sizes or (rule.prefill_needs_plain and not plain):
            return 0
        if any(kind in kinds for kind in rule.prefill_excludes):
            return 0
        captured = rule.prefill_tokens or sizes[-1]
        top = captured if rule.prefill == "captured" else token_budget
        limited = mla and rule.prefill_limit_mla is not None
        return min(top, rule.prefill_limit_mla or top) if limited else top

    def memory_fraction(
        self,
        total_bytes: float,
        sm: int,
        parallel: Parallel,
        *,
        token_budget: int | None = None,
        mla: bool = False,
        disaggregated: bool = False,
    ) -> float:
        """Return the default of the memory setting.

        ``token_budget``: of the worker before it is shared by attention-DP ranks; None: default.
        """
        wide = self.memory.fraction_wide
        if wide is not None and parallel.dp >= self.memory.wide_ranks:
            return wide
        if self.memory.fraction is not None:
            return self.memory.fraction
        share = self.memory.static_share
        if share is None:
            raise ValueError(f"{self.name}: neither a memory fraction nor a rule for one")
        tier = self.tier(total_bytes, sm)
        budget = tier.token_budget if token_budget is None else token_budget
        graph = at(tier.largest_graph, parallel.stage_gpus)
        reserved = share.constant + share.token * max(budget, share.least_tokens)
        reserved += share.graph * graph + share.gpu * parallel.gpus
        if parallel.dp > 1:
            wide = share.dp_graph_wide if graph > share.wide_graph else 0.0
            reserved += (share.dp_graph + wide) * graph * parallel.dp
        elif parallel.pp == 1 and not disaggregated:
            captured = sum(len(part.up_to(budget)) for part in self.graphs.prefill_sizes)
            prefill = captured * share.prefill_graph
            reserved += share.prefill_graphs_mla if mla else prefill
        if total_bytes > share.floor_from:
            reserved = max(reserved, share.floor)
        return round((total_bytes - reserved) / total_bytes, 3)

    def kv_bytes(
        self,
        fraction: float,
        *,
        total: float,
        reserved: float,
        weights: float,
        activations: float,
        graphs: float,
    ) -> float:
        """Return the bytes of one GPU that become KV blocks (negative: the model does not fit).

        ``reserved``: context, NCCL and what else lies outside the engine's allocator.
        """
        if self.memory.share_of == "total":
            return fraction * total - reserved - weights - activations - graphs
        if self.memory.share_of == "static":
            return fraction * (total - reserved) - weights
        return fraction * (total - reserved - weights - activations - graphs)

    def activation_bytes(
        self, *, tokens: int, hidden: int, width: float, rows: int, vocab: int
    ) -> float:
        """Return the peak activation bytes of one rank (see ``Activation``).

        ``tokens``: token budget. ``width``: feed-forward width of one rank. ``rows``: sequences
        that are sampled at once. ``vocab``: vocabulary after any split over ranks is gathered.
        """
        rule = self.activation
        layer = rule.hidden_copies * hidden + rule.ffn_copies * width
        sampler = min(rows, tokens) * vocab * rule.sampler_bytes
        return rule.floor + max(tokens * rule.element_bytes * layer, sampler)

    def workspace_bytes(self, parallel: Parallel) -> float:
        """Return the all-reduce buffers of one GPU."""
        return self.communication.workspace_bytes * parallel.tp if parallel.tp > 1 else 0.0

    def buffer_bytes(self, parallel: Parallel) -> float:
        """Return what libraries of collectives hold on one GPU, outside the engine's allocator."""
        return self.communication.buffer_bytes if parallel.tp > 1 else 0.0

    def graph_bytes(self, sizes: tuple[int, ...]) -> float:
        """Return the memory that capturing ``sizes`` takes on one GPU."""
        return self.graphs.bytes_per_size * len(sizes)

    def allows(self, parallel: Parallel, *, moe: bool = True) -> str | None:
        """Return why the engine cannot run ``parallel``, or None when it can."""
        rule, ranks = self.layouts, parallel.stage_gpus
        if parallel.pp > 1 and not rule.pipeline:
            return f"{self.title} has no pipeline parallelism"
        if not moe and (parallel.dp > 1 or parallel.ep > 1):
            return "a dense model is replicated by more workers, not by attention DP or EP"
        if parallel.dp > 1 and rule.dp_ranks == "all" and parallel.tp > 1:
            return f"{self.title} attention DP spans every rank: dp {ranks} with tp 1, or dp 1"
        if rule.ep_sizes == "all" and parallel.ep not in (1, ranks):
            return f"{self.title} splits experts over all {ranks} ranks or none: ep 1 or {ranks}"
        return None

    def block_unit(self, kind: CacheKind) -> int:
        """Return what KV blocks must be a multiple of, or the engine does not start; 1: nothing."""
        return self.kv.block_tokens_only[kind] if kind in self.kv.block_refused else 1

    def sparse_setting(self, kind: CacheKind, sm: int) -> Mapping[str, str]:
        """Return what a deployment tells the engine of sparse attention; empty: nothing."""
        return at(self.sparse_settings.get(kind, {}), sm, {})

    def allows_apart(self, prefill: Parallel, decode: Parallel) -> str | None:
        """Return why the cache of ``prefill`` cannot go to ``decode`` workers, if so."""
        rule = self.layouts.pipeline_apart
        if rule == "none" and max(prefill.pp, decode.pp) > 1:
            return f"{self.title} moves no KV cache between pipelines: use pp 1 in both workers"
        if rule == "behind" and decode.pp not in (1, prefill.pp):
            stages = " or ".join(dict.fromkeys(("1", str(prefill.pp))))
            return (
                f"{self.title} decodes in one stage or in as many as prefill has: use pp {stages} "
                "in decode workers"
            )
        return None

    def allows_images_apart(self) -> str | None:
        """Return why images cannot be served by prefill workers beside decode workers, if so."""
        if self.vision.apart:
            return None
        return (
            f"Dynamo serves images with {self.title} by aggregated workers only: leave prefill "
            "and decode together, or leave out the images"
        )

    def spreads(self, parallel: Parallel, gpus_per_node: int) -> bool:
        """Whether a worker can be cut into equal pods, one per node."""
        pod = pod_gpus(parallel.gpus, gpus_per_node)
        whole = not self.layouts.rank_in_pod or parallel.dp == 1
        return pod > 0 and (whole or pod % (parallel.tp * parallel.pp) == 0)

    def all_reduce_limit(self, sm: int, ranks: int) -> int:
        """Return the largest message in bytes of the engine's own all-reduce; 0: never used."""
        link = self.communication
        if ranks not in link.all_reduce_ranks:
            return 0
        by_ranks = link.all_reduce_bytes.get(sm, link.all_reduce_bytes.get(0, {}))
        return at(by_ranks, ranks)

    def norm_limit(self, sm: int, ranks: int) -> float:
        """Return the largest message in bytes whose all-reduce is joined with the norm."""
        if ranks == 1 or not self.norm_in_all_reduce:
            return 0.0
        limit = at(at(self.norm_in_all_reduce, sm, {}), ranks, 0)
        return float("inf") if limit is None else float(limit)

    def exchange(
        self, parallel: Parallel, nvlink_domain: int, measured: frozenset[str]
    ) -> Exchange:
        """Return how tokens travel between attention and experts by default.

        ``nvlink_domain``: GPUs joined by NVLink. ``measured``: all-to-all kernels that the
        tables hold; others are not chosen.
        """
        link = self.communication
        if parallel.stage_gpus == 1:
            return "none"
        if parallel.dp == 1:
            return "all_reduce"
        if link.all_to_all_automatic and parallel.moe_tp == 1:
            near = parallel.stage_gpus <= nvlink_domain
            for kernel in link.all_to_all:
                if kernel in measured and (near or not kernel.startswith("nvlink")):
                    return kernel
        return link.exchange

    def kernel_order(self, table: str, sm: int) -> tuple[str, ...]:
        """Return the kernels of ``table``, the default first; empty where any may be taken.

        ``table``: ``decode_attention``, ``prefill_attention``, ``decode_mla``, ``prefill_mla``,
        or an operator and precision such as ``gemm.fp8_block`` and ``moe.nvfp4``; with ``.tp``
        where one attention group feeds the experts, if the choice differs there.
        """
        for name in (table, table.removesuffix(".tp"), table.rpartition(".")[0]):
            if name in self.kernels:
                return at(self.kernels[name], sm, ())
        return ()

    def moe_setting(self, precision: str, sm: int, *, attention_dp: bool) -> str:
        """Return the MoE backend to set for the kernel that is taken; empty: the default."""
        order = self.kernel_order(f"moe.{precision}" + ("" if attention_dp else ".tp"), sm)
        return self.moe_settings.get(order[0], "") if order else ""

    def expert_kernel(self, spec: ModelSpec, sm: int) -> ExpertKernel:
        """Return how the default kernel for the experts of ``spec`` holds their weights."""
        by_model = self.expert_kernels.get(spec.quantization.experts, {})
        return at(by_model.get(spec.architecture, by_model.get("any", {})), sm, PLAIN)

    def lent(self, sm: int) -> dict[str, str]:
        """Return choice -> backend whose tables are read instead, for a GPU."""
        found = {choice: at(by_sm, sm, "") for choice, by_sm in self.lenders.items()}
        return {choice: backend for choice, backend in found.items() if backend}


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(data_dir("backends").glob("*.yaml"))}


def backend_names() -> tuple[str, ...]:
    """Return the names of the engines that are described, sorted."""
    return tuple(_files())


def load_traits(backend: str) -> Traits:
    """Return the traits of ``backend`` (``vllm``, ``sglang``, ``trtllm`` or an alias of one).

    Raises ``UserError`` for a name that is not known.
    """
    name = re.sub(r"[^a-z0-9]", "", backend.lower())
    name = {"tensorrtllm": "trtllm"}.get(name, name)
    if name not in _files():
        raise unknown("backend", backend, backend_names())
    return _load(name)


@cache
def _load(name: str) -> Traits:
    return _adapter().validate_python(read_yaml(_files()[name]))


@cache
def _adapter() -> TypeAdapter[Traits]:
    from pydantic import TypeAdapter  # lazily: importing it costs more than all else here

    return TypeAdapter(Traits)
