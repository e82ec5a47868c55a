"""What a model's name that is not exact can only mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aiconf.errors import UserError

# Parts of a name that do not change a model's shapes.
_SOFT = {"instruct", "hf", "chat", "it", "base", "meta", "nvidia", "latest"}
_PRECISIONS = ("bf16", "fp8", "nvfp4", "mxfp4", "fp4", "int4", "int8", "awq", "gptq")
_SHOWN = 6  # names in a message


@dataclass(frozen=True)
class Near:
    """A family, at most in one precision, or ids of checkpoints of one family."""

    family: str | None = None
    precision: str | None = None
    checkpoints: tuple[str, ...] = ()


def near_names(name: str, families: Collection[str], checkpoints: Iterable[str]) -> Near | None:
    """Return what a name means other than exactly, None where nothing is near.

    Parameters
    ----------
    name
        As the user has it; ``owner/name`` means that owner's models only.
    families, checkpoints
        Embedded families and ids.

    Raises
    ------
    UserError
        When the name is the begin of several models' names.
    """
    owner, _, tail = name.rpartition("/")
    wanted = _parts(tail)
    if not wanted:
        return None
    ids = tuple(dict.fromkeys(checkpoints))
    if owner:
        own = tuple(found for found in ids if found.lower().startswith(f"{owner.lower()}/"))
        same = tuple(found for found in own if _parts(found.rsplit("/", 1)[-1]) == wanted)
        return Near(checkpoints=same[:1]) if same else None
    for family in families:
        if _joined(_parts(family)) == _joined(wanted):
            return Near(family)
    same = tuple(
        found for found in ids if _joined(_parts(found.rsplit("/", 1)[-1])) == _joined(wanted)
    )
    if same:
        return Near(checkpoints=same[:1])
    if wanted[-1] in _PRECISIONS and len(wanted) > 1:
        precision = "int4" if wanted[-1] in ("awq", "gptq") else wanted[-1]
        for family in families:
            if _joined(_parts(family)) == _joined(wanted[:-1]):
                return Near(family, precision)
    return _begun(name, _joined(wanted), families, ids)


def _begun(name: str, wanted: str, families: Collection[str], ids: tuple[str, ...]) -> Near | None:
    """Return what begins with a name: one model and its later versions, or refuse."""
    found = sorted((family for family in families if _begins(wanted, family)), key=len)
    if found and all(_begins(_joined(_parts(found[0])), family) for family in found):
        return Near(found[0])
    if not found:
        same = tuple(entry for entry in ids if _begins(wanted, entry.rsplit("/", 1)[-1]))
        return Near(checkpoints=same[:1]) if same else _inside(name, families)
    more = "" if len(found) <= _SHOWN else f" and {len(found) - _SHOWN} more"
    names = ", ".join(sorted(found, key=str.lower)[:_SHOWN])
    raise UserError(f"model '{name}' is not one model: it may be {names}{more}")


def _inside(name: str, families: Collection[str]) -> Near | None:
    """Return the one family whose name has all parts of a name in their order."""
    wanted = _parts(name)
    if len(wanted) < 2:
        return None
    found = []
    for family in families:
        left = iter(_parts(family))
        if all(part in left for part in wanted):
            found.append(family)
    return Near(found[0]) if len(found) == 1 else None


def _begins(wanted: str, candidate: str) -> bool:
    parts = _parts(candidate)
    return any(_joined(parts[:count]) == wanted for count in range(1, len(parts) + 1))


def _parts(name: str) -> tuple[str, ...]:
    """Split a name where it changes between words, without the parts that do not matter."""
    return tuple(
        part for part in re.split(r"[^a-z0-9]+", name.lower()) if part and part not in _SOFT
    )


def _joined(parts: Iterable[str]) -> str:
    return "".join(parts)
