"""What a user may choose about a deployment beside its prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from aiconf.deploy.names import is_extended_resource, is_reference
from aiconf.errors import UserError, unknown
from aiconf.serving.plan import Role
from aiconf.workload import Sla

Router = Literal["round-robin", "kv"]
Orchestrator = Literal["grove", "lws"]


@dataclass(frozen=True)
class Options:
    """Choices of a deployment; None and False: not wanted.

    name: of the deployment; made from the model when None. dynamo: release, newest when None.
    image: container of the workers and the frontend in place of NVIDIA's; the tag must be the
    Dynamo release inside it. token_secret: Kubernetes secret with ``HF_TOKEN``. model_cache:
    persistent volume claim that keeps downloaded weights. rdma_resource: the cluster's resource
    name of its network cards (``rdma/ib``), one per GPU; without it pods reach each other over
    plain TCP. router: how the frontend chooses workers. orchestrator: what starts the pods of a
    worker over several nodes. host_cache_gb, disk_cache_gb: further tiers of KV cache per pod,
    in GB (KVBM; SGLang: HiCache), which the prediction does not count on. planner: Dynamo's SLA
    planner scales the workers. suffix: ending of the name, which tells deployments of one search
    apart. targets: of the search, for Dynamo's own profiler.
    """

    name: str | None = None
    dynamo: str | None = None
    image: str | None = None
    token_secret: str = "hf-token-secret"
    model_cache: str | None = None
    rdma_resource: str | None = None
    router: Router = "round-robin"
    orchestrator: Orchestrator = "grove"
    host_cache_gb: float | None = None
    disk_cache_gb: float | None = None
    planner: bool = False
    suffix: str = ""
    targets: Sla = field(default_factory=Sla)

    def __post_init__(self) -> None:
        for what, value, known in (
            ("router", self.router, get_args(Router)),
            ("orchestrator", self.orchestrator, get_args(Orchestrator)),
        ):
            if value not in known:
                raise unknown(what, value, known)
        for name in ("host_cache_gb", "disk_cache_gb"):
            size = getattr(self, name)
            if size is not None and not (math.isfinite(size) and 1 <= size <= 100_000):
                raise UserError(f"{name} {size:g} must be between 1 and 100000 GB per pod")
        if self.disk_cache_gb is not None and self.host_cache_gb is None:
            raise UserError("a disk tier of KV cache lies behind a host tier: give both sizes")
        _check_names(self)

    def tiers(self, role: Role) -> tuple[float | None, float | None]:
        """Return the GB of host and disk tiers of a pod of ``role``.

        Blocks are found by prompts, so prefill workers keep them; decode workers get what they
        need handed over.
        """
        return (None, None) if role == "decode" else (self.host_cache_gb, self.disk_cache_gb)


def _check_names(options: Options) -> None:
    """Refuse what Kubernetes would, by a ``UserError`` with the option and an example."""
    for option, value, what, example in (
        ("--token-secret", options.token_secret, "secret", "hf-token-secret"),
        ("--model-cache", options.model_cache, "volume claim", "model-cache"),
    ):
        if value is not None and not is_reference(value):
            raise UserError(
                f"{option} {value!r} cannot be the name of a {what}: give small letters, digits "
                f"and hyphens, like {example}"
            )
    resource = options.rdma_resource
    if resource is not None and not is_extended_resource(resource):
        raise UserError(
            f"--rdma {resource!r} cannot be the name of a cluster's resource: give DOMAIN/NAME, "
            "like rdma/ib"
        )
