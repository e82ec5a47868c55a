"""How each source table becomes rows of our schema: names, units, one function per table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiconf.errors import UserError
from aiconf.perf.convert import names

if TYPE_CHECKING:
    import pandas as pd

MILLI = 1e-3
MICRO = 1e-6


@dataclass(frozen=True)
class Context:
    """What a recipe needs to know beyond the rows themselves."""

    gpus_per_node: int


Recipe = Callable[["pd.DataFrame", Context], "pd.DataFrame"]


def _frame(like: pd.DataFrame, columns: Mapping[str, object]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(columns), index=like.index)


def _precision(values: pd.Series) -> pd.Series:
    return values.map(names.precision)


def _known(values: pd.Series, mapping: Mapping[str, object], what: str) -> pd.Series:
    """Map names that must all be known: an unknown element size would be a silent error."""
    missing = sorted(set(values.unique()) - set(mapping))
    if missing:
        raise UserError(f"the source has a {what} that this import does not know: {missing[0]}")
    return values.map(mapping)


def _gemm(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _frame(
        d,
        {
            "dtype": _precision(d.gemm_dtype),
            "n": d.n,
            "k": d.k,
            "kernel": d.kernel_source,
            "m": d.m,
            "seconds": d.latency * MILLI,
        },
    )


def _attention(d: pd.DataFrame, tokens: str, values: pd.Series) -> pd.DataFrame:
    return _frame(
        d,
        {
            "dtype": _precision(d.attn_dtype),
            "kv_dtype": _precision(d.kv_cache_dtype),
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


def _mla(d: pd.DataFrame, scope: object, tokens: str, values: pd.Series) -> pd.DataFrame:
    gemm: object
    if isinstance(scope, str) and scope == "kernel":
        gemm = ""
    else:  # early wide tables do not say: they were measured with the model's own fp8 blocks
        gemm = _precision(d.gemm_type) if "gemm_type" in d else "fp8_block"
    return _frame(
        d,
        {
            "scope": scope,
            "gemm_dtype": gemm,
            "mla_dtype": _precision(d.mla_dtype),
            "kv_dtype": _precision(d.kv_cache_dtype),
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


def _mla_bmm(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _frame(
        d,
        {
            "op": _known(d.op_name, {"mla_gen_pre": "pre", "mla_gen_post": "post"}, "product"),
            "dtype": _precision(d.bmm_dtype),
            "heads": d.num_heads,
            "kernel": d.kernel_source,
            "tokens": d.num_tokens,
            "seconds": d.latency * MILLI,
        },
    )


def _gated_delta(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    # The hidden size does not reach these kernels: models of equal heads are repeats.
    phases = {"context": "prefill", "generation": "decode"}
    return _frame(
        d,
        {
            "kind": d.op_name,
            "stage": d.kernel_source.map(lambda name: "conv" if "conv" in name else "scan"),
            "phase": _known(d.phase, phases, "phase of linear attention"),
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


def _moe(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _frame(
        d,
        {
            "dtype": _precision(d.moe_dtype),
            "hidden": d.hidden_size,
            "inter": d.inter_size,
            "topk": d.topk,
            "experts": d.num_experts,
            "tp": d.moe_tp_size,
            "ep": d.moe_ep_size,
            "distribution": d.distribution.str.removesuffix("_eplb"),
            "kernel": d.kernel_source,
            "tokens": d.num_tokens,
            "seconds": d.latency * MILLI,
        },
    )


def _moe_wide(phase: str) -> Recipe:
    def recipe(d: pd.DataFrame, context: Context) -> pd.DataFrame:
        rows = _moe(d, context)
        rows["phase"] = phase
        rows["eplb"] = d.distribution.str.endswith("_eplb")
        rows["slots"] = d.num_slots if "num_slots" in d else d.num_experts
        return rows

    return recipe


def _nccl(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _collective(d, d.nccl_dtype)


def _custom_all_reduce(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _collective(d, d.allreduce_dtype)


def _collective(d: pd.DataFrame, dtype: pd.Series) -> pd.DataFrame:
    # The source counts elements: as bytes, an NCCL all-gather of halves would take twice as long
    # as one of int8, and the engines' kernels would reach half of NCCL's bandwidth.
    size = _known(dtype, names.ELEMENT_BYTES, "data type of collectives")
    return _frame(
        d,
        {
            "op": _known(d.op_name, names.COLLECTIVES, "collective"),
            "kernel": d.kernel_source.map(lambda name: names.COLLECTIVE_KERNELS.get(name, name)),
            "dtype": _precision(dtype),
            "gpus": d.num_gpus,
            "bytes": d.message_size * size.astype("int64"),
            "seconds": d.latency * MILLI,
        },
    )


def _communication_kernel(values: pd.Series) -> pd.Series:
    return values.map(lambda name: names.MOE_COMMUNICATION_KERNELS.get(name, name))


def _moe_a2a(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return _frame(
        d,
        {
            "phase": d.phase,
            "kernel": _communication_kernel(d.comm_backend),
            "dtype": _precision(d.comm_dtype),
            "ep": d.ep_size,
            "nodes": d.node_num,
            "hidden": d.hidden_size,
            "topk": d.topk,
            "experts": d.num_experts,
            "sms": d.sms,
            "tokens": d.num_tokens,
            "seconds": (d.transmit_us + d.notify_us) * MICRO,
        },
    )


def _trtllm_all_to_all(d: pd.DataFrame, context: Context) -> pd.DataFrame:
    return _frame(
        d,
        {
            "phase": d.op_name.str.removeprefix("alltoall_"),
            "kernel": _communication_kernel(d.kernel_source),
            "dtype": _precision(d.moe_dtype),
            "ep": d.moe_ep_size,
            "nodes": -(-d.moe_ep_size // context.gpus_per_node),
            "hidden": d.hidden_size,
            "topk": d.topk,
            "experts": d.num_experts,
            "sms": 0,
            "tokens": d.num_tokens,
            "seconds": d.latency * MILLI,
        },
    )


def _deepep(
    d: pd.DataFrame, context: Context, kernel: str, phases: Mapping[str, tuple[object, object]]
) -> pd.DataFrame:
    import pandas as pd

    # DeepEP's own benchmark: FP8 on the way to the experts, BF16 on the way back.
    precisions = {"dispatch": "fp8", "combine": "bf16"}
    parts = [
        _frame(
            d,
            {
                "phase": phase,
                "kernel": kernel,
                "dtype": precisions[phase],
                "ep": d.node_num * context.gpus_per_node,
                "nodes": d.node_num,
                "hidden": d.hidden_size,
                "topk": d.num_topk,
                "experts": d.num_experts,
                "sms": sms,
                "tokens": d.num_token,
                "seconds": micros * MICRO,  # type: ignore[operator]
            },
        )
        for phase, (sms, micros) in phases.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _deepep_normal(d: pd.DataFrame, context: Context) -> pd.DataFrame:
    dispatch = d.dispatch_transmit_us + d.dispatch_notify_us
    combine = d.combine_transmit_us + d.combine_notify_us
    phases = {"dispatch": (d.dispatch_sms, dispatch), "combine": (d.combine_sms, combine)}
    return _deepep(d, context, "deepep_ht", phases)


def _deepep_low_latency(d: pd.DataFrame, context: Context) -> pd.DataFrame:
    phases = {"dispatch": (0, d.dispatch_avg_t_us), "combine": (0, d.combine_avg_t_us)}
    return _deepep(d, context, "deepep_ll", phases)


def _quantize(op: str) -> Recipe:
    def recipe(d: pd.DataFrame, _: Context) -> pd.DataFrame:
        columns = {
            "op": op,
            "dtype": _precision(d.quant_dtype),
            "k": d.k,
            "m": d.m,
            "seconds": d.latency * MILLI,
        }
        return _frame(d, columns)

    return recipe


# Source table -> (our table, recipe). Source tables that are not listed are not imported.
RECIPES: Mapping[str, tuple[str, Recipe]] = {
    "gemm_perf": ("gemm", _gemm),
    "context_attention_perf": ("prefill_attention", _prefill_attention),
    "generation_attention_perf": ("decode_attention", _decode_attention),
    "context_mla_perf": ("mla_prefill", _mla_prefill),
    "mla_context_module_perf": ("mla_prefill", _mla_prefill_module),
    "wideep_context_mla_perf": ("mla_prefill", _mla_prefill_wide),
    "generation_mla_perf": ("mla_decode", _mla_decode),
    "mla_generation_module_perf": ("mla_decode", _mla_decode_module),
    "wideep_generation_mla_perf": ("mla_decode", _mla_decode_wide),
    "mla_bmm_perf": ("mla_bmm", _mla_bmm),
    "gdn_perf": ("linear_attention", _gated_delta),
    "moe_perf": ("moe", _moe),
    "wideep_moe_perf": ("moe_wide", _moe_wide("any")),
    "wideep_context_moe_perf": ("moe_wide", _moe_wide("prefill")),
    "wideep_generation_moe_perf": ("moe_wide", _moe_wide("decode")),
    "nccl_perf": ("collective", _nccl),
    "custom_allreduce_perf": ("collective", _custom_all_reduce),
    "moe_a2a_perf": ("moe_all_to_all", _moe_a2a),
    "trtllm_alltoall_perf": ("moe_all_to_all", _trtllm_all_to_all),
    "wideep_deepep_normal_perf": ("moe_all_to_all", _deepep_normal),
    "wideep_deepep_ll_perf": ("moe_all_to_all", _deepep_low_latency),
    "computescale_perf": ("quantize", _quantize("compute_scale")),
    "scale_matrix_perf": ("quantize", _quantize("scale")),
}
