"""Bytes that a stored weight takes in each precision, its share of the scales included."""

from __future__ import annotations

from aiconf.model.spec import Precision


def weight_bytes_per_element(precision: Precision, group: int = 128) -> float:
    """Bytes per weight, from the definition of each format.

    fp8_block: one float32 scale per 128 x 128 weights. nvfp4: 4 bits and one fp8 scale per 16.
    mxfp4: 4 bits and one 8-bit exponent per 32. int4: 4 bits and one bf16 scale per ``group``.
    Scales per tensor or per channel (fp8, int8) are too few to count.
    """
    return {
        "bf16": 2.0,
        "fp8": 1.0,
        "fp8_block": 1.0 + 4 / 128**2,
        "int8": 1.0,
        "int4": 0.5 + 2 / group,
        "nvfp4": 0.5 + 1 / 16,
        "mxfp4": 0.5 + 1 / 32,
    }[precision]


def cache_bytes_per_element(kv: str) -> float:
    """Bytes of one element of the KV cache: 2 for bf16, 1 for fp8 (scales are per tensor)."""
    return {"bf16": 2.0, "fp8": 1.0}[kv]
