"""Kernels of dense products: PyTorch's here; those of engines and our own are added below."""

from __future__ import annotations

from profilers.availability import dtypes, needs
from profilers.operator import Call, Inputs, Kernel, Key


def linear(_key: Key, inputs: Inputs) -> Call:
    """bf16 through cuBLAS."""
    import torch

    x, w = inputs["x"], inputs["w"]
    return lambda: torch.nn.functional.linear(x, w)


KERNELS = (Kernel("torch.nn.functional.linear", "torch", needs(), dtypes("bf16"), linear),)
