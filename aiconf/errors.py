"""The one error a user can cause, and how a near miss is turned into a suggestion."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: one line that says what is wrong and what would be right (exit code 2)."""


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def nearest(name: str, choices: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to ``limit`` of ``choices`` that look most like ``name``, best first."""
    known = {_folded(choice): choice for choice in choices}
    wanted = _folded(name)
    close = difflib.get_close_matches(wanted, known, n=limit, cutoff=0.5)
    inside = [key for key in known if wanted and (wanted in key or key in wanted)]
    return [known[key] for key in dict.fromkeys([*close, *inside])][:limit]


def unknown(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Build the error for a name that does not exist: the nearest names, or all when few."""
    choices = list(choices)
    near = nearest(name, choices)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif len(choices) <= 12:
        hint = f"known: {', '.join(choices)}"
    else:
        hint = f"{len(choices)} are known; the first: {', '.join(choices[:8])}"
    return UserError(f"unknown {kind} '{name}': {hint}")
