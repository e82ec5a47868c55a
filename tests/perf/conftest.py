"""A database of hand-made tables, and tables of the embedded one."""

import numpy as np
import pytest

from aiconf.engine.engine import tables_of
from aiconf.engine.traits import load_traits
from aiconf.perf.store import PerfDb
from aiconf.perf.tables import Tables
from aiconf.system import load_system


class HandMade:
    """A reader over {(system, backend, table): columns}."""

    def __init__(self, tables):
        self.tables = tables

    def read(self, system, backend, table, where=None):
        columns = self.tables.get((system, backend, table))
        if columns is None:
            return None
        columns = {name: np.asarray(values) for name, values in columns.items()}
        mask = np.ones(len(columns["seconds"]), dtype=bool)
        for name, value in (where or {}).items():
            mask &= columns[name] == value
        return {name: values[mask] for name, values in columns.items()}

    def version(self, system, backend):
        return None


@pytest.fixture
def hand_made():
    """Tables of h200_sxm and vllm from {table or (backend, table): columns}."""

    def build(tables, order=(), system="h200_sxm", lenders=None):
        placed = {
            (system, *(name if isinstance(name, tuple) else ("vllm", name))): columns
            for name, columns in tables.items()
        }
        return Tables(HandMade(placed), load_system(system), "vllm", lambda _: order, lenders or {})

    return build


@pytest.fixture(scope="session")
def embedded():
    """Tables of an embedded (system, backend) as an engine reads them."""
    database = PerfDb.open()

    def build(system, backend):
        return tables_of(database, load_system(system), load_traits(backend))

    return build
