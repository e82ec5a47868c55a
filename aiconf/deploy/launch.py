"""How one worker is launched: its settings with their reasons, and its spread over nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiconf.deploy.versions import Runtime, spelling
from aiconf.errors import UserError
from aiconf.model.library import checkpoint_names
from aiconf.parallel import pod_gpus
from aiconf.serving.plan import Plan, Worker

SettingValue = bool | int | float | str | Mapping[str, Any] | Sequence[int]

OWN_CODE = "the engine runs Python code of the checkpoint's repository: review it"

# Weights of experts in these formats can be copied by the engines' load balancers in every release.
_BALANCED_FORMATS = ("bf16", "fp8", "fp8_block")


@dataclass(frozen=True)
class Setting:
    """One long flag (without dashes), its value, and why it has it.

    True writes the bare flag; engines spell switching off as a flag of its own.
    """

    flag: str
    value: SettingValue
    why: str = ""

    def arguments(self) -> list[str]:
        """Return the command-line words."""
        if self.value is True:
            return [f"--{self.flag}"]
        if isinstance(self.value, Mapping):
            words = [json.dumps(self.value, separators=(",", ":"))]
        elif isinstance(self.value, Sequence) and not isinstance(self.value, str):
            words = [str(item) for item in self.value]
        else:
            words = [str(self.value)]
        return [f"--{self.flag}", *words]

    def spelled(self, runtime: Runtime) -> Setting:
        """Return the setting as the engine of an older release spells it."""
        flag, value = spelling(runtime, self.flag)
        return self if flag == self.flag else Setting(flag, value or self.value, self.why)


@dataclass(frozen=True)
class Site:
    """What a worker's launch depends on beside the plan.

    name: unique to the worker inside its namespace. replica: what tells one replica's name from
    another's (an environment variable of the pod, or a number); empty where there is one.
    runtime: its container. kv_events: it tells the router which KV blocks it holds.
    host_cache_gb, disk_cache_gb: further tiers of its KV cache per pod; None: none.
    ports: added to every port that it listens on, where other workers share its network.
    """

    name: str
    runtime: Runtime
    replica: str = ""
    kv_events: bool = False
    host_cache_gb: float | None = None
    disk_cache_gb: float | None = None
    ports: int = 0

    @property
    def reuse(self) -> str:
        """Why KV blocks must be reused although the prediction assumed no reuse; empty: no need."""
        if self.kv_events:
            return "KV-aware routing needs blocks that can be reused"
        return "further tiers keep blocks for reuse" if self.host_cache_gb else ""


@dataclass(frozen=True)
class Nodes:
    """Pods of one worker: the GPU limit of Kubernetes counts per pod, which is per node."""

    count: int
    gpus_per_pod: int


@dataclass(frozen=True)
class Launch:
    """What one worker's container runs.

    engine: settings of the engine itself; dynamo: settings of the Dynamo wrapper around it.
    config: the same engine settings as a configuration file (what ``vllm serve --config``,
    SGLang's ``--config`` and TensorRT-LLM's extra engine arguments read).
    config_why: reason by path in ``config``. mounted: the worker reads the file itself.
    env: environment variables.
    """

    module: str
    dynamo: tuple[Setting, ...]
    engine: tuple[Setting, ...]
    config: Mapping[str, Any]
    config_why: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)
    mounted: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All command-line settings, the engine's first."""
        return (*self.engine, *self.dynamo)


def spread(worker: Worker) -> Nodes:
    """Return over how many equal pods the worker spreads: as few nodes as hold its GPUs.

    Raises
    ------
    UserError
        The layout cannot be cut into equal pods.
    """
    gpus, per_node = worker.parallel.gpus, worker.system.gpus_per_node
    pod = pod_gpus(gpus, per_node)
    if not pod:
        raise UserError(
            f"{worker.parallel} needs {gpus} GPUs, which do not divide evenly over nodes of "
            f"{per_node}; choose a multiple of {per_node}"
        )
    return Nodes(gpus // pod, pod)


def per_rank(worker: Worker) -> int:
    """Return the sequences of one attention-DP rank."""
    return -(-worker.max_sequences // worker.parallel.dp)


def graph_sizes(worker: Worker, limit: int) -> list[int]:
    """Return the graph batch sizes of one rank: ascending, none beyond ``limit`` sequences.

    The largest is the first that covers all sequences of the rank, cut to that number.
    """
    return sorted({min(size, limit) for size in worker.graph_sizes if size > 0})


def sequences_why(worker: Worker) -> str:
    """Return the reason for a per-rank sequence limit."""
    if worker.parallel.dp == 1:
        return "running sequences the prediction assumed"
    return f"{worker.max_sequences} running sequences over {worker.parallel.dp} attention ranks"


def own_code(plan: Plan) -> list[Setting]:
    """Return the leave to run code of the checkpoint's repository, where it needs that."""
    return [Setting("trust-remote-code", True, OWN_CODE)] if plan.model.own_code else []


def served_model(plan: Plan) -> str:
    """Return the name clients ask for: the Hugging Face id, or the short name of a local path."""
    checkpoint = plan.model.checkpoint
    parts = checkpoint.split("/")
    is_id = len(parts) == 2 and all(parts) and not checkpoint.startswith((".", "~"))
    return checkpoint if is_id else plan.model.name


def local_folder(checkpoint: str) -> str | None:
    """Return the whole path of a model that was read from a folder; None: it has an id."""
    if checkpoint in checkpoint_names():
        return None
    if checkpoint.startswith("/"):
        return checkpoint
    return str(Path(checkpoint).resolve()) if Path(checkpoint).is_dir() else None


def with_whole_path(plan: Plan) -> Plan:
    """Return ``plan`` with the whole path of a model's folder: a short one may look like an id."""
    folder = local_folder(plan.model.checkpoint)
    if folder is None or folder == plan.model.checkpoint:
        return plan
    return replace(plan, model=replace(plan.model, checkpoint=folder))


def spelled(settings: Sequence[Setting], site: Site) -> tuple[Setting, ...]:
    """Return ``settings`` in the words of the site's release."""
    return tuple(one.spelled(site.runtime) for one in settings)


def reuses(worker: Worker, site: Site) -> bool:
    """Whether KV blocks of equal prefixes are shared."""
    return worker.prefix_caching or bool(site.reuse)


def expects_balance(plan: Plan, worker: Worker) -> bool:
    """Whether the prediction took the load of the experts as balanced."""
    from aiconf.engine.traits import load_traits

    least = load_traits(plan.backend).layouts.balanced_ep
    return plan.model.is_moe and worker.parallel.ep >= least


def balanced_experts(plan: Plan, worker: Worker) -> int:
    """Return the redundant experts that balance the load as the prediction assumed; 0: none.

    One copy per rank is the least that changes every rank's load.
    """
    able = plan.backend != "trtllm" and plan.model.quantization.experts in _BALANCED_FORMATS
    return worker.parallel.ep if able and expects_balance(plan, worker) else 0


def exchange_words(plan: Plan, worker: Worker) -> list[str]:
    """Return the engine's words for how tokens reach experts on other ranks; none: its default."""
    from aiconf.engine.traits import load_traits

    flags = load_traits(plan.backend).communication.all_to_all_flags
    return dict(flags).get(worker.exchange, "").split()  # type: ignore[call-overload, no-any-return]


def literal(text: str) -> str:
    """Escape text from outside for a container's args, where Kubernetes expands ``$(NAME)``."""
    return text.replace("$(", "$$(")
