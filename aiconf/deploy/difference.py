"""Two deployments side by side in terms of serving: only what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiconf.deploy.read.manifest import Reading
from aiconf.serving.plan import Worker

_OF_WORKERS = {
    "replicas": "workers", "system": "GPU system", "parallel": "layout",
    "max_sequences": "sequences at once", "token_budget": "tokens per iteration",
    "max_model_len": "longest request", "kv_dtype": "KV cache type",
    "kv_block_size": "KV block tokens", "memory_fraction": "memory fraction",
    "graph_sizes": "CUDA graphs", "prefix_caching": "prefix caching",
    "exchange": "expert exchange", "moe_backend": "MoE backend",
}  # fmt: skip
_OF_EXPERTS = ("exchange", "moe_backend")


@dataclass(frozen=True)
class Difference:
    """One thing that differs. where: a role, or empty for the whole deployment."""

    where: str
    what: str
    before: str
    after: str

    def document(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)


def differences(before: Reading, after: Reading) -> list[Difference]:
    """Return what differs between two deployments; empty: they serve alike."""
    found = [
        Difference("", what, old, new)
        for (what, old), new in zip(_whole(before), dict(_whole(after)).values(), strict=True)
        if old != new
    ]
    sides = [{worker.role: worker for worker in one.plan.workers} for one in (before, after)]
    for role in ("agg", "prefill", "decode"):
        old, new = (side.get(role) for side in sides)
        if old is None and new is None:
            continue
        if old is None or new is None:
            found.append(Difference(role, "workers", _sized(old), _sized(new)))
            continue
        found += [
            Difference(role, what, _shown(name, old), _shown(name, new))
            for name, what in _OF_WORKERS.items()
            if (name not in _OF_EXPERTS or before.plan.model.is_moe)
            and _shown(name, old) != _shown(name, new)
        ]
        found += _loose(role, before.loose.get(role, {}), after.loose.get(role, {}))
    return found


def _whole(reading: Reading) -> Iterator[tuple[str, str]]:
    plan = reading.plan
    yield "model", plan.model.checkpoint
    yield "mode", "disaggregated" if plan.disaggregated else "aggregated"
    yield "engine", f"{plan.backend} {reading.engine or 'of unknown version'}"
    yield "Dynamo", reading.dynamo or "unknown release"
    yield "router", reading.router
    yield "GPUs", str(plan.gpus)
    yield "drafts per iteration", str(plan.drafts)


def _sized(worker: Worker | None) -> str:
    return "none" if worker is None else f"{worker.replicas} x {worker.parallel}"


def _shown(name: str, worker: Worker) -> str:
    value: Any = getattr(worker, name)
    if name == "system":
        return str(value.name)
    if name == "graph_sizes":
        return f"{len(value)} up to {value[-1]}" if value else "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value) or "default"


def _loose(role: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*old, *new)):
        values = [side.get(name, "not set") for side in (old, new)]
        if values[0] != values[1]:
            yield Difference(role, f"{name} (not modelled)", *(value or "set" for value in values))
