"""Random inputs: seeded by what is measured, so that any point can be drawn again alone."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Generator, Tensor, dtype


@dataclass(frozen=True)
class Source:
    """Draws tensors on one device. Zeros are never drawn: they run faster than real data."""

    device: str  # as torch spells it: cuda:0, cpu
    generator: Generator

    @classmethod
    def of(cls, device: str, seed: int, name: str, copy: int = 0) -> Source:
        """Return the source of one set of inputs: ``copy`` tells sets of one point apart."""
        import torch

        generator = torch.Generator(device=device)
        generator.manual_seed(zlib.crc32(f"{seed} {name} {copy}".encode()))
        return cls(device, generator)

    def normal(self, *shape: int, dtype: dtype | None = None, scale: float = 1.0) -> Tensor:
        """Standard normal numbers times ``scale``; bfloat16 unless ``dtype`` says otherwise."""
        import torch

        drawn = torch.empty(shape, device=self.device, dtype=dtype or torch.bfloat16)
        return drawn.normal_(0.0, scale, generator=self.generator)

    def integers(self, low: int, high: int, *shape: int, dtype: dtype | None = None) -> Tensor:
        """Uniform whole numbers in [low, high); int64 unless ``dtype`` says otherwise."""
        import torch

        kind: Any = dtype or torch.int64
        return torch.randint(
            low, high, shape, device=self.device, dtype=kind, generator=self.generator
        )
