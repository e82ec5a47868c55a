"""Kernels of softmax attention: PyTorch's, our own in Triton, and those that engines call.

Signatures as in vllm 0.24.0 (vllm/vllm_flash_attn/flash_attn_interface.py, v1/attention/backends/
flash_attn.py and triton_attn.py, v1/attention/ops/triton_unified_attention.py), sglang 0.5.14
(srt/layers/attention/flashattention_backend.py, jit_kernel/flash_attention.py) and flashinfer
0.6 (flashinfer/decode.py, prefill.py, page.py). Plans and schedules are made before the clock
runs: engines make them once for all layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from profilers.availability import Unsupported, needs
from profilers.operator import Call, Inputs, Kernel, Key
from profilers.paged import PAGE

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device

_FLASHINFER_WORKSPACE = 128 << 20  # bytes, as vllm/v1/attention/backends/flashinfer.py takes it


def _sdpa(_key: Key, inputs: Inputs) -> Call:
    """PyTorch's attention has no pages: a cache of one row per request stands for them."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    found, window = inputs["pages"], inputs["window"]
    new, seen = found.requests.new[0], found.requests.seen[0]
    first = found.requests.first(0, window) if new == 1 else 0
    place = torch.arange(first, seen, device=found.table.device)
    slots = found.table[:, place // found.page].long() * found.page + place % found.page
    shape = (len(slots), new, *inputs["q"].shape[1:])
    q = inputs["q"].view(shape).transpose(1, 2)
    k_new, v_new = (inputs[n].view(len(slots), new, *inputs[n].shape[1:]) for n in ("k", "v"))
    k_cache, v_cache = (inputs[n].flatten(0, 1)[slots].contiguous() for n in ("k_cache", "v_cache"))
    k, v = k_cache.transpose(1, 2), v_cache.transpose(1, 2)

    def call() -> Tensor:
        k_cache[:, -new:] = k_new
        v_cache[:, -new:] = v_new
        y = scaled_dot_product_attention(
            q, k, v, is_causal=new > 1, scale=inputs["scale"], enable_gqa=True
        )
        return y.transpose(1, 2).flatten(0, 1)

    return call


def _triton(_key: Key, inputs: Inputs) -> Call:
    from profilers.kernels import paged_decode, paged_prefill
    from profilers.kernels.cache_write import write_cache

    found, q, window, scale = (inputs[n] for n in ("pages", "q", "window", "scale"))
    caches = (inputs["k_cache"], inputs["v_cache"])
    most, longest = max(found.requests.new), max(found.requests.seen)
    paged = (q, *caches, found.table)
    attend: Callable[[], Tensor]
    if most == 1:
        place = (found.lengths, scale, window)
        decode = paged_decode.chosen(*paged, *place, longest)
        attend = lambda: paged_decode.paged_decode(*paged, *place, decode, longest)  # noqa: E731
    else:
        where = (found.starts, found.lengths, scale, window)
        prefill = paged_prefill.chosen(*paged, *where, most)
        attend = lambda: paged_prefill.paged_prefill(*paged, *where, prefill, most)  # noqa: E731

    def call() -> Tensor:
        write_cache(inputs["k"], inputs["v"], *caches, found.slots)
        return attend()

    return call


def _vllm_write(key: Key, inputs: Inputs) -> Callable[[], None]:
    """How vLLM writes new keys and values, before every attention backend below."""
    import torch
    from vllm._custom_ops import reshape_and_cache_flash

    one = torch.ones(1, device=inputs["q"].device)
    fp8 = key["kv_dtype"] == "fp8"
    # The operator knows an fp8 cache as bytes.
    k_cache, v_cache = (
        inputs[n].view(torch.uint8) if fp8 else inputs[n] for n in ("k_cache", "v_cache")
    )
    k, v, slots = inputs["k"], inputs["v"], inputs["pages"].slots
    kind = "fp8" if fp8 else "auto"
    return lambda: reshape_and_cache_flash(k, v, k_cache, v_cache, slots, kind, one, one)


def _flash_query(key: Key, inputs: Inputs) -> Tensor:
    """FlashAttention-3 takes a query of the cache's precision; engines round it beforehand."""
    import torch

    q: Tensor = inputs["q"]
    return q.to(torch.float8_e4m3fn) if key["kv_dtype"] == "fp8" else q


def _sliding(window: int) -> tuple[int, int]:
    return (window - 1, 0) if window else (-1, -1)


def _vllm_flash(key: Key, inputs: Inputs) -> Call:
    import torch
    from vllm.vllm_flash_attn import flash_attn_varlen_func, get_scheduler_metadata

    found, write = inputs["pages"], _vllm_write(key, inputs)
    q, k_cache, v_cache = _flash_query(key, inputs), inputs["k_cache"], inputs["v_cache"]
    most, longest, window = max(found.requests.new), max(found.requests.seen), inputs["window"]
    ones = torch.ones(1, device=q.device).expand(len(found.lengths), key["kv_heads"])
    schedule = get_scheduler_metadata(
        batch_size=len(found.lengths), max_seqlen_q=most, max_seqlen_k=longest,
        num_heads_q=key["heads"], num_heads_kv=key["kv_heads"], headdim=key["head_dim"],
        cache_seqlens=found.lengths, qkv_dtype=q.dtype, cu_seqlens_q=found.starts,
        page_size=PAGE, causal=True, window_size=_sliding(window),
    )  # fmt: skip
    y = torch.empty_like(inputs["q"])

    def call() -> Tensor:
        write()
        flash_attn_varlen_func(
            q=q, k=k_cache, v=v_cache, out=y, cu_seqlens_q=found.starts, max_seqlen_q=most,
            seqused_k=found.lengths, max_seqlen_k=longest, softmax_scale=inputs["scale"],
            causal=True, window_size=list(_sliding(window)), block_table=found.table,
            scheduler_metadata=schedule, fa_version=3, q_descale=ones, k_descale=ones,
            v_descale=ones,
        )  # fmt: skip
        return y

    return call


_SEGMENTS, _FEWEST_PROGRAMS = 16, 128  # of vllm/v1/attention/backends/triton_attn.py


def _vllm_triton(key: Key, inputs: Inputs) -> Call:
    import torch
    from vllm.v1.attention.ops.triton_unified_attention import unified_attention

    found, write, q = inputs["pages"], _vllm_write(key, inputs), inputs["q"]
    most, longest = max(found.requests.new), max(found.requests.seen)
    one = torch.ones(1, device=q.device).expand(len(found.lengths), key["kv_heads"])
    split = max(1, _FEWEST_PROGRAMS // key["kv_heads"])  # requests up to which keys are divided
    parts = (split, key["heads"], _SEGMENTS)
    part = torch.empty((*parts, key["head_dim"]), device=q.device)
    tops, totals = torch.empty((2, *parts), device=q.device)
    y = torch.empty_like(q)

    def call() -> Tensor:
        write()
        unified_attention(
            q=q, k=inputs["k_cache"], v=inputs["v_cache"], out=y, cu_seqlens_q=found.starts,
            max_seqlen_q=most, seqused_k=found.lengths, max_seqlen_k=longest,
            softmax_scale=inputs["scale"], causal=True, window_size=_sliding(inputs["window"]),
            block_table=found.table, softcap=0, q_descale=None, k_descale=one, v_descale=one,
            seq_threshold_3D=split, num_par_softmax_segments=_SEGMENTS,
            softmax_segm_output=part, softmax_segm_max=tops, softmax_segm_expsum=totals,
        )  # fmt: skip
        return y

    return call


def _sglang_flash(key: Key, inputs: Inputs) -> Call:
    """SGLang's pages hold one token unless told otherwise, so its table has a slot per token."""
    import torch
    from sglang.jit_kernel.flash_attention import flash_attn_with_kvcache

    found, q = inputs["pages"], _flash_query(key, inputs)
    slot = torch.arange(found.table.shape[1] * PAGE, device=q.device)
    table = (found.table[:, slot // PAGE] * PAGE + slot % PAGE).to(torch.int32)
    flat = [inputs[n].view(-1, *inputs[n].shape[2:]) for n in ("k_cache", "v_cache")]
    k_cache, v_cache = (cache[:, None] for cache in flat)
    k, v = (inputs[n].to(flat[0].dtype) for n in ("k", "v"))
    most = max(found.requests.new)
    ones = torch.ones(1, device=q.device).expand(len(found.lengths), key["kv_heads"])

    def call() -> Tensor:
        flat[0][found.slots] = k  # MHATokenToKVPool.set_kv_buffer
        flat[1][found.slots] = v
        y: Tensor = flash_attn_with_kvcache(
            q=q, k_cache=k_cache, v_cache=v_cache, page_table=table,
            cache_seqlens=found.lengths, cu_seqlens_q=found.starts, max_seqlen_q=most,
            softmax_scale=inputs["scale"], causal=True, window_size=_sliding(inputs["window"]),
            q_descale=ones, k_descale=ones, v_descale=ones, ver=3,
        )  # fmt: skip
        return y

    return call


def _flashinfer(key: Key, inputs: Inputs) -> Call:
    import flashinfer
    import torch

    found, q, window = inputs["pages"], inputs["q"], inputs["window"]
    batch, lengths = len(found.lengths), found.lengths
    counts = (lengths + PAGE - 1) // PAGE
    ends = torch.zeros(batch + 1, dtype=torch.int32, device=q.device)
    ends[1:] = counts.cumsum(0)
    used = torch.arange(found.table.shape[1], device=q.device) < counts[:, None]
    places, last = found.table[used], (lengths - 1) % PAGE + 1
    caches = (inputs["k_cache"], inputs["v_cache"])
    owner = torch.arange(batch, device=q.device, dtype=torch.int32)
    owner = owner.repeat_interleave(found.starts.diff())
    new = lengths - found.starts.diff()
    at = new[owner] + torch.arange(len(owner), device=q.device, dtype=torch.int32)
    at -= found.starts[owner]
    workspace = torch.empty(_FLASHINFER_WORKSPACE, dtype=torch.uint8, device=q.device)
    heads = (key["heads"], key["kv_heads"], key["head_dim"])
    kinds = {"q_data_type": q.dtype, "kv_data_type": caches[0].dtype, "sm_scale": inputs["scale"]}
    left = window - 1 if window else -1
    if max(found.requests.new) == 1:
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            workspace, "NHD", use_tensor_cores=True
        )
        wrapper.plan(ends, places, last, *heads, PAGE, window_left=left, **kinds)
    else:
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")
        wrapper.plan(
            found.starts, ends, places, last, *heads, PAGE,
            causal=True, window_left=left, **kinds,
        )  # fmt: skip
    k, v = (inputs[n].to(caches[0].dtype) for n in ("k", "v"))

    def call() -> Tensor:
        flashinfer.append_paged_kv_cache(k, v, owner, at, caches, places, ends, last, "NHD")
        y: Tensor = wrapper.run(q, caches)
        return y

    return call


def _dense(_device: Device, key: Key) -> str:
    """What PyTorch's attention cannot do without a mask, which would cost it more than pages."""
    if key["kv_dtype"] != "bf16":
        return "has no narrow cache"
    if key.get("lengths") == "ragged" or (key.get("isl", 1) > 1 and key.get("past", 0)):
        return "would need a mask"
    return "would need a mask" if key["window"] and key.get("isl", 1) > key["window"] else ""


def _any(_device: Device, _key: Key) -> str:
    return ""


def _hopper(device: Device, _key: Key) -> str:
    """FlashAttention-3 is written for the matrix units of Hopper."""
    return "" if device.sm == 90 else "runs on sm 90 only"


def _heads(*sizes: int) -> Unsupported:
    def unsupported(_device: Device, key: Key) -> str:
        return "" if key["head_dim"] in sizes else f"has heads of {', '.join(map(str, sizes))} only"

    return unsupported


_OWN = _heads(64, 128, 256)  # a tile holds a power of two
_LIBRARIES = (
    Kernel("vllm_flash_attn_fa3", "vllm", needs("vllm", sm=90), _hopper, _vllm_flash),
    Kernel("vllm_triton_attn", "vllm", needs("vllm", sm=80), _any, _vllm_triton),
    Kernel("fa3", "sglang", needs("sglang", "sgl_kernel", sm=90), _hopper, _sglang_flash),
    Kernel("flashinfer", "flashinfer", needs("flashinfer", sm=80), _heads(64, 128, 256),
           _flashinfer),
)  # fmt: skip
_SDPA = Kernel("torch.scaled_dot_product_attention", "torch", needs(), _dense, _sdpa)
DECODE = (
    _SDPA, Kernel("paged_decode", "triton", needs("triton"), _OWN, _triton), *_LIBRARIES,
)  # fmt: skip
PREFILL = (
    _SDPA, Kernel("paged_prefill", "triton", needs("triton"), _OWN, _triton), *_LIBRARIES,
)  # fmt: skip
CHUNK = (Kernel("paged_attention", "triton", needs("triton"), _OWN, _triton), *_LIBRARIES)
