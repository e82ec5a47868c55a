"""Correctness of a kernel: the error of its output against a reference in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SAMPLED = 64  # rows of a large output that are compared: the first, the last and those between


def rows(count: int, most: int = SAMPLED) -> list[int]:
    """Rows of an output with ``count`` rows that are compared: all, or ``most`` spread out."""
    if count <= most:
        return list(range(count))
    return sorted({i * (count - 1) // (most - 1) for i in range(most)})


def relative_error(output: Tensor, reference: Tensor) -> float:
    """Norm of the difference over norm of the reference, both in float64; NaN where either is."""
    import torch

    difference = torch.linalg.vector_norm(output.double() - reference.double())
    return float(difference / torch.linalg.vector_norm(reference.double()))
