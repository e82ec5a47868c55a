"""Which checkpoint a worker serves, from the names that its command gives it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from aiconf.deploy.read.stated import Stated
from aiconf.errors import UserError
from aiconf.model.library import checkpoint_names, load_model
from aiconf.model.spec import ModelSpec

_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PRECISIONS = ("nvfp4", "mxfp4", "fp4", "fp8", "int4", "bf16")


def model_of(
    stated: Stated, where: str, load: Callable[[str, str | None], ModelSpec] = load_model
) -> tuple[ModelSpec, str]:
    """Return the checkpoint, and a note where it is not the very one that is named.

    By its id, else (a path, or an id that is not known) by the last name in the path or the name
    it is served under, in the precision that the path states.

    Parameters
    ----------
    load
        Finds a model by its name and precision.

    Raises
    ------
    UserError
        None of the names is known.
    """
    if not stated.model:
        raise UserError(f"{where}: no --model is given")
    problem: UserError | None = None
    cached = _CACHED.search(stated.model)
    for name, precision in dict.fromkeys(_names(stated)):
        try:
            spec = load(name, precision)
        except UserError as error:
            problem = problem or error
            continue
        except OSError as error:  # such as a name that is too long for any file
            problem = problem or UserError(f"model {name[:60]!r}: {error.strerror}")
            continue
        same = spec.checkpoint == stated.model or (bool(cached) and spec.checkpoint == name)
        note = "" if same else f"{where}: {stated.model} is taken for {spec.checkpoint}"
        return spec, note
    if problem is None:
        raise UserError(f"{where}: no known model is named in {stated.model!r}")
    raise UserError(f"{where}: {problem}")


def _names(stated: Stated) -> Iterator[tuple[str, str | None]]:
    """Names to try, each with the precision to take; None: the one that the name stands for."""
    path = stated.model
    cached = _CACHED.search(path)
    is_id = bool(_NAME.fullmatch(path)) and "/" in path and not path.startswith(".")
    last = path.rstrip("/").rpartition("/")[2]
    if cached:
        yield "/".join(cached.groups()), None
        last = cached.group(2)
    elif is_id:
        yield path, None
    elif _NAME.fullmatch(last):
        yield last, None
    words = re.split(r"[^a-z0-9]+", last.lower())
    precision = next((one for one in _PRECISIONS if one in words), None)
    # Without a word on its precision, another checkpoint would be a guess.
    if stated.served and _NAME.fullmatch(stated.served) and (precision or not is_id):
        own = f"{stated.served}-{(precision or '').upper()}"
        if own in checkpoint_names():
            yield own, None
        yield stated.served.rpartition("/")[2], precision
        yield stated.served, precision
