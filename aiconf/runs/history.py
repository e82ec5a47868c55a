"""What engine versions did differently from those that ``backends/*.yaml`` describes."""

from __future__ import annotations

import re

_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def kv_dtype(backend: str, version: str, date: str) -> str | None:
    """Return the KV cache type that an old engine picked; None: as today.

    vLLM up to 0.11 read ``--kv-cache-dtype auto`` as the type of the activations, so the cache
    of an FP8 checkpoint was bf16; since 0.12 (December 2025) it follows the checkpoint's own
    KV quantisation. Rows without a version are dated by their day.
    """
    if backend != "vllm":
        return None
    found = _VERSION.match(version.strip())
    if found:
        old = (int(found.group(1)), int(found.group(2))) < (0, 12)
    else:
        day = re.match(r"\d{4}-\d{2}", date.strip())
        old = day is not None and day.group(0) < "2025-12"
    return "bf16" if old else None
