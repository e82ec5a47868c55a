"""Two deployments side by side in terms of serving: only what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiconf.deploy.read.manifest import Reading
from aiconf.deploy.read.printable import printable
from aiconf.serving.plan import Role, Worker
from aiconf.system.spec import System

_OF_WORKERS = {
    "replicas": "workers", "system": "GPU system", "parallel": "layout",
    "max_sequences": "sequences at once", "token_budget": "tokens per iteration",
    "max_model_len": "longest request", "kv_dtype": "KV cache type",
    "kv_block_size": "KV block tokens", "memory_fraction": "memory fraction",
    "graph_sizes": "CUDA graphs", "prefix_caching": "prefix caching",
    "exchange": "expert exchange", "moe_backend": "MoE backend",
}  # fmt: skip
_OF_EXPERTS = ("exchange", "moe_backend")
# Of what is stated, all that no field of a worker holds.
_OF_STATED = {
    "drafter": "drafts by", "drafts": "drafts per iteration", "draft_model": "draft model",
    "quantization": "quantization at start", "whole_prompts": "whole prompts",
}  # fmt: skip


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
    """Return what differs between two deployments, fit for a terminal; empty: nothing."""
    return [
        Difference(*(printable(text) for text in one.document().values()))
        for one in _differences(before, after)
    ]


def _differences(before: Reading, after: Reading) -> Iterator[Difference]:
    for (what, old), new in zip(_whole(before), dict(_whole(after)).values(), strict=True):
        if old != new:
            yield Difference("", what, old, new)
    sides = [{worker.role: worker for worker in one.plan.workers} for one in (before, after)]
    roles: tuple[Role, ...] = ("agg", "prefill", "decode")
    for role in roles:
        one, other = (side.get(role) for side in sides)
        if one is None and other is None:
            continue
        if one is None or other is None:
            yield Difference(role, "workers", _sized(one), _sized(other))
            continue
        for name, what in _OF_WORKERS.items():
            if name not in _OF_EXPERTS or before.plan.model.is_moe or after.plan.model.is_moe:
                yield from _unequal(role, what, getattr(one, name), getattr(other, name))
        facts = _facts(before, role), _facts(after, role)
        for what in facts[0]:
            yield from _unequal(role, what, facts[0][what], facts[1][what])
        yield from _loose(role, before.loose.get(role, {}), after.loose.get(role, {}))


def _facts(reading: Reading, role: Role) -> dict[str, Any]:
    """What a role's engines do beside the settings of ``Worker``, after their defaults."""
    traits, stated = reading.places[role].traits, reading.stated[role]
    return {
        "overlap scheduling": traits.scheduler.async_scheduling,
        "prompts in CUDA graphs": traits.graphs.prefill,
        "ranks share of a vision tower": traits.vision.parallel,
        **{what: getattr(stated, name) for name, what in _OF_STATED.items()},
    }


def _unequal(role: str, what: str, old: Any, new: Any) -> Iterator[Difference]:
    """The values where they differ, in full where their short forms do not."""
    if old == new:
        return
    shown = [_shown(value) for value in (old, new)]
    if shown[0] == shown[1]:
        shown = [str(value) for value in (old, new)]
    yield Difference(role, what, *shown)


def _whole(reading: Reading) -> Iterator[tuple[str, str]]:
    plan = reading.plan
    yield "model", plan.model.checkpoint
    yield "mode", "disaggregated" if plan.disaggregated else "aggregated"
    yield "engine", f"{plan.backend} {reading.engine or 'of unknown version'}"
    yield "Dynamo", reading.dynamo or "unknown release"
    yield "router", reading.router
    yield "GPUs", str(plan.gpus)


def _sized(worker: Worker | None) -> str:
    return "none" if worker is None else f"{worker.replicas} x {worker.parallel}"


def _shown(value: Any) -> str:
    if isinstance(value, System):
        return value.name
    if isinstance(value, tuple):
        return f"{len(value)} up to {value[-1]}" if value else "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value or "default")


def _loose(role: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*old, *new)):
        values = [side.get(name, "not set") for side in (old, new)]
        if values[0] != values[1]:
            yield Difference(role, f"{name} (not modelled)", *(value or "set" for value in values))
