"""A system and a backend by name, joined with their measured tables."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from aiconf.engine.changes import Changes, changed
from aiconf.engine.engine import Platform
from aiconf.engine.traits import Traits, load_traits
from aiconf.perf.store import PerfDb
from aiconf.system.catalog import load_system


@lru_cache(maxsize=4)
def _database(extra: Path | None) -> PerfDb:
    return PerfDb.open(extra)


@lru_cache(maxsize=32)
def platform(
    system: str, backend: str, perf_db: Path | None = None, changes: Changes = ()
) -> Platform:
    """Join a system and a backend with their tables; kept for the life of the process.

    perf_db: folder with tables of the user's own, laid over the embedded ones. changes: facts
    of the engine that differ from its traits.

    Raises
    ------
    UserError
        For an unknown system or backend, or a folder that cannot be read.
    """
    traits = changed(load_traits(backend), changes)
    return Platform.of(_database(perf_db), load_system(system), traits)


def prefill_changes(traits: Traits) -> Changes:
    """Return the facts that differ in an engine that only prefills: its graphs may not hold."""
    return (("graphs.prefill", "none"),) if traits.graphs.prefill_needs_plain else ()
