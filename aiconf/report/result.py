"""Results of ``search`` and ``estimate`` as people use them: frame, best, Pareto, display."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiconf.search.request import Request
from aiconf.search.rows import columns, record
from aiconf.search.search import Found, Outcome

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class SearchResult:
    """What a search found (see ``Outcome``)."""

    request: Request
    outcome: Outcome

    @cached_property
    def frame(self) -> pandas.DataFrame:
        """All evaluated candidates, one row each, under the field names of the CSV."""
        import pandas

        tables = [pandas.DataFrame(columns(self.request, side)) for side in self.outcome.sides]
        return pandas.concat(tables, ignore_index=True)

    @property
    def best(self) -> dict[str, Any]:
        """The winner, under the field names of the CSV."""
        return record(self.request, self.outcome.best)


@dataclass(frozen=True)
class EstimateResult:
    """One predicted configuration."""

    request: Request
    found: Found

    @property
    def best(self) -> dict[str, Any]:
        """The prediction, under the field names of the CSV."""
        return record(self.request, self.found)
