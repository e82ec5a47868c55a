"""What a deployment was predicted for, as annotations: written here, and read back from there."""

from __future__ import annotations

from collections.abc import Mapping

from aiconf.errors import UserError
from aiconf.model.traffic import IMAGE_SIZE, pixels
from aiconf.serving.plan import Plan
from aiconf.workload import Workload

_SYSTEM, _ISL, _OSL, _PREFIX = "aiconf/system", "aiconf/isl", "aiconf/osl", "aiconf/prefix"
_IMAGES, _SIZE = "aiconf/images", "aiconf/image-size"


def said_of(plan: Plan) -> dict[str, str]:
    """Return the annotations of a graph: GPU system, one per role where they differ, and lengths.

    They belong to the graph, since v1alpha1 and v1beta1 put a component's into other places.
    """
    systems = {worker.role: worker.system.name for worker in plan.workers}
    names = set(systems.values())
    said = (
        {_SYSTEM: names.pop()}
        if len(names) == 1
        else {f"{_SYSTEM}-{role}": name for role, name in systems.items()}
    )
    work = plan.workload
    said |= {_ISL: str(work.text), _OSL: str(work.osl)}
    if work.images:
        said |= {_IMAGES: str(work.images.count), _SIZE: work.images.size}
    return said | ({_PREFIX: str(work.prefix)} if work.prefix else {})


def system_for(said: Mapping[str, str], role: str) -> tuple[str, str] | None:
    """Return the GPU system of the workers of ``role``, and the annotation that says it."""
    for key in (f"{_SYSTEM}-{role}", _SYSTEM):
        if key in said:
            return said[key], key
    return None


def lengths(said: Mapping[str, str]) -> dict[str, int | str]:
    """Return isl, osl and prefix where they are said, in tokens; empty where lengths are not.

    With images: how many, and their size as it is written.

    Raises
    ------
    UserError
        An annotation is no whole number, or no request has such lengths.
    """
    found: dict[str, int] = {}
    for key in (_ISL, _OSL, _PREFIX, _IMAGES):
        text = said.get(key)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit()):
            what = "images" if key == _IMAGES else "tokens"
            raise UserError(f"annotation {key}: '{text}' is not a whole number of {what}")
        found[key.removeprefix("aiconf/")] = int(text)
    if not {"isl", "osl"} <= set(found):
        return {}
    images = found.pop("images", 0)
    Workload(found["isl"], found["osl"], found.get("prefix", 0))
    if not images:
        return {**found}
    size = said.get(_SIZE, IMAGE_SIZE)
    try:
        pixels(size)
    except UserError as error:
        raise UserError(f"annotation {_SIZE}: {error}") from None
    return {**found, "images": images, "image_size": size}
