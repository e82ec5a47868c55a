"""How the source's attention tables become rows of our schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiconf.perf.convert import names
from aiconf.perf.convert.columns import MILLI, Context, Recipe, frame, known, precision

if TYPE_CHECKING:
    import pandas as pd


def _attention(d: pd.DataFrame, tokens: str, values: pd.Series) -> pd.DataFrame:
    return frame(
        d,
        {
            "dtype": precision(d.attn_dtype),
            "kv_dtype": precision(d.kv_cache_dtype),
            "head_dim": d.head_dim,
            "window": d.window_size,
            "heads": d.num_heads,
            "kv_heads": d.num_key_value_heads,
            "kernel": d.kernel_source,
            "batch": d.batch_size,
            tokens: values,
            "seconds": d.latency * MILLI,
        },
    )


def _prefill_attention(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _attention(d, "isl", d.isl)


def _decode_attention(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _attention(d, "past", d.step)


def _encoder_attention(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return frame(
        d,
        {
            "dtype": precision(d.attn_dtype),
            "head_dim": d.head_dim,
            "heads": d.num_heads,
            "kernel": d.kernel_source,
            "batch": d.batch_size,
            "isl": d.isl,
            "seconds": d.latency * MILLI,
        },
    )


def _mla(d: pd.DataFrame, scope: object, tokens: str, values: pd.Series) -> pd.DataFrame:
    gemm: object
    if isinstance(scope, str) and scope == "kernel":
        gemm = ""
    else:  # early wide tables do not say: they were measured with the model's own fp8 blocks
        gemm = precision(d.gemm_type) if "gemm_type" in d else "fp8_block"
    return frame(
        d,
        {
            "scope": scope,
            "gemm_dtype": gemm,
            "mla_dtype": precision(d.mla_dtype),
            "kv_dtype": precision(d.kv_cache_dtype),
            "heads": d.num_heads,
            "kernel": d.kernel_source,
            "batch": d.batch_size,
            tokens: values,
            "seconds": d.latency * MILLI,
        },
    )


def _mla_prefill(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _mla(d, "kernel", "isl", d.isl)


def _mla_decode(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _mla(d, "kernel", "past", d.step)


def _mla_prefill_module(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _mla(d, d.model.map(names.mla_scope), "isl", d.isl)


def _mla_decode_module(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _mla(d, d.model.map(names.mla_scope), "past", d.step)


def _mla_prefill_wide(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _mla(d, "module_wide", "isl", d.isl)


def _mla_decode_wide(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    # Here `isl` is the context and `step` always 0; elsewhere `isl` is 1 and `step` the context.
    return _mla(d, "module_wide", "past", d.isl + d.step)


def _dsa(d: pd.DataFrame, tokens: str, values: pd.Series) -> pd.DataFrame:
    return frame(
        d,
        {
            "gemm_dtype": precision(d.gemm_type),
            "kv_dtype": precision(d.kv_cache_dtype),
            "hidden": known(d.architecture, names.DSA_HIDDEN, "model with sparse attention"),
            "indexer": ~d.op_name.str.endswith("_skip_indexer"),
            "heads": d.num_heads,
            "kernel": d.kernel_source,
            "batch": d.batch_size,
            tokens: values,
            "seconds": d.latency * MILLI,
        },
    )


def _dsa_prefill(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    # Prompts behind a past are nine in ten rows; what the past adds is computed (perf/mla.py).
    first = d[d.step == 0]
    return _dsa(first, "isl", first.isl)


def _dsa_decode(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _dsa(d, "past", d.step)


def _sparse(d: pd.DataFrame, tokens: str, values: pd.Series) -> pd.DataFrame:
    # One file may hold a model under two names (an fp8 copy of it): their shapes are the same.
    model = d.model.str.rsplit("/", n=1).str[-1]
    return frame(
        d,
        {
            "kind": d.op_name.str.extract("(csa|hca|msa)", expand=False),
            "gemm_dtype": precision(d.gemm_type),
            "kv_dtype": precision(d.kv_cache_dtype),
            "hidden": known(model, names.SPARSE_HIDDEN, "model with sparse attention"),
            "heads": d.num_heads,
            "kernel": d.kernel_source,
            "batch": d.batch_size,
            tokens: values,
            "seconds": d.latency * MILLI,
        },
    )


def _sparse_prefill(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    first = d[d.step == 0]  # as for `_dsa_prefill`
    return _sparse(first, "isl", first.isl)


def _sparse_decode(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _sparse(d, "past", d.step)


def _mla_bmm(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return frame(
        d,
        {
            "op": known(d.op_name, {"mla_gen_pre": "pre", "mla_gen_post": "post"}, "product"),
            "dtype": precision(d.bmm_dtype),
            "heads": d.num_heads,
            "kernel": d.kernel_source,
            "tokens": d.num_tokens,
            "seconds": d.latency * MILLI,
        },
    )


def _mamba2(d: pd.DataFrame, context: Context) -> pd.DataFrame:
    heads = {
        "num_k_heads": d.n_groups,
        "num_v_heads": d.nheads,
        "head_k_dim": d.d_state,
        "head_v_dim": d.head_dim,
    }
    return _gated_delta(d.assign(**heads), context)


def _kimi_delta(d: pd.DataFrame, context: Context) -> pd.DataFrame:
    # Rows of drafted tokens and of convolution and recurrence in one kernel are left out.
    joined = d.kernel_source.isin(["kda_fused_decode", "fused_kda_decode"])
    return _gated_delta(d[~joined & (d.phase != "verify")], context)


def _gated_delta(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    # The hidden size does not reach these kernels: models of equal heads are repeats.
    phases = {"context": "prefill", "generation": "decode"}
    return frame(
        d,
        {
            "kind": d.op_name,
            "stage": d.kernel_source.map(lambda name: "conv" if "conv" in name else "scan"),
            "phase": known(d.phase, phases, "phase of linear attention"),
            "key_heads": d.num_k_heads,
            "value_heads": d.num_v_heads,
            "key_dim": d.head_k_dim,
            "value_dim": d.head_v_dim,
            "kernel": d.kernel_source,
            "batch": d.batch_size,
            "isl": d.seq_len,
            "seconds": d.latency * MILLI,
        },
    )


ATTENTION_RECIPES: dict[str, tuple[str, Recipe]] = {
    "context_attention_perf": ("prefill_attention", _prefill_attention),
    "generation_attention_perf": ("decode_attention", _decode_attention),
    "encoder_attention_perf": ("encoder_attention", _encoder_attention),
    "context_mla_perf": ("mla_prefill", _mla_prefill),
    "mla_context_module_perf": ("mla_prefill", _mla_prefill_module),
    "wideep_context_mla_perf": ("mla_prefill", _mla_prefill_wide),
    "generation_mla_perf": ("mla_decode", _mla_decode),
    "mla_generation_module_perf": ("mla_decode", _mla_decode_module),
    "wideep_generation_mla_perf": ("mla_decode", _mla_decode_wide),
    "dsa_context_module_perf": ("dsa_prefill", _dsa_prefill),
    "dsa_generation_module_perf": ("dsa_decode", _dsa_decode),
    "dsv4_csa_context_module_perf": ("sparse_prefill", _sparse_prefill),
    "dsv4_hca_context_module_perf": ("sparse_prefill", _sparse_prefill),
    "msa_context_module_perf": ("sparse_prefill", _sparse_prefill),
    "dsv4_csa_generation_module_perf": ("sparse_decode", _sparse_decode),
    "dsv4_hca_generation_module_perf": ("sparse_decode", _sparse_decode),
    "msa_generation_module_perf": ("sparse_decode", _sparse_decode),
    "mla_bmm_perf": ("mla_bmm", _mla_bmm),
    "mamba2_perf": ("linear_attention", _mamba2),
    "kda_perf": ("linear_attention", _kimi_delta),
    "gdn_perf": ("linear_attention", _gated_delta),
}
