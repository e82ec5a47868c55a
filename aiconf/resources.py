"""Where the data folders lie (in an installed wheel or beside the package), and their YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aiconf.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """Return a data folder, such as ``perf_db``, ``systems`` or ``calibration``."""
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


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing of it.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    staged = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        staged.write_text(text, encoding="utf-8", newline="")
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
