"""How one worker is launched: its settings with their reasons, and its spread over nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiconf.errors import UserError
from aiconf.parallel import pod_gpus
from aiconf.serving.plan import Plan, Worker

SettingValue = bool | int | float | str | Mapping[str, Any] | Sequence[int]


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
    """

    module: str
    dynamo: tuple[Setting, ...]
    engine: tuple[Setting, ...]
    config: Mapping[str, Any]
    config_why: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)
    mounted: bool = False

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


def served_model(plan: Plan) -> str:
    """Return the name clients ask for: the Hugging Face id, or the short name of a local path."""
    checkpoint = plan.model.checkpoint
    parts = checkpoint.split("/")
    is_id = len(parts) == 2 and all(parts) and not checkpoint.startswith((".", "~"))
    return checkpoint if is_id else plan.model.name


def literal(text: str) -> str:
    """Escape text from outside for a container's args, where Kubernetes expands ``$(NAME)``."""
    return text.replace("$(", "$$(")
