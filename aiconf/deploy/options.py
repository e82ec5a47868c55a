"""What a user may choose about a deployment beside its prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from aiconf.errors import UserError, unknown

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
    planner scales the workers.
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
