"""Import of measured tables of the PyPI package aiconfigurator-core into perf_db's schema."""

from __future__ import annotations

from aiconf.perf.convert.importer import ImportSummary, import_tables
from aiconf.perf.convert.source import PACKAGE, SYSTEMS, find_package

__all__ = ["PACKAGE", "SYSTEMS", "ImportSummary", "find_package", "import_tables"]
