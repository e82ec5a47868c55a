"""Results as a file or a folder: all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from aiconf.errors import UserError

_OURS = ("agg", "disagg", "candidates.csv", "pareto.png", "pareto.svg", "result.json")
_MARK = "deploy.yaml"  # what a folder of ours with a deployment always holds


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a folder that must not be written to.

    Raises
    ------
    UserError
        It is a file, is not empty (without ``force``), or holds an ``agg`` or ``disagg`` that
        is not an earlier deployment.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the results")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise UserError(
            f"{folder} exists and is not empty: name another folder, or use --force to replace"
        )
    for name in ("agg", "disagg"):
        if (folder / name).exists() and not (folder / name / _MARK).is_file():
            raise UserError(
                f"{folder / name} is not an earlier deployment and is not replaced: "
                "name another folder"
            )


def write_folder(folder: Path, write: Callable[[Path], None], force: bool) -> None:
    """Let ``write`` fill a folder beside ``folder``, then put it in place.

    With ``force``, results of an earlier run are replaced; other files in the folder stay.

    Raises
    ------
    UserError
        See ``check_folder``; also when the disk refuses.
    """
    check_folder(folder, force)
    target = folder.resolve()
    staged = target.parent / f".{target.name}-{os.getpid()}"
    try:
        staged.mkdir(parents=True)
        try:
            write(staged)
            _place(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _place(staged: Path, target: Path) -> None:
    if not target.exists():
        staged.rename(target)
        return
    old = staged / ".old"  # goes away with the staging folder
    old.mkdir()
    for name in _OURS:
        if (target / name).exists():
            (target / name).rename(old / name)
    for entry in sorted(staged.iterdir()):
        if entry != old:
            entry.rename(target / entry.name)
