"""A plan as Dynamo documents: DynamoGraphDeployment and what it refers to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from aiconf.deploy import planner_component as planning
from aiconf.deploy import schema, sglang, trtllm, vllm
from aiconf.deploy.api import Description, Graph, render_graph
from aiconf.deploy.asked import said_of
from aiconf.deploy.image import container
from aiconf.deploy.launch import Launch, Site, served_model, spread, with_whole_path
from aiconf.deploy.names import deployment_name
from aiconf.deploy.notes import notes
from aiconf.deploy.options import Options
from aiconf.deploy.planner import Planner
from aiconf.deploy.pods import Part, across_nvlink, component, frontend
from aiconf.deploy.render import Path, render
from aiconf.deploy.rules import findings
from aiconf.deploy.stated import stated
from aiconf.deploy.versions import Runtime, runtime
from aiconf.errors import UserError
from aiconf.serving.plan import Plan, Worker

_LAUNCH = {"vllm": vllm.launch, "sglang": sglang.launch, "trtllm": trtllm.launch}
_COMPONENT = {"agg": "worker", "prefill": "prefill", "decode": "decode"}
# What a pod is told that differs between the replicas of a worker over several nodes.
_REPLICA = {"grove": "-$(GROVE_PCSG_INDEX)", "lws": "-$(LWS_LEADER_ADDRESS)"}
# Safe inside the scripts that the operator wraps around multi-node commands.
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


@dataclass(frozen=True)
class Deployment:
    """Everything that is written out."""

    plan: Plan
    name: str
    runtime: Runtime
    options: Options
    parts: tuple[Part, ...]
    graph: Graph
    config_map: schema.ConfigMap | None
    domain: schema.ComputeDomain | None
    comments: dict[Path, str] = field(default_factory=dict)  # of the graph
    notes: tuple[str, ...] = ()
    planner: Planner | None = None

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Plain documents in the order to apply them."""
        planner = planning.config_map(self.planner, self.name) if self.planner else None
        models = (self.domain, self.config_map, planner, self.graph)
        return [model.document() for model in models if model is not None]


def build(
    plan: Plan, options: Options | None = None, planner: Planner | None = None
) -> Deployment:
    """Return the deployment of ``plan``, with ``planner`` beside it.

    Raises
    ------
    UserError
        The backend or Dynamo release is unknown, or the engine cannot run the plan.
    """
    options = options or Options()
    plan = with_whole_path(plan)
    engine = container(runtime(plan.backend, options.dynamo), options)
    name = deployment_name(options.name or plan.model.name, options.suffix)
    _check(plan)
    parts = tuple(_part(plan, worker, name, engine, options) for worker in plan.workers)
    found = findings([stated(plan, one.worker, one.component, one.launch) for one in parts])
    if found and found[0].severity == "error":
        raise UserError(str(found[0]))
    apart = len({part.worker.system.name for part in parts}) > 1
    workers = (component(part, engine.image, options, name, apart) for part in parts)
    beside = (planning.component(engine, name),) if planner else ()
    lws = options.orchestrator == "lws" and any(part.nodes.count > 1 for part in parts)
    about = Description(
        name=name,
        backend=plan.backend,
        components=(frontend(engine.image, options), *workers, *beside),
        annotations=said_of(plan) | ({"nvidia.com/enable-grove": "false"} if lws else {}),
    )
    graph, comments = render_graph(about, engine.api)
    return Deployment(
        plan=plan,
        name=name,
        runtime=engine,
        options=options,
        parts=parts,
        graph=graph,
        config_map=_config_map(name, parts),
        domain=_domain(name, parts),
        comments=comments,
        notes=notes(plan, engine, options, name, parts, found) + (planner.notes if planner else ()),
        planner=planner,
    )


def launch_of(plan: Plan, worker: Worker, site: Site) -> Launch:
    """Return what one worker's container runs."""
    return _LAUNCH[plan.backend](plan, worker, site)


def site_of(worker: Worker, name: str, engine: Runtime, options: Options) -> Site:
    """Return what the launch of ``worker`` depends on beside the plan.

    Blocks are found by prompts, so prefill workers report them.
    """
    host, disk = options.tiers(worker.role)
    return Site(
        name=f"{name}-{_COMPONENT[worker.role]}",
        runtime=engine,
        replica=_REPLICA[options.orchestrator] if worker.replicas > 1 else "",
        kv_events=options.router == "kv" and worker.role != "decode",
        host_cache_gb=host,
        disk_cache_gb=disk,
    )


def _part(plan: Plan, worker: Worker, name: str, engine: Runtime, options: Options) -> Part:
    launch = launch_of(plan, worker, site_of(worker, name, engine, options))
    return Part(worker, _COMPONENT[worker.role], spread(worker), launch)


def _check(plan: Plan) -> None:
    if not plan.workers:
        raise UserError("the plan has no workers: nothing to deploy")
    roles = sorted(worker.role for worker in plan.workers)
    if roles not in (["agg"], ["decode", "prefill"]):
        raise UserError(
            f"cannot deploy workers {', '.join(roles)}: one agg, or one prefill and one decode"
        )
    if plan.drafts and not plan.draft_model and not plan.model.mtp_layers:
        raise UserError(
            f"{plan.model.name} has no layers that draft tokens: name a draft model (EAGLE-3)"
        )
    several = any(spread(worker).count > 1 for worker in plan.workers)
    drafting = [plan.draft_model] if plan.draft_model else []
    for name in (plan.model.checkpoint, served_model(plan), *drafting):
        if not name or name.startswith("-") or not name.isprintable():
            raise UserError(f"model {name!r} cannot be passed to an engine; use an id or a path")
        if several and not _SHELL_SAFE.fullmatch(name):
            raise UserError(
                f"model '{name}' cannot be served over several nodes, where Dynamo passes it "
                "through a shell: use a name of letters, digits and _@%+=:,./-"
            )


def _domain(name: str, parts: tuple[Part, ...]) -> schema.ComputeDomain | None:
    if not any(across_nvlink(part) for part in parts):
        return None
    template = schema.NamedReference(name=f"{name}-nvlink")
    return schema.ComputeDomain(
        metadata=schema.Metadata(name=f"{name}-nvlink"),
        spec=schema.ComputeDomainSpec(channel=schema.ClaimTemplate(resourceClaimTemplate=template)),
    )


def _config_map(name: str, parts: tuple[Part, ...]) -> schema.ConfigMap | None:
    files = {
        trtllm.config_file(part.worker): render(part.launch.config, part.launch.config_why)
        for part in parts
        if part.launch.mounted
    }
    if not files:
        return None
    return schema.ConfigMap(metadata=schema.Metadata(name=f"{name}-engine"), data=files)
