"""What is asked of a search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from aiconf.engine.engine import Platform
from aiconf.engine.served import unserved
from aiconf.errors import UserError, unknown
from aiconf.model.spec import ModelSpec
from aiconf.workload import Sla, Workload, require_whole

Objective = Literal["throughput", "latency", "cost"]
Mode = Literal["any", "agg", "disagg"]


@dataclass(frozen=True)
class Request:
    """A search: checkpoints that are compared, where and for what traffic.

    platforms: one per backend that is compared. decode_platforms: of the decode side when it
    runs on another system, else the same. prefill_platforms: of workers that only prefill, where
    the engine's facts differ there; empty: they do not. kv_dtype: None: as each checkpoint
    states it.
    left_out: checkpoints of the family that are not compared, as they are printed. confidence:
    probability with which all targets must be met; None: the predictions must meet them.
    """

    specs: tuple[ModelSpec, ...]
    platforms: tuple[Platform, ...]
    decode_platforms: tuple[Platform, ...]
    gpus: int
    workload: Workload
    sla: Sla
    objective: Objective = "throughput"
    mode: Mode = "any"
    kv_dtype: str | None = None
    left_out: tuple[str, ...] = ()
    confidence: float | None = None
    prefill_platforms: tuple[Platform, ...] = ()

    def __post_init__(self) -> None:
        require_whole("total GPUs", self.gpus, 1)
        require_kv_dtype(self.kv_dtype)
        if self.confidence is not None and not 0.0 < self.confidence < 1.0:
            raise UserError(f"confidence {self.confidence:g} must lie between 0 and 1, like 0.9")
        for name, known in (("mode", get_args(Mode)), ("objective", get_args(Objective))):
            if getattr(self, name) not in known:
                raise unknown(name, str(getattr(self, name)), known)
        elsewhere = any(
            a.system.name != b.system.name
            for a, b in zip(self.platforms, self.decode_platforms, strict=True)
        )
        if self.mode == "agg" and elsewhere:
            raise UserError("aggregated serving has one system: leave out the decode system")
        if self.mode == "disagg" and self.gpus < 2:
            raise UserError("disaggregated serving needs at least 2 GPUs, one per side")
        if self.mode == "disagg" and self.workload.osl == 1:
            raise UserError("osl 1 has nothing to decode apart: use mode agg, or osl of at least 2")
        if self.mode == "disagg" and self.workload.images:
            reasons = [platform.traits.allows_images_apart() for platform in self.platforms]
            if all(reasons):
                raise UserError(str(reasons[0]))
        pairs = zip(self.platforms, self.decode_platforms, strict=True)
        unserved = [refused(self.specs, pair, self.kv_dtype) for pair in pairs]
        if all(unserved):
            raise UserError(str(unserved[0]))
        need = self.workload.isl + self.workload.osl
        longest = max(spec.max_context for spec in self.specs)
        if need > longest:
            shown = f" + {self.workload.images}" if self.workload.images else ""
            raise UserError(
                f"isl {self.workload.text}{shown} + osl {self.workload.osl} = {need} tokens "
                f"exceed the {longest} that {self.specs[0].name} can hold; shorten one by "
                f"{need - longest}"
            )


def served(
    specs: Iterable[ModelSpec], places: Iterable[Platform], kv_dtype: str | None
) -> list[ModelSpec]:
    """Return those of ``specs`` whose cache the engines have kernels for in all ``places``."""
    kept = list(places)
    return [spec for spec in specs if refused((spec,), kept, kv_dtype) is None]


def refused(
    specs: Iterable[ModelSpec], places: Iterable[Platform], kv_dtype: str | None
) -> str | None:
    """Return why none of ``specs`` is served in all ``places``; None: one is."""
    kept, first = list(places), None
    for spec in specs:
        reasons = [unserved(one.traits, spec, one.system.gpu, kv_dtype) for one in kept]
        reason = next((found for found in reasons if found), None)
        if reason is None:
            return None
        first = first or reason
    return first


def require_kv_dtype(kv_dtype: str | None) -> None:
    """Refuse a KV cache type that no engine has, by a ``UserError``."""
    if kv_dtype not in (None, "bf16", "fp8"):
        raise unknown("kv_dtype", str(kv_dtype), ["bf16", "fp8"])


def native(spec: ModelSpec, platform: Platform) -> bool:
    """Whether the GPU multiplies in the checkpoint's precision.

    Weight-only formats multiply in bf16 everywhere; nvfp4 needs 4-bit tensor cores, fp8 8-bit.
    """
    rate = {"nvfp4": "fp4", "fp8": "fp8", "fp8_block": "fp8", "int8": "int8"}
    wanted = rate.get(spec.precision)
    return wanted is None or wanted in platform.system.gpu.flops


def compared(specs: tuple[ModelSpec, ...], platform: Platform) -> tuple[ModelSpec, ...]:
    """Checkpoints worth comparing: the first of each precision class that the GPU has natively.

    Weight-only int4 copies are left out beside others: they trade quality for memory in a way
    that no latency target can weigh; naming the checkpoint or the precision includes them.
    """
    kept: dict[str, ModelSpec] = {}
    for spec in specs:
        kind = {"fp8_block": "fp8"}.get(spec.precision, spec.precision)
        if native(spec, platform) and not (kind == "int4" and len(specs) > 1):
            kept.setdefault(kind, spec)
    return tuple(kept.values()) or specs[:1]
