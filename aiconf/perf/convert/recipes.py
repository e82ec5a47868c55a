"""How each source table becomes rows of our schema: names, units, one function per table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiconf.perf.convert import names
from aiconf.perf.convert.attention_recipes import ATTENTION_RECIPES
from aiconf.perf.convert.columns import MILLI, Context, Recipe, frame, known, precision

if TYPE_CHECKING:
    import pandas as pd

MICRO = 1e-6


def _gemm(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return frame(
        d,
        {
            "dtype": precision(d.gemm_dtype),
            "n": d.n,
            "k": d.k,
            "kernel": d.kernel_source,
            "m": d.m,
            "seconds": d.latency * MILLI,
        },
    )


def _moe(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return frame(
        d,
        {
            "dtype": precision(d.moe_dtype),
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
    size = known(dtype, names.ELEMENT_BYTES, "data type of collectives")
    return frame(
        d,
        {
            "op": known(d.op_name, names.COLLECTIVES, "collective"),
            "kernel": d.kernel_source.map(lambda name: names.COLLECTIVE_KERNELS.get(name, name)),
            "dtype": precision(dtype),
            "gpus": d.num_gpus,
            "bytes": d.message_size * size.astype("int64"),
            "seconds": d.latency * MILLI,
        },
    )


def _communication_kernel(values: pd.Series) -> pd.Series:
    return values.map(lambda name: names.MOE_COMMUNICATION_KERNELS.get(name, name))


def _moe_a2a(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return frame(
        d,
        {
            "phase": d.phase,
            "kernel": _communication_kernel(d.comm_backend),
            "dtype": precision(d.comm_dtype),
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
    return frame(
        d,
        {
            "phase": d.op_name.str.removeprefix("alltoall_"),
            "kernel": _communication_kernel(d.kernel_source),
            "dtype": precision(d.moe_dtype),
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
        frame(
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
            "dtype": precision(d.quant_dtype),
            "k": d.k,
            "m": d.m,
            "seconds": d.latency * MILLI,
        }
        return frame(d, columns)

    return recipe


def _hyper_connection(d: pd.DataFrame, _: Context) -> pd.DataFrame:
    return frame(
        d,
        {
            "op": d.op_name,
            "hidden": d.hidden_size,
            "streams": d.hc_mult,
            "kernel": d.kernel_source,
            "tokens": d.num_tokens,
            "seconds": d.latency * MILLI,
        },
    )


# Source table -> (our table, recipe). Source tables that are not listed are not imported.
RECIPES: Mapping[str, tuple[str, Recipe]] = ATTENTION_RECIPES | {
    "mhc_module_perf": ("hyper_connection", _hyper_connection),
    "gemm_perf": ("gemm", _gemm),
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
