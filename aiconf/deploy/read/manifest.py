"""A Dynamo manifest as a plan: the workers that it starts, with every setting of their engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from aiconf.deploy.asked import lengths
from aiconf.deploy.read.amounts import check_amounts, check_pods
from aiconf.deploy.read.hardware import selected, system_of
from aiconf.deploy.read.image import engine_in
from aiconf.deploy.read.loose import valued
from aiconf.deploy.read.model import model_of
from aiconf.deploy.read.printable import printable
from aiconf.deploy.read.stated import Stated
from aiconf.deploy.read.worker import backend_of, filled, read_worker, settings_of
from aiconf.deploy.validate.documents import read
from aiconf.deploy.validate.graph import Component, Graph, graphs
from aiconf.engine.changes import Changes
from aiconf.engine.engine import Platform
from aiconf.engine.platform import prefill_changes
from aiconf.engine.traits import load_traits
from aiconf.errors import UserError
from aiconf.model.traffic import Asked
from aiconf.serving.plan import Plan, Role
from aiconf.workload import Workload


class Places(Protocol):
    """Gives the platform of a system and a backend of a version, with some facts changed."""

    def __call__(
        self, system: str, backend: str, version: str | None, changes: Changes
    ) -> Platform:
        """Return the platform; ``version`` None: the one that is described."""


@dataclass(frozen=True)
class Reading:
    """A manifest, read.

    plan: what it deploys. places: platform by role, with the defaults of the engine's version.
    dynamo, engine: release and engine version of the image; None where the tag says neither.
    router: how the frontend picks workers. notes: sentences on what was
    taken from where, and what is set but not modelled, fit for a terminal. stated: by role what
    the manifest says before defaults. loose: by role the settings that are not modelled, with
    their values.
    """

    source: str
    plan: Plan
    places: Mapping[Role, Platform]
    dynamo: str | None
    engine: str | None
    router: str
    notes: tuple[str, ...]
    stated: Mapping[Role, Stated]
    loose: Mapping[Role, Mapping[str, str]]


@dataclass(frozen=True)
class _Group:
    """Components of one role that state the same, and what they state."""

    components: tuple[Component, ...]
    stated: Stated

    @property
    def name(self) -> str:
        return f"component {self.components[0].name}"

    @property
    def replicas(self) -> int:
        return sum(component.replicas for component in self.components)


def read_plan(
    path: Path,
    asked: Asked,
    places: Places,
    *,
    system: str | None = None,
    decode_system: str | None = None,
) -> Reading:
    """Read the deployment in ``path``.

    Parameters
    ----------
    asked
        The traffic that it is asked about.
    system, decode_system
        GPU system, and that of the decode side where it differs; None: what the manifest says.

    Raises
    ------
    UserError
        There is no such deployment, or a fact is missing or not modelled: one line names it.
    """
    try:
        return _read(path, asked, places, system, decode_system)
    except UserError as error:
        text = str(error)
        if not text.startswith(str(path)):
            text = f"{path}: {text}"
        raise UserError(printable(" ".join(text.split()))) from error


def asked_lengths(path: Path) -> dict[str, Any]:
    """Return isl, osl, prefix and images that the deployment in ``path`` was written for.

    Under the names of ``aiconf.model.traffic.Asked``.

    Empty where its annotations say none.

    Raises
    ------
    UserError
        There is no such deployment, or its annotations are not lengths.
    """
    try:
        return lengths(_only_graph(path).annotations)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _read(
    path: Path, asked: Asked, places: Places, system: str | None, decode_system: str | None
) -> Reading:
    graph = _only_graph(path)
    for component in graph.components:
        check_pods(component)
    workers = [one for one in graph.components if one.is_worker and one.replicas > 0]
    if not workers:
        raise UserError("no component runs an engine")
    backends = {backend_of(one) for one in workers}
    if len(backends) > 1:
        raise UserError(f"workers of different engines: {', '.join(sorted(backends))}")
    backend = backends.pop()
    groups = _groups(workers, backend)
    first = groups.get("prefill") or groups["agg"]
    spec, taken = model_of(first.stated, first.name)
    work = asked.of(spec)
    image = first.components[0].image
    dynamo, engine = engine_in(backend, image)
    notes = [taken] if taken else []
    found: dict[Role, Platform] = {}
    for role, group in groups.items():
        wanted = decode_system if role == "decode" and decode_system else system
        name = wanted or _system(graph, group, role, notes)
        found[role] = places(name, backend, engine, _changes(group.stated, backend, role))
    plan = Plan(
        model=spec,
        backend=backend,
        backend_version=next(iter(found.values())).version,
        workload=_workload(work, groups, notes),
        workers=tuple(
            filled(group.stated, spec, found[role], role, group.replicas)
            for role, group in groups.items()
        ),
        concurrency=1,
        drafts=max(group.stated.drafts for group in groups.values()),
        draft_model=next(filter(None, (one.stated.draft_model for one in groups.values())), ""),
    )
    _check(plan, groups, work)
    notes += _notes(plan, groups, engine)
    return Reading(
        str(path), plan, found, dynamo, engine, router_of(graph),
        tuple(printable(note) for note in notes),
        {role: group.stated for role, group in groups.items()},
        {role: _valued(group, backend) for role, group in groups.items()},
    )  # fmt: skip


def _valued(group: _Group, backend: str) -> dict[str, str]:
    """Settings that are not modelled, with their values; components may differ in them."""
    each = [
        valued(group.stated.loose, settings_of(one, backend), one.env) for one in group.components
    ]
    return {
        name: " / ".join(dict.fromkeys(values.get(name, "not set") for values in each))
        for name in dict.fromkeys(name for values in each for name in values)
    }


def _only_graph(path: Path) -> Graph:
    documents = read(path)
    for one in documents:
        check_amounts(one.body, "")
    found = graphs(documents)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(one.name or "?" for one in found)
        raise UserError(f"holds {len(found)} deployments ({names}): give a file with one of them")
    kinds = ", ".join(dict.fromkeys(one.kind for one in documents if one.kind)) or "none"
    hint = ""
    if "DynamoGraphDeploymentRequest" in kinds:
        hint = ": a request states no workers; read the deployment that Dynamo makes of it"
    raise UserError(f"holds no DynamoGraphDeployment (kinds: {kinds}){hint}")


def _groups(workers: Sequence[Component], backend: str) -> dict[Role, _Group]:
    """Workers by role; those of one role must state the same."""
    stated = [(one, read_worker(one, backend)) for one in workers]
    apart = any(_role(one, said) == "prefill" for one, said in stated)
    found: dict[Role, _Group] = {}
    for one, said in stated:
        role = _role(one, said) if apart else "agg"
        role = "decode" if apart and role == "agg" else role
        known = found.get(role)
        if known is None:
            found[role] = _Group((one,), said)
        elif known.stated == said:
            found[role] = replace(known, components=(*known.components, one))
        else:
            raise UserError(
                f"components {known.components[0].name} and {one.name} are both {role} workers "
                "with different settings: one kind of each is modelled"
            )
    if set(found) == {"prefill"}:
        raise UserError("only prefill workers: nothing decodes")
    return {role: found[role] for role in ("agg", "prefill", "decode") if role in found}


def _role(component: Component, stated: Stated) -> Role:
    if stated.role is not None:
        return stated.role
    return "prefill" if component.role == "prefill" else "agg"


def _system(graph: Graph, group: _Group, role: Role, notes: list[str]) -> str:
    found = system_of(graph, group.components[0], role)
    if found is None:
        asked = selected(group.components[0])
        other = f" ({', '.join(asked)} is of no system here)" if asked else ""
        raise UserError(f"nothing says on which GPUs {group.name} runs{other}: give --system")
    name, why = found
    notes.append(f"GPU system {name}: {why}; --system overrides it")
    return name


def _changes(stated: Stated, backend: str, role: Role) -> Changes:
    """Facts of the engine that the manifest or the worker's role changes."""
    changes: list[tuple[str, object]] = []
    if role == "prefill":
        changes += prefill_changes(load_traits(backend))
    if stated.overlap is not None:
        changes.append(("scheduler.async_scheduling", stated.overlap))
    if stated.prompt_graphs is False:
        changes.append(("graphs.prefill", "none"))
    if stated.exchange is not None:
        changes.append(("communication.exchange", stated.exchange))
    if stated.vision is not None:
        changes.append(("vision.parallel", stated.vision))
    return tuple(changes)


def _workload(work: Workload, groups: Mapping[Role, _Group], notes: list[str]) -> Workload:
    computing = groups.get("prefill") or groups["agg"]
    if work.prefix and computing.stated.prefix_caching is False:
        notes.append("prefix caching is off: the whole prompt is computed, the prefix too")
        return replace(work, prefix=0)
    return work


def _check(plan: Plan, groups: Mapping[Role, _Group], work: Workload) -> None:
    for worker in plan.workers:
        group = groups[worker.role]
        needed = work.isl + (work.osl if worker.role != "prefill" else 1)
        if needed > worker.max_model_len:
            raise UserError(
                f"{group.name} serves {worker.max_model_len:,} tokens at most, fewer than the "
                f"{needed:,} of isl {work.isl} and osl {work.osl}: give a shorter --isl or --osl"
            )
        whole = group.stated.whole_prompts and worker.role != "decode"
        if whole and plan.workload.new_tokens > worker.token_budget:
            raise UserError(
                f"{group.name} computes whole prompts of at most {worker.token_budget:,} tokens "
                f"(no chunked prefill), fewer than isl {work.isl}: give a shorter --isl"
            )


def _notes(plan: Plan, groups: Mapping[Role, _Group], engine: str | None) -> list[str]:
    said = []
    if engine and engine != plan.backend_version:
        said.append(
            f"the image holds {plan.backend} {engine}; measured tables and defaults are of "
            f"{plan.backend_version}"
        )
    for role, group in groups.items():
        stated, worker = group.stated, next(w for w in plan.workers if w.role == role)
        said.append(f"{group.name}: {described(plan, role)}")
        loose = list(stated.loose)
        if stated.graphs == () and role != "prefill":
            loose.append("decoding without CUDA graphs (it is slower)")
        if stated.drafts and not stated.chain:
            loose.append(
                f"speculative decoding ({stated.drafter}, {stated.drafts} drafts: decoding is "
                "faster)"
            )
        if stated.quantization and plan.model.precision == "bf16":
            loose.append(f"quantization {stated.quantization} of a bf16 checkpoint")
        if loose:
            said.append(f"not modelled of {group.name}: {', '.join(loose)}")
        held = sum(one.nodes * (one.gpus_per_pod or 0) * one.replicas for one in group.components)
        used = worker.replicas * worker.parallel.gpus
        if held and held != used:
            said.append(f"{group.name} asks for {held} GPUs; its layout uses {used}")
    return said


def described(plan: Plan, role: Role) -> str:
    """Return the settings of the workers of ``role`` in a line."""
    one = next(worker for worker in plan.workers if worker.role == role)
    graphs = f"CUDA graphs up to {one.graph_sizes[-1]}" if one.graph_sizes else "no CUDA graphs"
    return (
        f"{one.replicas} x {one.parallel}, {one.max_sequences:,} sequences, "
        f"{one.token_budget:,} tokens per iteration, context {one.max_model_len:,}, "
        f"{one.kv_dtype} KV cache in blocks of {one.kv_block_size}, memory fraction "
        f"{one.memory_fraction:g}, {graphs}, prefix caching "
        f"{'on' if one.prefix_caching else 'off'}"
    )


def router_of(graph: Graph) -> str:
    """Return how requests are dealt to workers: the router's mode, round-robin by default."""
    for component in graph.components:
        if component.role in ("frontend", "epp"):
            words = [word for one in component.words for word in one.split("=", 1)]
            for place, word in enumerate(words[:-1]):
                if word == "--router-mode":
                    return words[place + 1]
            return component.env.get(
                "DYN_ROUTER_MODE", "kv" if component.role == "epp" else "round-robin"
            )
    return "round-robin"


__all__ = ["Places", "Reading", "asked_lengths", "described", "read_plan", "router_of"]
