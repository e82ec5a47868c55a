"""Options about what ``--save-dir`` writes, for the commands that write deployments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiconf.cli.options import amount, one_of
from aiconf.errors import UserError

if TYPE_CHECKING:
    from aiconf.deploy.options import Options
    from aiconf.model.spec import ModelSpec

DynamoVersion = Annotated[
    str | None,
    typer.Option("--dynamo-version", "--generator-dynamo-version", metavar="V",
                 help="Dynamo release to write for, 1.0 to 1.6 or a patch like 1.5.0; default: the "
                 "newest."),
]  # fmt: skip
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Of the deployment.")]
Image = Annotated[
    str | None,
    typer.Option("--image", metavar="REPO:X.Y.Z", help="Container in place of NVIDIA's."),
]
TokenSecret = Annotated[
    str,
    typer.Option("--token-secret", metavar="NAME", help="Kubernetes secret with HF_TOKEN."),
]
ModelCache = Annotated[
    str | None,
    typer.Option("--model-cache", metavar="PVC", help="Volume claim that keeps weights; written, "
                 "with a Job that fills it."),
]  # fmt: skip
Rdma = Annotated[
    str | None,
    typer.Option("--rdma", metavar="RESOURCE", help="Your cluster's resource name of its network "
                 "cards, like rdma/ib: one per GPU."),
]  # fmt: skip
Router = Annotated[
    str,
    typer.Option("--router", parser=one_of("round-robin", "kv"), metavar="round-robin|kv",
                 help="How the frontend chooses workers."),
]  # fmt: skip
Orchestrator = Annotated[
    str,
    typer.Option("--orchestrator", parser=one_of("grove", "lws"), metavar="grove|lws",
                 help="What starts workers over several nodes: Grove or LeaderWorkerSet."),
]  # fmt: skip
HostCache = Annotated[
    float | None,
    typer.Option("--host-cache-gb", parser=amount, metavar="GB",
                 help="KV cache in host memory, per pod (KVBM; SGLang: HiCache)."),
]  # fmt: skip
DiskCache = Annotated[
    float | None,
    typer.Option("--disk-cache-gb", parser=amount, metavar="GB",
                 help="KV cache on local disks behind that, per pod (KVBM)."),
]  # fmt: skip
Planner = Annotated[
    bool,
    typer.Option("--planner", help="Dynamo's SLA planner scales the workers, from a predicted "
                 "profile."),
]  # fmt: skip
MemoryMargin = Annotated[
    float,
    typer.Option("--memory-margin", parser=amount, metavar="X",
                 help="Lower the engine's memory setting by X, like 0.05, and predict so."),
]  # fmt: skip


def deploy_options(save_dir: Path | None, **given: Any) -> Options | None:
    """Return the options of a deployment; None where nothing is written.

    Raises
    ------
    UserError
        An option of a deployment without a folder to write one to.
    """
    from aiconf.deploy.options import Options

    options = Options(**given)
    if save_dir is not None:
        return options
    if options != Options():
        flags = (name for name, value in given.items() if value != getattr(Options(), name))
        raise UserError(
            f"{_FLAGS[next(flags)]} is about the files of a deployment: give --save-dir DIR"
        )
    return None


def remarks(
    options: Options | None, specs: Sequence[ModelSpec], endings: Sequence[str] = ("",)
) -> list[str]:
    """Return what a user must know of the deployments that were written, one line each.

    Parameters
    ----------
    specs
        Models that were asked about.
    endings
        Endings of the deployments' names, which tell those of one search apart.
    """
    from aiconf.deploy.launch import local_folder
    from aiconf.deploy.names import deployment_name

    said = []
    if options is not None and options.name:
        plain = ["-".join(filter(None, (options.name, one))) for one in endings]
        names = [deployment_name(options.name, one) for one in endings]
        if names != plain:
            said.append(f"note: name {options.name!r} is written as {' or '.join(names)}")
    folders = dict.fromkeys(local_folder(spec.checkpoint) for spec in specs)
    said += [
        f"note: the model was read from the folder {folder}: it must be reachable in the "
        "containers under this path"
        for folder in folders
        if folder is not None
    ]
    return said


_FLAGS = {
    "name": "--name",
    "dynamo": "--dynamo-version",
    "image": "--image",
    "token_secret": "--token-secret",
    "model_cache": "--model-cache",
    "rdma_resource": "--rdma",
    "router": "--router",
    "orchestrator": "--orchestrator",
    "host_cache_gb": "--host-cache-gb",
    "disk_cache_gb": "--disk-cache-gb",
    "planner": "--planner",
}
