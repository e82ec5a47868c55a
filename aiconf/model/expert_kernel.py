"""How kernels hold the weights of routed experts: padded, or with some of them twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiconf.model.spec import MoeFfn

_MX_BLOCK = 32  # weights that share one 8-bit exponent (OCP MX v1.0)


@dataclass(frozen=True)
class ExpertKernel:
    """What a kernel of quantised experts makes of their shape.

    hidden, out, width: multiples to which the hidden size that an expert reads, the one that it
    writes, and its width on one rank are padded. scale_rows: the kernel reads a copy of the
    scales whose rows are padded to this multiple, and the scales as they were loaded stay beside
    it; 0: the loaded ones are read. bias_bytes: of each bias.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    hidden: int = 1
    out: int = 1
    width: int = 1
    scale_rows: int = 0
    bias_bytes: int = 2

    def weights(self, ffn: MoeFfn, hidden: int, width: int) -> float:
        """Weights of one expert of ``width`` on a rank, padding included."""
        read, wide = _padded(hidden, self.hidden), _padded(width, self.width)
        return (2 if ffn.gated else 1) * read * wide + wide * _padded(hidden, self.out)

    def biases(self, hidden: int, width: int) -> float:
        """Biases of one expert, padding included."""
        return 2 * _padded(width, self.width) + _padded(hidden, self.out)

    def beside(self, ffn: MoeFfn, hidden: int, width: int) -> float:
        """Bytes of one expert beyond its weights, scales and bf16 biases: what is held twice."""
        found = (self.bias_bytes - 2.0) * self.biases(hidden, width) if ffn.bias else 0.0
        if self.scale_rows:
            read, wide = _padded(hidden, self.hidden), _padded(width, self.width)
            rows = _padded((2 if ffn.gated else 1) * wide, self.scale_rows)
            found += rows * read / _MX_BLOCK
            found += _padded(_padded(hidden, self.out), self.scale_rows) * wide / _MX_BLOCK
        return found


PLAIN = ExpertKernel()


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
