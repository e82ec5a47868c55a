"""Which engine each NVIDIA Dynamo release holds: the version matrix, read from data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from aiconf.errors import UserError, unknown
from aiconf.resources import data_dir, read_yaml

Api = Literal["v1alpha1", "v1beta1"]


class _Release(BaseModel):
    model_config = ConfigDict(extra="forbid")
    dynamo: str
    engines: dict[str, str]
    api: Api
    flags_checked: bool


class _Matrix(BaseModel):
    model_config = ConfigDict(extra="forbid")
    registry: str
    images: dict[str, str]
    releases: list[_Release]


@dataclass(frozen=True)
class Runtime:
    """The container of one backend in one Dynamo release."""

    dynamo: str  # release, e.g. 1.6.1; also the image tag, which must be strict semver
    api: Api  # newest manifest API that the release's operator serves
    image: str  # repository:tag
    engine_version: str  # engine inside the image


@cache
def _matrix(path: Path) -> _Matrix:
    return _Matrix.model_validate(read_yaml(path))


def runtime(backend: str, dynamo: str | None = None) -> Runtime:
    """Return the container that runs ``backend`` (vllm, sglang, trtllm).

    Parameters
    ----------
    dynamo
        Dynamo release; the newest when None.

    Raises
    ------
    UserError
        Unknown backend or release, or a release whose engine flags were never checked.
    """
    matrix = _matrix(data_dir("templates") / "dynamo_versions.yaml")
    if backend not in matrix.images:
        raise unknown("backend", backend, matrix.images)
    releases = {release.dynamo: release for release in matrix.releases}
    wanted = dynamo or matrix.releases[0].dynamo
    if wanted not in releases:
        raise unknown("Dynamo release", wanted, releases)
    release = releases[wanted]
    if not release.flags_checked:
        checked = ", ".join(name for name, entry in releases.items() if entry.flags_checked)
        raise UserError(
            f"manifests for Dynamo {wanted} are not supported yet; supported: {checked}"
        )
    image = f"{matrix.registry}/{matrix.images[backend]}:{release.dynamo}"
    return Runtime(release.dynamo, release.api, image, release.engines[backend])


def engines() -> dict[str, dict[str, str]]:
    """Return the engine versions of every known Dynamo release, newest first."""
    matrix = _matrix(data_dir("templates") / "dynamo_versions.yaml")
    return {release.dynamo: release.engines for release in matrix.releases}
