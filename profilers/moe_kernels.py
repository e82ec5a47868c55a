"""Kernels of routed experts: PyTorch's grouped product, our own in Triton, those of engines.

Signatures as in vllm 0.24.0 (vllm/model_executor/layers/fused_moe/fused_moe.py, config.py and
router/fused_topk_router.py) and sglang 0.5.14 (srt/layers/moe/topk.py, moe_runner/base.py and
moe_runner/triton_utils/fused_moe.py). Every call begins at the router's logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profilers.availability import Unsupported, dtypes, needs
from profilers.formats import BLOCK
from profilers.operator import Call, Inputs, Kernel, Key

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device


def _grouped_mm(key: Key, inputs: Inputs) -> Call:
    """Pairs sorted by expert, one grouped product over all; those of other GPUs come last."""
    import torch
    from torch.nn.functional import silu

    x, logits, topk = inputs["x"], inputs["logits"], inputs["topk"]
    first, second = inputs["gate_up"].transpose(1, 2), inputs["down"].transpose(1, 2)
    local = len(first)
    every = torch.arange(local, device=x.device)

    def call() -> Tensor:
        best, ids = logits.topk(topk, dim=1)
        ids, order = ids.flatten().sort()
        share = best.softmax(1).flatten()[order].where(ids < local, 0.0)
        token = order // topk
        ends = torch.searchsorted(ids, every, right=True).to(torch.int32)
        gate, up = torch._grouped_mm(x[token], first, offs=ends).chunk(2, dim=1)
        y = torch._grouped_mm(silu(gate) * up, second, offs=ends)
        # Rows behind the last group were never written: they may hold anything.
        y = (y * share[:, None]).where((ids < local)[:, None], 0.0)
        return torch.zeros(x.shape, device=x.device).index_add_(0, token, y).to(x.dtype)

    return call


def _triton(key: Key, inputs: Inputs) -> Call:
    from profilers.kernels.fused_moe import fused_moe
    from profilers.kernels.grouped_experts import Experts

    first, second = inputs["gate_up"], inputs["down"]
    experts = Experts(first, second)
    if key["dtype"] != "bf16":
        experts = Experts(first.data, second.data, first.scale, second.scale)
    return fused_moe(inputs["x"], inputs["logits"], inputs["topk"], experts)


def _scaled(key: Key, inputs: Inputs) -> dict[str, Any]:
    """Weights and, for fp8_block, scales under the names that vLLM and SGLang share."""
    first, second = inputs["gate_up"], inputs["down"]
    if key["dtype"] == "bf16":
        return {"w1": first, "w2": second}
    return {
        "w1": first.data, "w2": second.data, "w1_scale": first.scale, "w2_scale": second.scale,
        "block_shape": [BLOCK, BLOCK],
    }  # fmt: skip


def _map(key: Key, device: str) -> Tensor | None:
    """Place of every expert on this GPU, -1 for those of others; None where it has all."""
    import torch

    if key["ep"] == 1:
        return None
    local = key["experts"] // key["ep"]
    found = torch.full((key["experts"],), -1, dtype=torch.int32, device=device)
    found[:local] = torch.arange(local, dtype=torch.int32, device=device)
    return found


def _vllm(key: Key, inputs: Inputs) -> Call:
    from vllm.model_executor.layers.fused_moe.config import (
        FUSED_MOE_UNQUANTIZED_CONFIG,
        fp8_w8a8_moe_quant_config,
    )
    from vllm.model_executor.layers.fused_moe.fused_moe import fused_experts
    from vllm.model_executor.layers.fused_moe.router.fused_topk_router import fused_topk

    x, logits, topk = inputs["x"], inputs["logits"], inputs["topk"]
    weights = _scaled(key, inputs)
    w1, w2 = weights.pop("w1"), weights.pop("w2")
    quant = fp8_w8a8_moe_quant_config(**weights) if weights else FUSED_MOE_UNQUANTIZED_CONFIG
    where = _map(key, x.device)

    def call() -> Tensor:
        shares, ids, _ = fused_topk(x, logits, topk, renormalize=True)
        y: Tensor = fused_experts(
            x, w1, w2, shares, ids, global_num_experts=key["experts"], expert_map=where,
            quant_config=quant,
        )  # fmt: skip
        return y

    return call


def _sglang_server() -> None:
    """Flags of a server that SGLang's kernels ask for; there is none here."""
    from types import SimpleNamespace

    from sglang.srt import server_args

    if server_args._global_server_args is None:
        names = ("deterministic_inference", "fused_moe_sum_all_reduce", "deepep_waterfill", "lora")
        flags = SimpleNamespace(**{f"enable_{name}": False for name in names})
        server_args.set_global_server_args_for_scheduler(flags)


def _sglang(key: Key, inputs: Inputs) -> Call:
    import torch
    from sglang.srt.layers.moe.moe_runner import MoeRunnerConfig
    from sglang.srt.layers.moe.moe_runner.triton_utils.fused_moe import fused_experts
    from sglang.srt.layers.moe.topk import StandardTopKOutput, fused_topk

    _sglang_server()
    x, logits, topk = inputs["x"], inputs["logits"], inputs["topk"]
    weights = _scaled(key, inputs)
    config = MoeRunnerConfig(
        num_experts=key["experts"], num_local_experts=key["experts"] // key["ep"], top_k=topk,
        hidden_size=key["hidden"], intermediate_size_per_partition=key["inter"] // key["tp"],
        params_dtype=torch.bfloat16, inplace=False,
    )  # fmt: skip
    where = _map(key, x.device)

    def call() -> Tensor:
        shares, ids = fused_topk(x, logits, topk, renormalize=True)
        # SGLang's dispatcher renames experts to those of this GPU, -1 for others.
        ids = ids if where is None else where[ids.long()]
        y: Tensor = fused_experts(
            x, topk_output=StandardTopKOutput(shares, ids, logits), moe_runner_config=config,
            use_fp8_w8a8=key["dtype"] == "fp8_block", **weights,
        )  # fmt: skip
        return y

    return call


def _grouped(device: Device, key: Key) -> str:
    """Strides of a grouped product are multiples of 16 bytes."""
    if key["inter"] // key["tp"] % 8 or key["hidden"] % 8:
        return "needs multiples of 8"
    return dtypes("bf16")(device, key)


_WIDE, _BLOCKS = dtypes("bf16"), dtypes("fp8_block")
_OWN = dtypes("bf16", "fp8_block", "mxfp4")


def _either(*checks: Unsupported) -> Unsupported:
    def unsupported(device: Device, key: Key) -> str:
        reasons = [check(device, key) for check in checks]
        return "" if "" in reasons else reasons[0]

    return unsupported


KERNELS = (
    Kernel("torch._grouped_mm", "torch", needs(), _grouped, _grouped_mm),
    Kernel("fused_moe", "triton", needs("triton"), _OWN, _triton),
    Kernel(
        "vllm_unquantizedfusedmoe_triton_tritonexperts", "vllm", needs("vllm", sm=80), _WIDE, _vllm
    ),
    Kernel("vllm_fp8moe_triton_tritonexperts", "vllm", needs("vllm", sm=89), _BLOCKS, _vllm),
    Kernel(
        "sglang_fused_moe_triton", "sglang", needs("sglang", "sgl_kernel", sm=80),
        _either(_WIDE, _BLOCKS), _sglang,
    ),
)  # fmt: skip
