"""Pages of a KV cache to other places in Triton: what offloading does between GPU and host.

A few programs walk all pages, so that a transfer leaves most of the GPU to the engine. Host
memory must be pinned: the GPU then reads and writes it in place.
"""

import torch
import triton
import triton.language as tl

_PROGRAMS = 16  # enough for the host's link; on the GPU's own memory every page has one
_WORDS = 1024  # of 8 bytes, that a program moves at once


@triton.jit
def _copy(source, target, places, pages, words, programs, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    width = tl.full((), 0, tl.int64) + words  # places of words may exceed 32 bits
    for page in range(tl.program_id(0), pages, programs):
        origin = tl.load(places + page) * width
        for start in range(0, words, BLOCK):
            inside = start + at < words
            found = tl.load(source + origin + start + at, mask=inside)
            tl.store(target + page * width + start + at, found, mask=inside)


def copy_pages(
    source: torch.Tensor, target: torch.Tensor, places: torch.Tensor, near: bool
) -> None:
    """Copy rows ``places`` [pages] of source [any, words] int64 to target [pages, words].

    near: both lie in the GPU's memory.
    """
    pages, words = target.shape
    programs = pages if near else min(pages, _PROGRAMS)
    _copy[(programs,)](source, target, places, pages, words, programs, BLOCK=_WORDS)
