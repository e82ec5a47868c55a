"""Which engine each NVIDIA Dynamo release holds, and how it spells flags: read from data."""

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
    patches: list[str] = []
    engines: dict[str, str]
    api: Api


class _Renamed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    before: str
    was: str
    value: bool | None = None


class _Need(BaseModel):
    model_config = ConfigDict(extra="forbid")
    since: str
    what: str


class _Matrix(BaseModel):
    model_config = ConfigDict(extra="forbid")
    registry: str
    images: dict[str, str]
    components: dict[str, str]
    releases: list[_Release]
    renamed: dict[str, dict[str, _Renamed]]
    needs: dict[str, dict[str, _Need]]


@dataclass(frozen=True)
class Runtime:
    """The container of one backend in one Dynamo release."""

    backend: str
    dynamo: str  # release, e.g. 1.6.1; also the image tag, which must be strict semver
    api: Api  # newest manifest API that the release's operator serves
    image: str  # repository:tag
    engine_version: str  # engine inside the image


@cache
def _matrix(path: Path) -> _Matrix:
    return _Matrix.model_validate(read_yaml(path))


def _releases() -> _Matrix:
    return _matrix(data_dir("templates") / "dynamo_versions.yaml")


def releases() -> tuple[str, ...]:
    """Return the Dynamo releases that manifests can be written for, newest first."""
    return tuple(release.dynamo for release in _releases().releases)


def runtime(backend: str, dynamo: str | None = None) -> Runtime:
    """Return the container that runs ``backend`` (vllm, sglang, trtllm).

    Parameters
    ----------
    dynamo
        Dynamo release; the newest when None. ``1.4`` stands for the one of that series whose flags
        are known; another patch of it has the same flags, and its own image.

    Raises
    ------
    UserError
        Unknown backend or release.
    """
    matrix = _releases()
    if backend not in matrix.images:
        raise unknown("backend", backend, matrix.images)
    wanted = dynamo or matrix.releases[0].dynamo
    for release in matrix.releases:
        series = release.dynamo.rpartition(".")[0]
        if wanted in (series, release.dynamo, *release.patches):
            tag = release.dynamo if wanted == series else wanted
            image = f"{matrix.registry}/{matrix.images[backend]}:{tag}"
            return Runtime(backend, tag, release.api, image, release.engines[backend])
        if wanted.rpartition(".")[0] == series:
            known = ", ".join(sorted((release.dynamo, *release.patches), reverse=True))
            raise UserError(f"unknown Dynamo release '{wanted}': of {series} there are {known}")
    raise unknown("Dynamo release", wanted, [release.dynamo for release in matrix.releases])


def released() -> tuple[str, ...]:
    """Return every release of Dynamo that is known, patches too."""
    return tuple(name for one in _releases().releases for name in (one.dynamo, *one.patches))


def engines() -> dict[str, dict[str, str]]:
    """Return the engine versions of every known Dynamo release, newest first."""
    return {release.dynamo: release.engines for release in _releases().releases}


def component_image(component: str, dynamo: str) -> str:
    """Return the container of a component that belongs to no backend (frontend) in a release."""
    matrix = _releases()
    return f"{matrix.registry}/{matrix.components[component]}:{dynamo}"


def spelling(at: Runtime, word: str) -> tuple[str, bool | None]:
    """Return how the release spells ``word``, and the value it has there (None: the same)."""
    renamed = _releases().renamed.get(at.backend, {}).get(word)
    if renamed is None or not _older(at.dynamo, renamed.before):
        return word, None
    return renamed.was, renamed.value


def require(at: Runtime, feature: str) -> None:
    """Refuse, by a ``UserError``, a feature that the release cannot be asked for."""
    need = _releases().needs.get(at.backend, {}).get(feature)
    if need is not None and _older(at.dynamo, need.since):
        able = [name for name in releases() if not _older(name, need.since)]
        raise UserError(
            f"{at.backend} in Dynamo {at.dynamo} cannot be asked for {need.what}: "
            f"use Dynamo {', '.join(able)}"
        )


def has(at: Runtime, feature: str) -> bool:
    """Whether the release knows ``feature``, one of those that not all releases have."""
    need = _releases().needs.get(at.backend, {}).get(feature)
    return need is None or not _older(at.dynamo, need.since)


def _older(release: str, than: str) -> bool:
    """Whether ``release`` is of an older series; patches change no flag."""
    return _series(release) < _series(than)


def _series(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2])
