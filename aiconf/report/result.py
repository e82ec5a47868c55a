"""Results of ``search`` and ``estimate`` as people use them: frame, best, Pareto, display."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiconf.errors import UserError
from aiconf.report.planned import planner_of
from aiconf.report.style import Style
from aiconf.search.request import Request
from aiconf.search.rows import columns, record
from aiconf.search.search import Found, Outcome

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from aiconf.deploy.options import Options
    from aiconf.search.finalists import Settled


@dataclass(frozen=True, repr=False)
class SearchResult:
    """What a search found (see ``Outcome``). Jupyter shows it as tables and the Pareto front."""

    request: Request
    outcome: Outcome
    remarks: tuple[str, ...] = ()
    baseline: dict[str, Any] | None = None

    @cached_property
    def frame(self) -> pandas.DataFrame:
        """All evaluated candidates, one row each, under the field names of the CSV."""
        import pandas

        tables = [pandas.DataFrame(columns(self.request, side)) for side in self.outcome.sides]
        return pandas.concat(tables, ignore_index=True)

    @cached_property
    def settled(self) -> Settled:
        """The search with its finalists replayed, and in the order that the replays leave."""
        from aiconf.search.finalists import settled

        return settled(self.outcome)

    @property
    def best(self) -> dict[str, Any]:
        """The winner, under the field names of the CSV."""
        return record(self.request, self.settled.outcome.best)

    @property
    def met(self) -> bool:
        """Whether any candidate meets all targets; if not, the closest ones are shown."""
        return self.outcome.met

    @cached_property
    def document(self) -> dict[str, Any]:
        """Everything that is printed, as plain data (see ``aiconf.report.document``)."""
        from aiconf.report.document import search_document

        found = search_document(self.settled)
        beside = {} if self.baseline is None else {"baseline": self.baseline}
        return found | beside | {"notes": [*found["notes"], *self.remarks]}

    def noting(self, remarks: Sequence[str]) -> SearchResult:
        """Return the result with further sentences among its notes."""
        return replace(self, remarks=(*self.remarks, *remarks))

    def pareto(self) -> Figure:
        """Pareto fronts of both modes as a matplotlib figure."""
        from aiconf.report.figure import pareto_figure

        return pareto_figure(self.document)

    def to_json(self) -> str:
        """Everything that is printed, as JSON."""
        return json.dumps(self.document, indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """The best candidates of each mode as CSV, the winner's mode first."""
        from aiconf.report.rows import csv_text

        top = self.document["top"]
        first = self.document["best"]["mode"]
        return csv_text(top[first] + top["agg" if first == "disagg" else "disagg"])

    def to_text(self, style: Style | None = None) -> str:
        """Everything, as text for a terminal."""
        from aiconf.report.text import search_text

        return search_text(self.document, style or Style())

    def save(
        self, folder: str | Path, force: bool = False, options: Options | None = None
    ) -> None:
        """Write deployments, all candidates, the Pareto figure and the JSON, all or nothing.

        ``agg/`` and ``disagg/`` hold the Dynamo manifests and engine settings of the best
        configuration of each mode; beside them lie ``candidates.csv``, ``pareto.png``,
        ``pareto.svg`` and ``result.json``.

        Parameters
        ----------
        force
            Replace the results of an earlier run; other files in the folder stay.
        options
            Of the deployments (see ``aiconf.deploy.options``).

        Raises
        ------
        UserError
            The folder is not empty, cannot be written, or an engine cannot run a winner.
        """
        from aiconf.report.files import write_folder

        write_folder(Path(folder), lambda staged: self._write(staged, options), force)

    def _write(self, folder: Path, options: Options | None) -> None:
        from aiconf.deploy import write_deployment
        from aiconf.deploy.options import Options as Choices
        from aiconf.report.figure import write_figures
        from aiconf.report.rows import write_candidates
        from aiconf.search.plan import plan

        for mode, ranked in self.settled.outcome.top.items():
            if ranked:
                chosen = plan(self.request, ranked[0])
                # Both may be applied to one namespace.
                named = replace(options or Choices(), suffix=mode, targets=self.request.sla)
                write_deployment(
                    chosen, folder / mode, options=named,
                    planner=planner_of(self.request, ranked[0], chosen, options),
                )  # fmt: skip
        write_candidates(self.outcome, folder / "candidates.csv")
        write_figures(self.pareto(), folder)
        (folder / "result.json").write_text(self.to_json() + "\n", encoding="utf-8", newline="\n")

    def __repr__(self) -> str:
        return self.to_text(Style())

    def _repr_html_(self) -> str:
        """Show tables and the Pareto front in Jupyter."""
        from aiconf.report.page import search_page

        return search_page(self.document, self.pareto())


@dataclass(frozen=True, repr=False)
class EstimateResult:
    """One predicted configuration. Jupyter shows it as tables.

    source: the manifest it was read from; None: it was planned here.
    """

    request: Request
    found: Found
    remarks: tuple[str, ...] = ()
    source: str | None = None

    @property
    def best(self) -> dict[str, Any]:
        """The prediction, under the field names of the CSV."""
        return record(self.request, self.found)

    @cached_property
    def document(self) -> dict[str, Any]:
        """Everything that is printed, as plain data (see ``aiconf.report.document``)."""
        from aiconf.report.document import estimate_document

        found = estimate_document(self.request, self.found)
        return found | {"notes": [*self.remarks, *found["notes"]]}

    @property
    def origins(self) -> dict[str, float]:
        """Shares of the time that were measured, interpolated or a fallback."""
        from aiconf.search.explain import explain, origins

        return origins(explain(self.request, self.found))

    @cached_property
    def frame(self) -> pandas.DataFrame:
        """The prediction as a table of one row."""
        import pandas

        return pandas.DataFrame([self.best])

    def to_json(self) -> str:
        """Everything that is printed, as JSON."""
        return json.dumps(self.document, indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """The prediction as CSV, under the field names of ``candidates.csv``."""
        from aiconf.report.rows import csv_text

        return csv_text([self.best])

    def to_text(self, style: Style | None = None) -> str:
        """Everything, as text for a terminal."""
        from aiconf.report.text import estimate_text

        return estimate_text(self.document, style or Style())

    def save(
        self, folder: str | Path, force: bool = False, options: Options | None = None
    ) -> None:
        """Write the deployment (``agg/`` or ``disagg/``) and ``result.json``, all or nothing.

        Raises
        ------
        UserError
            The folder is not empty (without ``force``), or cannot be written; or it was read
            from a manifest, whose settings a new plan would not keep.
        """
        if self.source is not None:
            raise UserError(
                f"nothing to save (--save-dir): {self.source} is the deployment that is predicted"
            )
        from aiconf.report.files import write_folder

        write_folder(Path(folder), lambda staged: self._write(staged, options), force)

    def _write(self, folder: Path, options: Options | None) -> None:
        from aiconf.deploy import write_deployment
        from aiconf.search.plan import plan

        planned = plan(self.request, self.found)
        write_deployment(
            planned, folder / self.found.side.mode, options=options,
            planner=planner_of(self.request, self.found, planned, options),
        )  # fmt: skip
        (folder / "result.json").write_text(self.to_json() + "\n", encoding="utf-8", newline="\n")

    def __repr__(self) -> str:
        return self.to_text(Style())

    def _repr_html_(self) -> str:
        """Show the tables in Jupyter."""
        from aiconf.report.page import estimate_page

        return estimate_page(self.document)
