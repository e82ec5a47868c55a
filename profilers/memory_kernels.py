"""Kernels that move memory: PyTorch's, our own in Triton, and those that engines call.

Signatures as in vllm 0.24.0 (vllm/_custom_ops.py, model_executor/layers/activation.py,
model_executor/layers/quantization/utils/fp8_utils.py, v1/sample/ops/topk_topp_sampler.py,
v1/kv_offload/cpu/gpu_worker.py), sglang 0.5.14 (srt/layers/layernorm.py and activation.py,
srt/layers/quantization/fp8_kernel.py) and flashinfer 0.6 (flashinfer/sampling.py). Kernels of
engines that add a residual in place are left out: their input is gone after one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from profilers.availability import Unsupported, needs
from profilers.formats import BLOCK
from profilers.operator import Call, Inputs, Kernel, Key

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device

EPSILON = 1e-6  # of norms: Qwen3's rms_norm_eps; time does not depend on it
TOP_K, TOP_P = 50, 0.9  # of random sampling; time hardly depends on them


def _torch_static(_key: Key, inputs: Inputs) -> Call:
    import torch

    x, scale = inputs["x"], inputs["scale"]
    return lambda: (x / scale).to(torch.float8_e4m3fn)


def _triton_static(_key: Key, inputs: Inputs) -> Call:
    from profilers.kernels.elementwise import quantize_static

    return lambda: quantize_static(inputs["x"], inputs["scale"])


def _vllm_static(_key: Key, inputs: Inputs) -> Call:
    from vllm._custom_ops import scaled_fp8_quant

    def call() -> Tensor:
        y: Tensor = scaled_fp8_quant(inputs["x"], inputs["scale"])[0]
        return y

    return call


def _torch_elementwise(key: Key, inputs: Inputs) -> Call:
    import torch
    from torch.nn.functional import embedding, rms_norm, silu

    if key["op"] == "embedding":
        return lambda: embedding(inputs["ids"], inputs["table"])
    x = inputs["x"]
    shape = (key["width"],)
    if key["op"] == "copy":
        y = torch.empty_like(x)
        return lambda: y.copy_(x)
    if key["op"] == "silu_and_mul":
        gate, up = x.chunk(2, dim=1)
        return lambda: silu(gate) * up
    w, residual = inputs["w"], inputs["residual"]
    if key["op"] == "rms_norm":
        return lambda: rms_norm(x, shape, w, EPSILON)
    return lambda: rms_norm(x + residual, shape, w, EPSILON)


def _triton_elementwise(key: Key, inputs: Inputs) -> Call:
    from profilers.kernels import elementwise
    from profilers.kernels.quantize import quantize_tokens

    calls: dict[str, Call] = {
        "rms_norm": lambda: elementwise.rms_norm(inputs["x"], inputs["w"], EPSILON),
        "add_rms_norm": lambda: elementwise.add_rms_norm(
            inputs["x"], inputs["residual"], inputs["w"], EPSILON
        )[0],
        "silu_and_mul": lambda: elementwise.silu_and_mul(inputs["x"]),
        "quantize_groups": lambda: quantize_tokens(inputs["x"])[0],
    }
    return calls[key["op"]]


def _vllm_elementwise(key: Key, inputs: Inputs) -> Call:
    import torch
    import vllm._custom_ops as ops
    from vllm.model_executor.layers.quantization.utils.fp8_utils import per_token_group_quant_fp8

    x = inputs["x"]
    y = torch.empty((len(x), key["width"]), dtype=x.dtype, device=x.device)

    def norm() -> Tensor:
        ops.rms_norm(y, x, inputs["w"], EPSILON)
        return y

    def gated() -> Tensor:
        torch.ops._C.silu_and_mul(y, x)
        return y

    def groups() -> Tensor:
        narrow: Tensor = per_token_group_quant_fp8(x, BLOCK)[0]
        return narrow

    return {"rms_norm": norm, "silu_and_mul": gated, "quantize_groups": groups}[key["op"]]


def _sglang_elementwise(key: Key, inputs: Inputs) -> Call:
    from sgl_kernel import rmsnorm, silu_and_mul
    from sglang.srt.layers.quantization.fp8_kernel import sglang_per_token_group_quant_fp8

    x = inputs["x"]
    calls: dict[str, Call] = {
        "rms_norm": lambda: rmsnorm(x, inputs["w"], EPSILON),
        "silu_and_mul": lambda: silu_and_mul(x),
        "quantize_groups": lambda: sglang_per_token_group_quant_fp8(x, BLOCK)[0],
    }
    return calls[key["op"]]


def _seen(tokens: Tensor) -> Tensor:
    """Tokens as float64 of the same bits: the check spoils outputs with what is not a number."""
    import torch

    return tokens.to(torch.int64).view(torch.float64)


def _torch_sampling(key: Key, inputs: Inputs) -> Call:
    logits = inputs["logits"]
    if key["op"] == "greedy":
        return lambda: _seen(logits.argmax(1))

    def call() -> Tensor:
        # Sorted by probability, a token stays while those before it have less than TOP_P.
        best, ids = logits.topk(TOP_K, dim=1)
        shares = best.softmax(1)
        shares = shares.masked_fill(shares.cumsum(1) - shares >= TOP_P, 0.0)
        # The largest share over exponential noise is a draw by the shares (Gumbel's trick).
        drawn = (shares / shares.new_empty(shares.shape).exponential_()).argmax(1, keepdim=True)
        return _seen(ids.gather(1, drawn)[:, 0])

    return call


def _vllm_sampling(key: Key, inputs: Inputs) -> Call:
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p, random_sample

    logits, batch = inputs["logits"], key["batch"]
    if key["op"] == "greedy":
        return lambda: _seen(logits.argmax(-1))
    k = torch.full((batch,), TOP_K, dtype=torch.int32, device=logits.device)
    p = torch.full((batch,), TOP_P, device=logits.device)

    def call() -> Tensor:
        # It masks logits in place, and what is masked has another nucleus: a copy is timed too.
        shares = apply_top_k_top_p(logits.clone(), k, p).softmax(dim=-1, dtype=torch.float32)
        return _seen(random_sample(shares, {}))

    return call


def _flashinfer_sampling(_key: Key, inputs: Inputs) -> Call:
    from flashinfer.sampling import top_k_top_p_sampling_from_logits

    logits = inputs["logits"]
    return lambda: _seen(top_k_top_p_sampling_from_logits(logits, TOP_K, TOP_P))


def _target(inputs: Inputs) -> Tensor:
    """Where a copy goes: pinned on the host, or on the GPU."""
    import torch

    there = inputs["op"] == "device_to_host"
    device = "cpu" if there else inputs["device"]
    shape = (len(inputs["places"]), inputs["source"].shape[1])
    return torch.empty(shape, dtype=torch.int64, device=device, pin_memory=there)


def _whole(_key: Key, inputs: Inputs) -> Call:
    import torch

    source, target = inputs["source"], _target(inputs)
    seen = target.view(torch.float64)

    def call() -> Tensor:
        target.copy_(source, non_blocking=True)
        return seen

    return call


def _gathered(_key: Key, inputs: Inputs) -> Call:
    import torch

    target = _target(inputs)
    seen = target.view(torch.float64)

    def call() -> Tensor:
        torch.index_select(inputs["source"], 0, inputs["places"], out=target)
        return seen

    return call


def _pages(_key: Key, inputs: Inputs) -> Call:
    import torch

    from profilers.kernels.copy_pages import copy_pages

    target = _target(inputs)
    seen, near = target.view(torch.float64), inputs["op"] == "device_to_device"

    def call() -> Tensor:
        copy_pages(inputs["source"], target, inputs["places"], near)
        return seen

    return call


def _vllm_pages(_key: Key, inputs: Inputs) -> Call:
    """vLLM's offloading hands addresses to the driver, which copies them in one batch."""
    import torch
    from vllm._custom_ops import swap_blocks_batch

    source, target = inputs["source"], _target(inputs)
    step = 8 * source.shape[1]
    sources = source.data_ptr() + step * inputs["places"].cpu()
    targets = target.data_ptr() + step * torch.arange(len(target))
    sizes = torch.full((len(target),), step, dtype=torch.int64)
    seen = target.view(torch.float64)

    def call() -> Tensor:
        swap_blocks_batch(sources, targets, sizes)
        return seen

    return call


def _only(column: str, *values: object) -> Unsupported:
    def unsupported(_device: Device, key: Key) -> str:
        return "" if key[column] in values else f"does not do {column} {key[column]}"

    return unsupported


def _all(*checks: Callable[[Device, Key], str]) -> Unsupported:
    def unsupported(device: Device, key: Key) -> str:
        return next((why for check in checks if (why := check(device, key))), "")

    return unsupported


def _any(_device: Device, _key: Key) -> str:
    return ""


def _blocks(_device: Device, key: Key) -> str:
    whole = key["op"] != "quantize_groups" or key["width"] % BLOCK == 0
    return "" if whole else f"needs a width in multiples of {BLOCK}"


def _paged(_device: Device, key: Key) -> str:
    return "" if key["page_bytes"] else "copies pages"


_NORMS = ("rms_norm", "silu_and_mul", "quantize_groups")
QUANTIZE = (
    Kernel("torch.Tensor.to", "torch", needs(), _any, _torch_static),
    Kernel("quantize_static", "triton", needs("triton"), _any, _triton_static),
    Kernel("scaled_fp8_quant", "vllm", needs("vllm", sm=89), _any, _vllm_static),
)
ELEMENTWISE = (
    Kernel(
        "torch", "torch", needs(),
        _only("op", "rms_norm", "add_rms_norm", "silu_and_mul", "embedding", "copy"),
        _torch_elementwise,
    ),
    Kernel(
        "elementwise", "triton", needs("triton"), _only("op", "add_rms_norm", *_NORMS),
        _triton_elementwise,
    ),
    Kernel(
        "vllm._C", "vllm", needs("vllm", sm=80), _all(_only("op", *_NORMS), _blocks),
        _vllm_elementwise,
    ),
    Kernel(
        "sgl_kernel", "sglang", needs("sglang", "sgl_kernel", sm=80),
        _all(_only("op", *_NORMS), _blocks), _sglang_elementwise,
    ),
)  # fmt: skip
SAMPLING = (
    Kernel("torch", "torch", needs(), _any, _torch_sampling),
    Kernel("vllm", "vllm", needs("vllm", sm=80), _any, _vllm_sampling),
    Kernel(
        "top_k_top_p_sampling_from_logits", "flashinfer", needs("flashinfer", sm=80),
        _only("op", "top_k_top_p"), _flashinfer_sampling,
    ),
)  # fmt: skip
# Offloading runs beside the engine's graphs, not in them.
COPIES = (
    Kernel(
        "torch.Tensor.copy_", "torch", needs(), _only("page_bytes", 0), _whole, graph=False
    ),
    Kernel(
        "torch.index_select", "torch", needs(),
        _all(_paged, _only("op", "device_to_device")), _gathered, graph=False,
    ),
    Kernel("copy_pages", "triton", needs("triton"), _paged, _pages, graph=False),
    Kernel("swap_blocks_batch", "vllm", needs("vllm", sm=80), _paged, _vllm_pages, graph=False),
)  # fmt: skip
