"""Activations: their size, and their quantisation before products."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.model.operation import Producer, Quantize
from aiconf.model.spec import Precision

BF16 = 2.0  # bytes of an activation
FLOAT32 = 4.0
# Precisions whose products take quantised activations; int4 and mxfp4 are weight only.
_QUANTISED_INPUT = ("fp8", "fp8_block", "int8", "nvfp4")


def quantize(
    k: int, dtype: Precision, count: int, after: Producer, in_module: bool = False
) -> Iterator[Quantize]:
    """Yield the quantisation of a product's input, where its precision needs one."""
    if dtype in _QUANTISED_INPUT:
        yield Quantize(k, dtype, count, after, in_module=in_module)
