"""What is inside a container image, read off its name: Dynamo's release and the engines of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiconf.deploy.versions import engines, released

# Strict semantic versions, as Dynamo's operator reads them off tags (a leading v is dropped).
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_SEMVER = re.compile(rf"[vV]?{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
# Builds of a release for other hardware; any other suffix is a build of its own (1.4.0-kimi-dev.1).
_SAME = re.compile(r"(-(efa|cuda\d+|amd64|arm64|rc\d+|post\d+))*")
_OURS = re.compile(r"^((vllm|sglang|tensorrtllm)-runtime|dynamo-(frontend|planner))\b")
_PLACEHOLDER = re.compile(r"\$\{?\w+|<[^<>]*>|\{\{")


@dataclass(frozen=True)
class Image:
    """release: Dynamo's as ``1.6.1``, None when the tag does not say it.

    exact: the image is that release's, and no build of its own.
    """

    name: str
    tag: str | None
    release: str | None
    exact: bool

    @property
    def is_placeholder(self) -> bool:
        """Whether a part of the name is still to be filled in."""
        return bool(_PLACEHOLDER.search(self.name))


def image(name: str, override: str | None = None) -> Image:
    """Read an image's name; ``override`` is the component's ``runtimeVersionOverride``."""
    base = name.partition("@")[0]
    tag = base.rpartition(":")[2] if base.rfind(":") > base.rfind("/") else None
    match = _SEMVER.fullmatch(override or tag or "")
    if match is None:
        return Image(name, tag, None, False)
    numbers = ".".join(match.group(1, 2, 3))
    same = not override and _SAME.fullmatch(match.group(4) or "")
    return Image(name, tag, numbers, bool(same))


def nearest_release(wanted: str | None) -> tuple[str, bool]:
    """Return the release we know that is nearest, and whether it is the same minor release.

    Nearest is the newest that is not newer; the oldest for what is older than all.
    """
    known = {_numbers(name): name for name in engines()}
    if wanted is None:
        return known[max(known)], False
    numbers = _numbers(wanted)
    same = [one for one in known if one[:2] == numbers[:2]]
    if same:
        return known[min(same, key=lambda one: abs(one[2] - numbers[2]))], True
    older = [one for one in known if one <= numbers]
    return known[max(older) if older else min(known)], False


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3])


def unreleased(name: str) -> tuple[str, str] | None:
    """Return (its release, the nearest known) of an image of Dynamo that was never released.

    Series before the first one known were released too.
    """
    found = image(name)
    if found.release is None or not _OURS.search(name.rpartition("/")[2]):
        return None
    first = min(map(_numbers, engines()))
    if found.release in released() or _numbers(found.release)[:2] < first[:2]:
        return None
    return found.release, nearest_release(found.release)[0]
