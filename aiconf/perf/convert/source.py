"""The source package: where it lies, which tables it has, and which versions of them to take."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiconf.errors import UserError, unknown
from aiconf.resources import read_yaml

PACKAGE = "aiconfigurator-core"
MODULE = "aiconfigurator_core"
TESTED_VERSION = "0.12.0"
# Embedded systems, in the order in which they matter.
SYSTEMS = ("h200_sxm", "gb200", "gb300", "b200_sxm", "b300_sxm", "h100_sxm")
BACKENDS = ("vllm", "sglang", "trtllm", "nccl")

# Tables that only copy another system's, by (system, backend, source table, version).
COPIES: Mapping[tuple[str, str, str, str], str] = {
    ("h200_sxm", "sglang", "wideep_deepep_ll_perf", "0.5.6.post2"): "h100_sxm",
    ("h200_sxm", "sglang", "wideep_deepep_normal_perf", "0.5.6.post2"): "h100_sxm",
    ("h200_sxm", "nccl", "nccl_perf", "2.23"): "h100_sxm",
}
# A version with fewer rows than this part of the longest version covers a few shapes only.
NEARLY = 0.9
# Tables whose older version alone covers several nodes: those rows are taken as well.
MULTI_NODE_TABLES = frozenset({"wideep_deepep_ll_perf", "wideep_deepep_normal_perf"})


@dataclass(frozen=True)
class Package:
    """An installed or unpacked source package."""

    root: Path
    version: str

    @property
    def data(self) -> Path:
        """Folder with one folder of tables per system."""
        return self.root / "systems" / "data"


@dataclass(frozen=True)
class SourceFile:
    """One table file of the source: SYSTEM/FAMILY/BACKEND/VERSION/NAME.parquet."""

    path: Path
    system: str
    backend: str
    version: str
    name: str  # without .parquet
    rows: int

    def relative(self, data: Path) -> str:
        """Path below the package's data folder, with forward slashes."""
        return self.path.relative_to(data).as_posix()


def find_package(folder: Path | None = None) -> Package:
    """Find the package in ``folder`` (site-packages or the package itself), or as installed.

    It is located by its metadata and never imported. Raises ``UserError`` when it is absent.
    """
    if folder is not None:
        for root in (folder, folder / MODULE):
            if (root / "systems" / "data").is_dir():
                return Package(root, _version_near(root))
        raise UserError(f"{folder} holds no {MODULE}/systems/data; give the folder of {PACKAGE}")
    spec = importlib.util.find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"{PACKAGE} is not installed here: pip install --no-deps {PACKAGE}=={TESTED_VERSION}, "
            "or give --package-dir"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    return Package(root, importlib.metadata.version(PACKAGE))


def _version_near(root: Path) -> str:
    found = sorted(root.parent.glob(f"{MODULE}-*.dist-info"))
    return found[-1].name.removesuffix(".dist-info").split("-", 1)[1] if found else "unknown"


def source_files(package: Package, system: str) -> list[SourceFile]:
    """List the tables of ``system``; ``UserError`` when the package lacks it."""
    import pyarrow.parquet as pq

    folder = package.data / system
    if not folder.is_dir():
        known = sorted(path.name for path in package.data.iterdir() if path.is_dir())
        raise unknown(f"system in {PACKAGE}", system, known)
    files = []
    for path in sorted(folder.glob("*/*/*/*.parquet")):
        backend, version = path.parts[-3], path.parts[-2]
        stray = (path.stem == "nccl_perf") != (backend == "nccl")  # repeats under an engine's name
        if backend in BACKENDS and not stray:
            rows = pq.ParquetFile(path).metadata.num_rows
            files.append(SourceFile(path, system, backend, version, path.stem, rows))
    return files


def choose_versions(files: Sequence[SourceFile]) -> list[SourceFile]:
    """Choose among the versions of one table of one backend, oldest first.

    The base is the newest version that is nearly as long as the longest one; versions newer
    than that hold a few shapes only and are merged over it. NCCL is taken in its newest
    version only. Copies of another system's table are never taken.
    """
    from packaging.version import Version

    real = [f for f in files if (f.system, f.backend, f.name, f.version) not in COPIES]
    ordered = sorted(real, key=lambda f: Version(f.version))
    if not ordered:
        return []
    if ordered[-1].backend == "nccl":
        return ordered[-1:]
    longest = max(f.rows for f in ordered)
    base = max(i for i, f in enumerate(ordered) if f.rows >= NEARLY * longest)
    if ordered[-1].name in MULTI_NODE_TABLES:
        base = 0
    return ordered[base:]


def gpus_per_node(package: Package, system: str) -> int:
    """GPUs of one node of ``system``, as the package states it beside its tables."""
    path = package.root / "systems" / f"{system}.yaml"
    if not path.is_file():
        raise UserError(f"{PACKAGE} has no {path.name}: GPUs per node of {system} are unknown")
    figures = read_yaml(path)
    return int(figures["node"]["num_gpus_per_node"])
