"""GPU systems by name, read from ``systems/*.yaml``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.errors import UserError, unknown
from aiconf.resources import data_dir, read_yaml
from aiconf.system.spec import Gpu, System


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def system_names() -> tuple[str, ...]:
    """Names of the known systems, sorted."""
    return tuple(sorted(path.stem for path in data_dir("systems").glob("*.yaml")))


@cache
def load_system(name: str) -> System:
    """Return a system by name.

    Case and ``- _ .`` do not matter, and the start of a name is enough where only one system
    starts so: ``H200-SXM`` and ``h200`` are ``h200_sxm``. A path to a YAML file of the same
    format loads a system of the user's own.

    Raises
    ------
    UserError
        For an unknown name (with the nearest ones), or a file that breaks the format.
    """
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return read_system(Path(name))
    names, wanted = system_names(), _folded(name)
    exact = [known for known in names if _folded(known) == wanted]
    begun = [known for known in names if len(wanted) >= 4 and _folded(known).startswith(wanted)]
    found = exact or begun
    if len(found) != 1:
        raise unknown("system", name, names)
    return read_system(data_dir("systems") / f"{found[0]}.yaml")


def read_system(path: Path) -> System:
    """Read and check one system file.

    Raises
    ------
    UserError
        Names the file and the first figure that is missing, unknown or not positive.
    """
    import yaml
    from pydantic import ValidationError

    from aiconf.system.schema import SystemFile

    try:
        figures = SystemFile.model_validate(read_yaml(path))
    except yaml.YAMLError as problem:
        raise UserError(f"{path.name}: not YAML: {' '.join(str(problem).split())}") from None
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path.name}: {where}: {first['msg']}") from None
    return _system(figures.model_dump())


def _system(figures: dict[str, Any]) -> System:
    name, gpu_name, rates = figures.pop("name"), figures.pop("gpu"), figures.pop("flops")
    nothing = {"value": "", "source": ""}
    twin = figures.pop("nvlink_twin") or nothing
    device = figures.pop("device_name") or nothing
    cpu = figures.pop("cpu") or nothing
    sources = {key: figure["source"] for key, figure in figures.items()}
    sources["flops"] = rates.pop("source")
    values = {key: figure["value"] for key, figure in figures.items()}
    of_gpu = (
        "sm", "memory_bytes", "memory_bandwidth", "multiprocessors", "power_watt",
        "cost_usd_per_hour",
    )  # fmt: skip
    gpu = Gpu(
        name=gpu_name,
        flops={key: rate for key, rate in rates.items() if rate is not None},
        **{key: values.pop(key) for key in of_gpu},
    )
    return System(
        name=name, gpu=gpu, nvlink_twin=twin["value"], device_name=device["value"],
        cpu=cpu["value"], sources=sources, **values,
    )  # fmt: skip
