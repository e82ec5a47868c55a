"""Types of ``backends/*.yaml``: a frozen dataclass per section; extra keys are refused.

Units: bytes, seconds, tokens, sequences; ``sm`` is the compute capability times ten (90 Hopper,
100 Blackwell, 103 Blackwell Ultra). A mapping keyed by ``sm`` or by ranks holds from its key
up to the next larger one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

FORBID: dict[str, Any] = {"extra": "forbid"}

_Value = TypeVar("_Value")
_RAISE: Any = object()


def at(steps: Mapping[int, _Value], key: int, default: _Value = _RAISE) -> _Value:
    """Return the entry with the largest key that does not exceed ``key``.

    Below all keys: ``default``, or the entry of the smallest where there is none.
    """
    below = [step for step in steps if step <= key]
    if below:
        return steps[max(below)]
    return steps[min(steps)] if default is _RAISE else default


AllToAll = Literal["nvlink_one_sided", "nvlink_two_sided", "deepep_ht", "deepep_ll", "deepep_auto"]
Excluded = Literal["multimodal", "gdn", "indexed"]
Exchange = Literal["none", "all_reduce", "allgather_reducescatter"] | AllToAll


@dataclass(frozen=True)
class Tier:
    """Defaults that the engine picks by the size of the GPU; the first tier that fits counts.

    min_memory_bytes, min_sm: smallest GPU of the tier. token_budget: tokens of one iteration.
    max_sequences: running sequences. largest_graph: largest captured decode batch, by the
    smallest number of tensor-parallel ranks (SGLang's tp-size) it holds for.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    min_memory_bytes: float
    min_sm: int
    token_budget: int
    max_sequences: int
    largest_graph: Mapping[int, int]


@dataclass(frozen=True)
class Scheduler:
    """How the next batch is picked.

    policy: ``mixed``: prompt chunks run beside decodes in one iteration; ``prefill_first``:
        a prompt batch takes the whole iteration and decodes wait.
    mixed_flag: setting that turns ``prefill_first`` into ``mixed``; empty where there is none.
    chunked_prefill: whether a prompt may be split over iterations without a setting.
    async_scheduling: whether the host prepares the next batch while the GPU computes;
        async_with_pipeline: also under pipeline parallelism.
    budget_shared_by_dp: the token budget is divided among attention-DP ranks.
    prefill_token_cap: most prompt tokens of one prefill batch, chunked or not; None: no cap.
    output_reserve: share of the output tokens still to come of running requests for which KV
        blocks must stay free when another is admitted: 0 admits on prompts alone (and preempts
        later), 1 never evicts. output_reserve_dp: the same under attention DP.
        output_reserve_floor: what remains of that share after output_reserve_steps decode
        iterations (0: it stays). output_reserve_new: share of the new request's own output, of
        which output_reserve_cap tokens count at most (None: all).
    balance_wait: iterations for which prompts are held until every attention-DP rank has one, at
        most; balance_more: for which they are held then, so that more may come. 0: not held.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    policy: Literal["mixed", "prefill_first"]
    mixed_flag: str
    chunked_prefill: bool
    async_scheduling: bool
    async_with_pipeline: bool
    budget_shared_by_dp: bool
    prefill_token_cap: int | None
    output_reserve: float
    output_reserve_dp: float
    balance_wait: int
    balance_more: int
    output_reserve_new: float
    output_reserve_cap: int | None
    output_reserve_floor: float
    output_reserve_steps: int
    tiers: tuple[Tier, ...]


@dataclass(frozen=True)
class SharedPages:
    """Caches of several kinds in one pool of pages (see ``engine.pages``).

    most_padding: kinds of cache whose numbers of layers differ by less than this factor form one
        group each, the smaller padded; else groups have as many layers as the rarest kind.
    whole_windows: architectures for which the engine keeps every token of a window.
    Of compressed attention: align: multiple of bytes of a page of one cache. window_block,
        state_block: tokens of a page of its window, and of its open groups by their size.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    most_padding: float
    whole_windows: tuple[str, ...]
    align: int
    window_block: int
    state_block: Mapping[int, int]

    def __hash__(self) -> int:
        """Hash a few fields: rules key a cache, and there is one per engine."""
        return hash((self.most_padding, self.align, self.window_block))


@dataclass(frozen=True)
class KvCache:
    """Paged KV cache.

    block_tokens: tokens of a block for grouped-query attention, block_tokens_mla for MLA; both
        by smallest ``sm``; block_tokens_only: where a model's kernels have one size (see
        ``cache_kind``); block_refused: kinds of cache whose blocks must be a multiple of it, at
        start. least_sm: smallest ``sm`` that has those kernels, where not all do.
        fp8_only: kinds of cache that are held in fp8 alone; no_reuse: whose blocks are not shared.
        watermark: share of all blocks kept free on admission.
    prefix_caching: whether blocks of equal prefixes are shared without a setting.
    shared_pages: how caches of several kinds share pages; None: each has its own.
    gathered: kinds of cache -> smallest ``sm`` -> longest requests for whose fp8 entries there is
        a second place in bf16, where prompts read them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    block_tokens: Mapping[int, int]
    block_tokens_mla: Mapping[int, int]
    block_tokens_only: Mapping[str, int]
    block_refused: tuple[str, ...]
    least_sm: Mapping[str, int]
    fp8_only: tuple[str, ...]
    no_reuse: tuple[str, ...]
    watermark: float
    prefix_caching: bool
    shared_pages: SharedPages | None = None
    gathered: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class StaticShare:
    """Terms of the share of memory that SGLang gives to weights and KV when none is set.

    Reserved bytes = constant + token x max(budget, least_tokens) + graph x largest_graph
    + gpu x tp x pp + dp_graph x largest_graph x dp (``dp_graph_wide`` more where the largest
    graph exceeds ``wide_graph``) + prefill graphs; at least ``floor`` on GPUs above
    ``floor_from``. All in bytes.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    constant: float
    token: float
    least_tokens: int
    graph: float
    gpu: float
    dp_graph: float
    dp_graph_wide: float
    wide_graph: int
    prefill_graph: float
    prefill_graphs_mla: float
    floor: float
    floor_from: float


@dataclass(frozen=True)
class Memory:
    """What the engine's memory setting means.

    flag: its name. share_of: ``total``: fraction x total holds everything (weights, peak
    activations, graphs, context, KV); ``static``: fraction x memory free before loading holds
    weights and KV, the rest is for activations and graphs; ``free``: fraction x memory left
    after weights, peak activations and graphs is KV.
    fraction: default; None where ``static_share`` computes it. fraction_wide: setting
        used from ``wide_ranks`` attention ranks on in place of the computed one; None: never.
    margin: lowered by so much, where a user wants more memory left empty.
    rotary_element: bytes of a cosine or sine in the tables of rotary angles, which are counted
        with the weights; 0: not known.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    flag: str
    share_of: Literal["total", "static", "free"]
    fraction: float | None
    fraction_wide: float | None
    wide_ranks: int
    static_share: StaticShare | None
    margin: float = 0.0
    rotary_element: float = 0.0


@dataclass(frozen=True)
class Activation:
    """Peak bytes of one iteration beside weights and KV: of two phases, the larger counts.

    A layer: tokens x element_bytes x (hidden_copies x hidden + ffn_copies x width), where width
    is the feed-forward width of one rank (dense: intermediate / tp; experts: top-k times
    intermediate / moe_tp, plus hidden for routed copies). Sampling: rows x vocabulary x
    sampler_bytes. floor: bytes of workspaces that are always held.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    element_bytes: float
    hidden_copies: float
    ffn_copies: float
    sampler_bytes: float
    floor: float


@dataclass(frozen=True)
class Steps:
    """Capture sizes ``start, start + step, ...`` up to and including ``stop`` (None: no end)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    start: int
    stop: int | None
    step: int

    def up_to(self, top: int) -> range:
        """Return the sizes of this part that do not exceed ``top``."""
        return range(self.start, min(top, self.stop or top) + 1, self.step)


@dataclass(frozen=True)
class Graphs:
    """CUDA graphs.

    sizes: batch sizes (tokens) captured. limit_factor x max sequences, and limit, bound the
        largest (None: not bounded by it). append_limit: the bound itself is captured too.
    padding: batches between two sizes are padded up to the next one.
    prefill: ``none``: iterations with prompt tokens never use graphs; ``captured``: they use
        piecewise graphs up to the largest captured size, or ``prefill_tokens`` where they were told
        to; ``budget``: up to the token budget.
    prefill_limit_mla: bound of the latter for MLA models. prefill_needs_plain: prefill graphs
        are off under pipeline parallelism, attention DP, all-to-all and disaggregation.
    prefill_excludes: models whose prompts no graph takes: with an architecture that also reads
        images (``multimodal``), a gated delta net (``gdn``), an indexer (``indexed``).
    prefill_sizes: token counts captured for ``budget``. bytes_per_size: GPU memory that
        capturing one decode size takes.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    sizes: tuple[Steps, ...]
    limit: int | None
    limit_factor: float
    append_limit: bool
    padding: bool
    prefill: Literal["none", "captured", "budget"]
    prefill_tokens: int | None
    prefill_limit_mla: int | None
    prefill_needs_plain: bool
    prefill_excludes: tuple[Excluded, ...]
    prefill_sizes: tuple[Steps, ...]
    bytes_per_size: float


@dataclass(frozen=True)
class Layouts:
    """Which parallel layouts the engine can run.

    pipeline_apart: pipelines where prefill and decode are apart. ``none``: on no side; ``behind``:
    prefill may be one, decode may have one stage or as many as prefill; ``any``: any on both.
    dp_ranks: ``any``: attention replicas of any tp; ``all``: attention DP spans every rank
    (attention tp is then 1). ep_sizes: ``all``: experts are split over every rank or none;
    ``divisor``: over any number of ranks that divides them. rank_in_pod: with attention DP,
    the tp x pp GPUs of a rank share a node. balanced_ep: expert-parallel ranks from which
    deployments balance the experts by redundant copies of them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    pipeline: bool
    pipeline_apart: Literal["none", "behind", "any"]
    dp_ranks: Literal["any", "all"]
    ep_sizes: Literal["all", "divisor"]
    rank_in_pod: bool
    balanced_ep: int


@dataclass(frozen=True)
class Communication:
    """Collectives.

    all_reduce_graph, all_reduce_eager: names of the engine's own all-reduce in the measured
        tables. all_reduce_ranks: group sizes it serves. all_reduce_bytes: largest message by
        ``sm`` and ranks, 0 in place of ``sm`` for any other GPU. beyond: what carries more.
    exchange: how tokens reach experts under attention DP by default. all_to_all: faster
        exchanges, best first, used when experts are not split within (moe_tp 1).
    all_to_all_automatic: taken without a setting where the hardware allows.
    workspace_bytes: GPU memory of all-reduce buffers, per rank of a group of two or more.
    buffer_bytes: GPU memory of what libraries of collectives hold besides, however many ranks.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    all_reduce_graph: str
    all_reduce_eager: str
    all_reduce_ranks: tuple[int, ...]
    all_reduce_bytes: Mapping[int, Mapping[int, int]]
    beyond: str
    workspace_bytes: float
    exchange: Literal["allgather_reducescatter"]
    all_to_all: tuple[AllToAll, ...]
    all_to_all_automatic: bool
    all_to_all_flags: Mapping[AllToAll, str]
    buffer_bytes: float = 0.0


@dataclass(frozen=True)
class Vision:
    """How a vision tower runs.

    parallel: what tensor-parallel ranks divide by default: ``weights`` of the tower, or the images
    while each holds it whole (``data``); ranks that the heads do not divide by take images.
    apart: whether Dynamo serves images where prefill and decode are apart and prefill workers
    encode them. modalities: what an architecture calls an image in the engine's limits, where it
    is not ``image``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    parallel: Literal["weights", "data"]
    apart: bool
    modalities: Mapping[str, str]


Producer = Literal["norm", "attention", "activation"]
Block = Literal["experts", "mxfp4_experts", "latent", "indexer", "linear"]
Small = Literal[
    "norm",
    "qk_norm",
    "latent_norm",
    "rope",
    "kv_write",
    "activation",
    "topk",
    "embedding",
    "gate",
    "convert",
    "index",
]


@dataclass(frozen=True)
class Host:
    """CPU time of the engine loop: per iteration, per running sequence; 0 where unknown.

    seconds_synchronous_per_layer: preparing an iteration, per layer of the model, where the host
    does that after the one before has ended (no asynchronous scheduling).
    seconds_per_launch: launching one kernel outside a CUDA graph, with what Python does for it.
    block_launches: calls of an operator of routed experts (in mxfp4, or else), latent attention,
    its indexer, or a linear recurrence, by the smallest sm they hold for; any other operator is
    one.
    waiting_blocks, waiting_exchanges: blocks, and exchanges of tokens, of which each holds the
    host until the GPU has come to it, so that launching a pass adds to its time instead of hiding
    behind it.
    seconds_exposed_per_layer: time of an iteration that is neither in its operators nor hidden
    behind them, however the host works, per layer of the model: gaps between kernels, small
    kernels that no table holds, input preparation and sampling outside the captured graph.
    seconds_per_handover: from the last prompt token in a prefill worker to the decode worker's
    first iteration with the request, beside the transfer of its cache (control messages between
    the workers, registration, polling).
    seconds_per_request: from the client to the engine's queue and back with the first token
    (HTTP, messages between processes); it delays a request but occupies nothing.
    intake_per_request, intake_per_token: work of the server's event loop on each request and
    each prompt token (tokenisation); one request at a time.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID
    seconds_per_iteration: float
    seconds_per_sequence: float
    seconds_synchronous_per_layer: float
    seconds_per_launch: float
    block_launches: Mapping[Block, Mapping[int, int]]
    waiting_blocks: tuple[Block, ...]
    waiting_exchanges: tuple[Exchange, ...]
    seconds_per_request: float
    seconds_per_handover: float
    intake_per_request: float
    intake_per_token: float
    seconds_exposed_per_layer: float

    def outside(self, isl: float) -> float:
        """Seconds of TTFT that a prompt of ``isl`` tokens spends outside the engine when alone."""
        return self.seconds_per_request + self.intake_per_request + self.intake_per_token * isl
