"""Kernels of latent attention: PyTorch's, our own in Triton, and those that engines call.

Signatures as in vllm 0.24.0 (vllm/v1/attention/backends/mla/flashattn_mla.py, flashmla.py,
triton_mla.py and prefill/flash_attn.py; vllm/_custom_ops.py), sglang 0.5.14 (srt/layers/attention/
flashattention_backend.py) and flashinfer 0.6 (flashinfer/mla.py). Absorbed decode there is
attention whose query and key carry the position (64 numbers) and whose value, with a query of its
own, is the latent vector (512).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from profilers.availability import needs
from profilers.operator import Call, Inputs, Kernel, Key

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device

# DeepSeek-V3's head (config.json of deepseek-ai/DeepSeek-V3): kv_lora_rank, qk_rope_head_dim,
# qk_nope_head_dim, v_head_dim.
LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128
_FLASHINFER_WORKSPACE = 128 << 20  # bytes, as vllm/v1/attention/backends/flashinfer.py takes it


def _sdpa_prefill(key: Key, inputs: Inputs) -> Call:
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (
        inputs[n].unflatten(0, (key["batch"], key["isl"])).transpose(1, 2) for n in ("q", "k", "v")
    )

    def call() -> Tensor:
        y = scaled_dot_product_attention(q, k, v, is_causal=True, scale=inputs["scale"])
        return y.transpose(1, 2).flatten(0, 1)

    return call


def _sdpa_decode(_key: Key, inputs: Inputs) -> Call:
    """PyTorch's attention has no pages: a cache of one row per request stands for them."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    found = inputs["pages"]
    place = torch.arange(found.requests.seen[0], device=found.table.device)
    slots = found.table[:, place // found.page].long() * found.page + place % found.page
    cache = inputs["cache"].flatten(0, 1)[slots]
    q = inputs["q"][:, None]  # one KV head, and heads where queries would be: all see everything
    k, v = cache[:, None], cache[:, None, :, :LATENT]

    def call() -> Tensor:
        cache[:, -1] = inputs["new"]
        return scaled_dot_product_attention(q, k, v, scale=inputs["scale"])[:, 0]

    return call


def _bmm(key: Key, inputs: Inputs) -> Call:
    """As engines call it: heads first, and for the way back an output with tokens first."""
    import torch

    x, w = inputs["x"].transpose(0, 1), inputs["w"]
    shape = (key["tokens"], key["heads"], w.shape[2])
    if key["op"] == "pre":
        return lambda: torch.bmm(x, w).transpose(0, 1)
    y = torch.empty(shape, dtype=w.dtype, device=w.device)

    def call() -> Tensor:
        torch.bmm(x, w, out=y.transpose(0, 1))
        return y

    return call


def _triton_prefill(_key: Key, inputs: Inputs) -> Call:
    from profilers.kernels import latent_prefill

    most = max(inputs["requests"].new)
    some = (inputs["q"], inputs["k"], inputs["v"], inputs["starts"], inputs["scale"], NOPE)
    config = latent_prefill.chosen(*some, most)
    return lambda: latent_prefill.latent_prefill(*some, config, most)


def _triton_decode(_key: Key, inputs: Inputs) -> Call:
    from profilers.kernels import latent_decode
    from profilers.kernels.cache_write import write_latent

    found, cache = inputs["pages"], inputs["cache"]
    longest = max(found.requests.seen)
    some = (inputs["q"], cache, found.table, found.lengths, inputs["scale"], LATENT)
    config = latent_decode.chosen(*some, longest)

    def call() -> Tensor:
        write_latent(inputs["new"], cache, found.slots)
        return latent_decode.latent_decode(*some, config, longest)

    return call


def _vllm_prefill(_key: Key, inputs: Inputs) -> Call:
    """FlashAttention-3 takes values narrower than keys; there is no padding on Hopper."""
    from vllm.vllm_flash_attn import flash_attn_varlen_func

    q, k, v, starts = (inputs[n] for n in ("q", "k", "v", "starts"))
    most = max(inputs["requests"].new)

    def call() -> Tensor:
        y: Tensor = flash_attn_varlen_func(
            q=q, k=k, v=v, cu_seqlens_q=starts, cu_seqlens_k=starts, max_seqlen_q=most,
            max_seqlen_k=most, softmax_scale=inputs["scale"], causal=True, fa_version=3,
        )  # fmt: skip
        return y

    return call


def _vllm_write(key: Key, inputs: Inputs) -> Callable[[], None]:
    import torch
    from vllm._custom_ops import concat_and_cache_mla

    new, slots = inputs["new"], inputs["pages"].slots
    one = torch.ones(1, device=new.device)
    cache = inputs["cache"]
    latent, rope = new[:, :LATENT], new[:, LATENT:]
    if key["kv_dtype"] == "fp8":
        narrow = cache.view(torch.uint8)  # as the operator knows it
        return lambda: concat_and_cache_mla(latent, rope, narrow, slots, "fp8", one)
    return lambda: concat_and_cache_mla(latent, rope, cache, slots, "auto", one)


def _vllm_flash(key: Key, inputs: Inputs) -> Call:
    from vllm.vllm_flash_attn import flash_attn_varlen_func, get_scheduler_metadata

    found, write, q = inputs["pages"], _vllm_write(key, inputs), inputs["q"]
    longest = max(found.requests.seen)
    latent, rope = q[..., :LATENT].contiguous(), q[..., LATENT:].contiguous()
    cache = inputs["cache"].unsqueeze(2)
    keys, values = cache[..., LATENT:], cache[..., :LATENT]
    schedule = get_scheduler_metadata(
        batch_size=len(found.lengths), max_seqlen_q=1, max_seqlen_k=longest,
        num_heads_q=key["heads"], num_heads_kv=1, headdim=ROPE, headdim_v=LATENT,
        cache_seqlens=found.lengths, qkv_dtype=q.dtype, cu_seqlens_q=found.starts,
        page_size=found.page, causal=True,
    )  # fmt: skip

    def call() -> Tensor:
        write()
        y: Tensor = flash_attn_varlen_func(
            q=rope, k=keys, v=values, q_v=latent, max_seqlen_q=1, cu_seqlens_q=found.starts,
            max_seqlen_k=longest, seqused_k=found.lengths, block_table=found.table,
            softmax_scale=inputs["scale"], causal=True, fa_version=3,
            scheduler_metadata=schedule,
        )  # fmt: skip
        return y

    return call


def _vllm_flashmla(key: Key, inputs: Inputs) -> Call:
    import torch
    from vllm.v1.attention.ops.flashmla import (
        flash_mla_with_kvcache,
        flash_mla_with_kvcache_fp8,
        get_mla_metadata,
        get_mla_metadata_dense_fp8,
    )

    found, write = inputs["pages"], _vllm_write(key, inputs)
    q, cache = inputs["q"][:, None], inputs["cache"].unsqueeze(2)
    shared = {
        "block_table": found.table, "cache_seqlens": found.lengths, "head_dim_v": LATENT,
        "softmax_scale": inputs["scale"], "causal": True,
    }  # fmt: skip
    if key["kv_dtype"] == "fp8":
        narrow, one = q.to(torch.float8_e4m3fn), torch.ones(1, device=q.device)
        plan, splits = get_mla_metadata_dense_fp8(found.lengths, key["heads"], 1)

        def call_fp8() -> Tensor:
            write()
            y: Tensor = flash_mla_with_kvcache_fp8(
                q=narrow, k_cache=cache, tile_scheduler_metadata=plan, num_splits=splits,
                descale_q=one, descale_k=one, **shared,
            )[0]  # fmt: skip
            return y[:, 0]

        return call_fp8
    schedule, _ = get_mla_metadata()  # filled by the first call

    def call() -> Tensor:
        write()
        y: Tensor = flash_mla_with_kvcache(
            q=q, k_cache=cache, tile_scheduler_metadata=schedule, **shared
        )[0]
        return y[:, 0]

    return call


def _sglang_flash(_key: Key, inputs: Inputs) -> Call:
    """SGLang's pages hold one token unless told otherwise, so its table has a slot per token."""
    import torch
    from sglang.jit_kernel.flash_attention import flash_attn_with_kvcache

    found, q, flat = inputs["pages"], inputs["q"], inputs["cache"].flatten(0, 1)
    slot = torch.arange(found.table.shape[1] * found.page, device=q.device)
    table = (found.table[:, slot // found.page] * found.page + slot % found.page).to(torch.int32)
    latent, rope = q[..., :LATENT].contiguous(), q[..., LATENT:].contiguous()
    cache = flat[:, None, None]
    new = inputs["new"].to(flat.dtype)

    def call() -> Tensor:
        flat[found.slots] = new  # MLATokenToKVPool.set_mla_kv_buffer
        y: Tensor = flash_attn_with_kvcache(
            q=rope, k_cache=cache[..., LATENT:], v_cache=cache[..., :LATENT], qv=latent,
            page_table=table, cache_seqlens=found.lengths, cu_seqlens_q=found.starts,
            max_seqlen_q=1, softmax_scale=inputs["scale"], causal=True, ver=3,
        )  # fmt: skip
        return y

    return call


def _flashinfer_decode(key: Key, inputs: Inputs) -> Call:
    import torch
    from flashinfer.mla import BatchMLAPagedAttentionWrapper

    found, q = inputs["pages"], inputs["q"]
    counts = (found.lengths + found.page - 1) // found.page
    ends = torch.zeros(len(counts) + 1, dtype=torch.int32, device=q.device)
    ends[1:] = counts.cumsum(0)
    used = torch.arange(found.table.shape[1], device=q.device) < counts[:, None]
    flat = inputs["cache"].flatten(0, 1)
    latent, rope = q[..., :LATENT].contiguous(), q[..., LATENT:].contiguous()
    keys, values = inputs["cache"][..., LATENT:], inputs["cache"][..., :LATENT]
    workspace = torch.empty(_FLASHINFER_WORKSPACE, dtype=torch.uint8, device=q.device)
    wrapper = BatchMLAPagedAttentionWrapper(workspace)
    wrapper.plan(
        found.starts, ends, found.table[used], found.lengths, key["heads"], LATENT, ROPE,
        found.page, False, inputs["scale"], q.dtype, flat.dtype,
    )  # fmt: skip

    def call() -> Tensor:
        flat[found.slots] = inputs["new"]
        y: Tensor = wrapper.run(latent, rope, values, keys)
        return y

    return call


def _wide(_device: Device, key: Key) -> str:
    return "" if key.get("kv_dtype", "bf16") == "bf16" else "has no narrow cache"


def _hopper(device: Device, _key: Key) -> str:
    """FlashAttention-3 and FlashMLA are written for the matrix units of Hopper."""
    return "" if device.sm == 90 else "runs on sm 90 only"


def _wide_hopper(device: Device, key: Key) -> str:
    return _hopper(device, key) or _wide(device, key)


def _any(_device: Device, _key: Key) -> str:
    return ""


_SDPA = "torch.scaled_dot_product_attention"
PREFILL = (
    Kernel(_SDPA, "torch", needs(), _wide, _sdpa_prefill),
    Kernel("latent_prefill", "triton", needs("triton"), _any, _triton_prefill),
    Kernel("FLASH_ATTN", "vllm", needs("vllm", sm=90), _hopper, _vllm_prefill),
)
DECODE = (
    Kernel(_SDPA, "torch", needs(), _wide, _sdpa_decode),
    Kernel("latent_decode", "triton", needs("triton"), _any, _triton_decode),
    Kernel("FLASH_ATTN_MLA", "vllm", needs("vllm", sm=90), _wide_hopper, _vllm_flash),
    Kernel("FLASHMLA", "vllm", needs("vllm", sm=90), _hopper, _vllm_flashmla),
    Kernel(
        "flash_attention", "sglang", needs("sglang", "sgl_kernel", sm=90), _wide_hopper,
        _sglang_flash,
    ),
    Kernel("BatchMLAPagedAttention", "flashinfer", needs("flashinfer", sm=80), _wide,
           _flashinfer_decode),
)  # fmt: skip
BMM = (
    Kernel("torch.bmm", "torch", needs(), _any, _bmm),
    Kernel("vllm_torch_bmm", "vllm", needs("vllm"), _any, _bmm),
    Kernel("sglang_torch_bmm", "sglang", needs("sglang"), _any, _bmm),
)
