"""Which models an engine has kernels for, on which GPU."""

from __future__ import annotations

from aiconf.engine.traits import Traits
from aiconf.model.cache import cache_kind
from aiconf.model.spec import ModelSpec
from aiconf.system.spec import Gpu


def unserved(traits: Traits, spec: ModelSpec, gpu: Gpu, kv_dtype: str | None = None) -> str | None:
    """Return why the engine has no kernels for the cache of ``spec`` on ``gpu``, if so.

    ``kv_dtype`` None: as the checkpoint states it.
    """
    kind = cache_kind(spec)
    least = traits.kv.least_sm.get(kind, 0)
    if gpu.sm < least:
        return (
            f"{traits.title} serves {spec.name} on GPUs of compute capability {least / 10:.1f} "
            f"and later, not {gpu.sm / 10:.1f}"
        )
    if kind in traits.kv.fp8_only and (kv_dtype or spec.quantization.kv) != "fp8":
        return f"{traits.title} holds the KV cache of {spec.name} in fp8 only: use kv dtype fp8"
    return None
