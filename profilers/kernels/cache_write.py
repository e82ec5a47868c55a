"""New keys and values into their slots of a paged cache, in Triton: one program per token."""

import torch
import triton
import triton.language as tl


@triton.jit
def _write(k, v, k_cache, v_cache, slots, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    at = tl.arange(0, BLOCK)
    kept = at < WIDTH
    key = tl.load(k + token * WIDTH + at, mask=kept)
    value = tl.load(v + token * WIDTH + at, mask=kept)
    tl.store(k_cache + slot * WIDTH + at, key.to(k_cache.dtype.element_ty), mask=kept)
    tl.store(v_cache + slot * WIDTH + at, value.to(v_cache.dtype.element_ty), mask=kept)


@triton.jit
def _write_one(new, cache, slots, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    at = tl.arange(0, BLOCK)
    kept = at < WIDTH
    found = tl.load(new + token * WIDTH + at, mask=kept)
    tl.store(cache + slot * WIDTH + at, found.to(cache.dtype.element_ty), mask=kept)


def write_latent(new: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor) -> None:
    """Write new [tokens, width] to ``slots`` [tokens] of a cache [pages, page, width]."""
    width = new.shape[1]
    _write_one[(len(new),)](new, cache, slots, WIDTH=width, BLOCK=triton.next_power_of_2(width))


def write_cache(
    k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor,
    slots: torch.Tensor,
) -> None:  # fmt: skip
    """Write k and v [tokens, kv_heads, dim] to ``slots`` [tokens] of a cache [pages, page, ...]."""
    width = k.shape[1] * k.shape[2]
    _write[(len(k),)](
        k, v, k_cache, v_cache, slots, WIDTH=width, BLOCK=triton.next_power_of_2(width)
    )
