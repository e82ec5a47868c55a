"""A system and a backend by name, joined with their measured tables and their calibration."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from aiconf.engine.calibration import load_calibration
from aiconf.engine.changes import Changes, changed
from aiconf.engine.engine import Platform, tables_of
from aiconf.engine.traits import Traits, load_traits
from aiconf.perf.store import PerfDb
from aiconf.perf.tables import Tables
from aiconf.system.catalog import load_system

# Facts that change neither which rows of a table are read nor the time of one operator.
_BESIDE_TABLES = ("scales.", "host.", "scheduler.", "memory.", "vision.")


@lru_cache(maxsize=4)
def _database(extra: Path | None) -> PerfDb:
    return PerfDb.open(extra)


@lru_cache(maxsize=64)
def _tables(system: str, backend: str, perf_db: Path | None, changes: Changes) -> Tables:
    """Tables of a pair with the surfaces built so far, shared by all that read them alike."""
    traits = changed(load_traits(backend), changes)
    return tables_of(_database(perf_db), load_system(system), traits)


@lru_cache(maxsize=128)
def platform(
    system: str,
    backend: str,
    perf_db: Path | None = None,
    changes: Changes = (),
    calibration: Path | None = None,
) -> Platform:
    """Join a system and a backend with their tables; kept for the life of the process.

    perf_db: folder with tables of the user's own, laid over the embedded ones. changes: facts
    of the engine that differ from its traits. calibration: None: the shipped one.

    Raises
    ------
    UserError
        For an unknown system or backend, or a folder or calibration that cannot be read.
    """
    place, traits = load_system(system), load_traits(backend)
    known = load_calibration(calibration)
    fitted = known.changes(traits.name, place)
    mine = tuple(one for one in changes if not one[0].startswith(_BESIDE_TABLES))
    tables = _tables(place.name, traits.name, perf_db, mine)
    version = _database(perf_db).version(place.name, traits.name) or traits.version
    told = changed(changed(traits, fitted), changes)
    return Platform(place, told, tables, version, known)


def prefill_changes(traits: Traits) -> Changes:
    """Return the facts that differ in an engine that only prefills: its graphs may not hold."""
    return (("graphs.prefill", "none"),) if traits.graphs.prefill_needs_plain else ()
