"""Where the data folders lie (in an installed wheel or beside the package), and their YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """Return a data folder: ``perf_db``, ``systems``, ``models``, ``backends``, ``templates``."""
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain data: the safe loader, in C where PyYAML was built with it.

    Raises
    ------
    yaml.YAMLError
        The file is not YAML.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
