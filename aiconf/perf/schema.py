"""What a perf_db table holds: its columns, their units, and the order its rows are sorted in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiconf.errors import unknown

ROW_GROUP_ROWS = 8192  # rows that a selective read gets at least; also the unit of statistics
SECONDS = "seconds"
# Columns that a table may have besides: of rows that were measured with `aiconf profile`.
MEASURED = {
    "spread": "(90th - 10th percentile) / median of the samples",
    "watt": "W, median of what was sampled meanwhile; empty where nothing was",
    "sm_mhz": "MHz of the multiprocessors, likewise",
}


@dataclass(frozen=True)
class Column:
    """One key column: its name, how it is stored (``str``, ``int`` or ``bool``), and its unit."""

    name: str
    kind: str
    unit: str


@dataclass(frozen=True)
class Schema:
    """One kind of table: key columns in sort order; the measured ``seconds`` come last."""

    name: str
    meaning: str
    keys: tuple[Column, ...]

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key columns, in sort order."""
        return tuple(column.name for column in self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, ``seconds`` last."""
        return (*self.key_names, SECONDS)

    @property
    def units(self) -> dict[str, str]:
        """Unit or meaning of every column."""
        return {column.name: column.unit for column in self.keys} | {SECONDS: "s"}

    def kind(self, name: str) -> str:
        """Return how column ``name`` is stored; ``UserError`` for a column there is not."""
        if name == SECONDS:
            return "float"
        for column in self.keys:
            if column.name == name:
                return column.kind
        raise unknown(f"column of table {self.name}", name, self.names)


def _text(name: str, unit: str) -> Column:
    return Column(name, "str", unit)


def _number(name: str, unit: str) -> Column:
    return Column(name, "int", unit)


_DTYPE = _text("dtype", "precision of the operands")
_KV_DTYPE = _text("kv_dtype", "precision of the KV cache")
_KERNEL = _text("kernel", "kernel that was measured")
_HEADS = _number("heads", "query heads on one GPU")
_BATCH = _number("batch", "requests")
_ISL = _number("isl", "new tokens of each request")
_PAST = _number("past", "tokens of each request already in the cache")
_GROUP_TOKENS = _number("tokens", "tokens that enter the whole expert-parallel group")
_MOE_SHAPE = (
    _number("hidden", "elements"),
    _number("inter", "elements of one expert, before it is split"),
    _number("topk", "experts per token"),
    _number("experts", "routed experts"),
    _number("tp", "GPUs that each expert is split over"),
    _number("ep", "GPUs that experts are divided over"),
    _text("distribution", "load over experts: balanced, uniform (random), power_law_ALPHA"),
)
_ATTENTION_SHAPE = (
    _text("dtype", "precision of the attention arithmetic"),
    _KV_DTYPE,
    _number("head_dim", "elements"),
    _number("window", "tokens of the sliding window; 0: full attention"),
    _HEADS,
    _number("kv_heads", "key and value heads on one GPU"),
    _KERNEL,
    _BATCH,
)
_MLA_SHAPE = (
    _text(
        "scope",
        "kernel: attention alone; module: the block with projections of DeepSeek-V3; module_wide: "
        "the same in wide expert parallelism; module_MODEL: the block of another model",
    ),
    _text("gemm_dtype", "precision of the projections; empty for scope kernel"),
    _text("mla_dtype", "precision of the attention arithmetic"),
    _KV_DTYPE,
    _HEADS,
    _KERNEL,
    _BATCH,
)
_DSA_SHAPE = (
    _text("gemm_dtype", "precision of the projections, which the block contains"),
    _KV_DTYPE,
    _number("hidden", "elements: 7168 is the block of DeepSeek-V3.2, 6144 that of GLM-5"),
    Column("indexer", "bool", "whether the layer has an indexer, or uses an earlier layer's"),
    _HEADS,
    _KERNEL,
    _BATCH,
)
_SPARSE_SHAPE = (
    _text(
        "kind",
        "csa: an indexer chooses from entries of 4 tokens; hca: entries of 128 tokens, all read "
        "(DeepSeek-V4); msa: an indexer chooses blocks of keys (MiniMax-M3)",
    ),
    _text("gemm_dtype", "precision of the projections, which the block contains"),
    _KV_DTYPE,
    _number("hidden", "elements: 4096 DeepSeek-V4-Flash, 7168 V4-Pro, 6144 MiniMax-M3"),
    _HEADS,
    _KERNEL,
    _BATCH,
)

_ALL = (
    Schema(
        "gemm",
        "Matrix product (m, k) x (k, n)",
        (_DTYPE, _number("n", "columns"), _number("k", "depth"), _KERNEL, _number("m", "rows")),
    ),
    Schema("prefill_attention", "Attention of new prompts", (*_ATTENTION_SHAPE, _ISL)),
    Schema("decode_attention", "Attention of one new token", (*_ATTENTION_SHAPE, _PAST)),
    Schema(
        "chunk_attention",
        "Attention of chunks of prompts behind a past, or of unlike requests in one batch",
        (
            *_ATTENTION_SHAPE,
            _text("lengths", "equal; ragged: isl and past spread from a half to three halves"),
            _ISL,
            _PAST,
        ),
    ),
    Schema("mla_prefill", "Multi-head latent attention of new prompts", (*_MLA_SHAPE, _ISL)),
    Schema("mla_decode", "Multi-head latent attention of one new token", (*_MLA_SHAPE, _PAST)),
    Schema("dsa_prefill", "Sparse MLA block of new prompts without a past", (*_DSA_SHAPE, _ISL)),
    Schema("dsa_decode", "Sparse MLA block of one new token", (*_DSA_SHAPE, _PAST)),
    Schema(
        "sparse_prefill",
        "Compressed or block-sparse attention block of new prompts without a past",
        (*_SPARSE_SHAPE, _ISL),
    ),
    Schema(
        "sparse_decode",
        "Compressed or block-sparse attention block of one new token",
        (*_SPARSE_SHAPE, _PAST),
    ),
    Schema(
        "hyper_connection",
        "Mixing of residual streams before (pre) or after (post) both blocks of a layer",
        (
            _text("op", "pre or post"),
            _number("hidden", "elements of one stream"),
            _number("streams", "residual streams"),
            _KERNEL,
            _number("tokens", "tokens"),
        ),
    ),
    Schema(
        "mla_bmm",
        "Batched product that absorbs the latent projection before or after MLA decode",
        (_text("op", "pre or post"), _DTYPE, _HEADS, _KERNEL, _number("tokens", "tokens")),
    ),
    Schema(
        "encoder_attention",
        "Full attention of a vision tower's patches",
        (
            _DTYPE,
            _number("head_dim", "elements"),
            _number("heads", "heads on one GPU, as many of keys and values"),
            _KERNEL,
            _number("batch", "images"),
            _number("isl", "patches of each image"),
        ),
    ),
    Schema(
        "linear_attention",
        "Linear attention with a state of fixed size",
        (
            _text("kind", "gdn: gated delta net; kda: Kimi delta attention; mamba2: conv alone"),
            _text("stage", "conv: convolution over q, k and v; scan: the recurrence"),
            _text("phase", "prefill or decode"),
            _number("key_heads", "query and key heads on one GPU"),
            _number("value_heads", "value heads on one GPU"),
            _number("key_dim", "elements"),
            _number("value_dim", "elements"),
            _KERNEL,
            _BATCH,
            _ISL,
        ),
    ),
    Schema(
        "moe", "Expert layers of the busiest GPU", (_DTYPE, *_MOE_SHAPE, _KERNEL, _GROUP_TOKENS)
    ),
    Schema(
        "moe_wide",
        "Expert layers in wide expert parallelism, busiest GPU",
        (
            _text("phase", "prefill, decode or any"),
            _DTYPE,
            *_MOE_SHAPE,
            Column("eplb", "bool", "whether experts were balanced by the load balancer"),
            _number("slots", "expert slots with redundant ones"),
            _KERNEL,
            _GROUP_TOKENS,
        ),
    ),
    Schema(
        "collective",
        "Collective over GPUs",
        (
            _text("op", "all_reduce, all_gather, reduce_scatter, all_to_all, or send to one"),
            _KERNEL,
            _DTYPE,
            _number("gpus", "GPUs"),
            _number("bytes", "byte: the whole buffer of one GPU, the larger one of the two"),
        ),
    ),
    Schema(
        "transfer",
        "KV blocks, scattered in both memories, moved by NIXL from one to the other",
        (
            _text("op", "read: asked for where they arrive; write: where they lie"),
            _text("from", "vram or dram"),
            _text("to", "vram or dram"),
            _text("path", "local: processes on one GPU or its host; node: two GPUs; network"),
            _KERNEL,
            _number("block_bytes", "byte of one block, which is one descriptor"),
            _number("blocks", "blocks of one transfer"),
        ),
    ),
    Schema(
        "moe_all_to_all",
        "Dispatch of tokens to experts on other GPUs, and combination of their results",
        (
            _text("phase", "dispatch, combine, combine_low_precision or prepare"),
            _KERNEL,
            _DTYPE,
            _number("ep", "GPUs"),
            _number("nodes", "nodes that these GPUs span"),
            _number("hidden", "elements"),
            _number("topk", "experts per token"),
            _number("experts", "routed experts"),
            _number("sms", "multiprocessors given to communication; 0: the kernel's own choice"),
            _number("tokens", "tokens of one GPU"),
        ),
    ),
    Schema(
        "iteration",
        "One iteration of a whole engine, as a client of its server sees it",
        (
            _text("model", "checkpoint whose config.json the engine read"),
            _text("config", "first 12 digits of the SHA-256 of that config.json"),
            _text("layout", "parallel layout of the engine"),
            _text("settings", "first 8 digits of the SHA-256 of its settings: see the manifest"),
            _text("seen", "first: a lone prompt's first token; interval: between tokens of others"),
            _number("prefill", "new prompt tokens"),
            _number("decode", "sequences that get one token"),
            _number("context", "tokens that each of these has in the cache, mean"),
        ),
    ),
    Schema(
        "quantize",
        "Quantisation of activations",
        (
            _text("op", "compute_scale or scale"),
            _DTYPE,
            _number("k", "columns"),
            _number("m", "rows"),
        ),
    ),
    Schema(
        "elementwise",
        "Kernels on bf16 activations that only move memory",
        (
            _text("op", "rms_norm, add_rms_norm, silu_and_mul, quantize_groups, embedding, copy"),
            _number("width", "elements of a token's output"),
            _KERNEL,
            _number("tokens", "tokens"),
        ),
    ),
    Schema(
        "sampling",
        "Choice of the next tokens from float32 logits",
        (
            _text("op", "greedy or top_k_top_p"),
            _number("vocabulary", "logits of a request"),
            _KERNEL,
            _BATCH,
        ),
    ),
    Schema(
        "copy",
        "Copies of KV cache on and off one GPU",
        (
            _text("op", "host_to_device, device_to_host or device_to_device"),
            _number("page_bytes", "byte of a scattered page; 0: one piece"),
            _KERNEL,
            _number("bytes", "byte in all"),
        ),
    ),
)

SCHEMAS: Mapping[str, Schema] = {schema.name: schema for schema in _ALL}


def schema_of(table: str) -> Schema:
    """Return the schema of ``table``; ``UserError`` with the nearest names when there is none."""
    if table not in SCHEMAS:
        raise unknown("table", table, SCHEMAS)
    return SCHEMAS[table]
