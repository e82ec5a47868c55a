"""Model families: from the keys of a config.json to layers, one reader per architecture.

A module of this folder declares ``ARCHITECTURES``: a `Family` by each name that config.json may
state under ``architectures``. Nothing else lists them, so that a new file is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family


def discover(folders: Iterable[str] = __path__, package: str = __name__) -> dict[str, Family]:
    """Return every architecture that the modules of a package declare.

    Raises
    ------
    ValueError
        When two modules declare the same architecture.
    """
    found: dict[str, Family] = {}
    for module in sorted(entry.name for entry in iter_modules(folders)):
        declared = getattr(import_module(f"{package}.{module}"), "ARCHITECTURES", {})
        twice = sorted(found.keys() & declared.keys())
        if twice:
            raise ValueError(f"{package}.{module} declares {twice[0]}, which another module reads")
        found |= declared
    return found


FAMILIES: dict[str, Family] = discover()

__all__ = ["FAMILIES", "Config", "Family"]
