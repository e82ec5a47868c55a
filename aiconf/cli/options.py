"""Options that several commands share."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aiconf.report.style import Style


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Model = Annotated[
    str,
    typer.Option(
        "--model", "--model-path", "--model-name", "--hf-id", metavar="NAME",
        help="Embedded name, Hugging Face id, or folder of a config.json (see `aiconf models`).",
    ),
]  # fmt: skip
System = Annotated[
    str, typer.Option("--system", metavar="NAME", help="GPU system (see `aiconf systems`).")
]
DecodeSystem = Annotated[
    str | None,
    typer.Option("--decode-system", metavar="NAME", help="System of decode workers if another."),
]
Isl = Annotated[int, typer.Option("--isl", metavar="N", help="Prompt tokens per request.")]
Osl = Annotated[int, typer.Option("--osl", metavar="N", help="Output tokens per request.")]
Prefix = Annotated[
    int, typer.Option("--prefix", metavar="N", help="Leading prompt tokens already cached.")
]
BackendVersion = Annotated[
    str | None,
    typer.Option(
        "--backend-version", "--perf-db-version", metavar="V",
        help="Engine version of the measured tables; an error if it is another.",
    ),
]  # fmt: skip
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", help="Only checkpoints of this precision."),
]
KvDtype = Annotated[
    str | None, typer.Option("--kv-dtype", metavar="T", help="KV cache type: bf16 or fp8.")
]
PerfDb = Annotated[
    Path | None,
    typer.Option("--perf-db", metavar="DIR", help="Your own tables, laid over the embedded."),
]
Output = Annotated[
    Format, typer.Option("--format", help="How to print.", case_sensitive=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that exist.")]


def version_or_none(text: str | None) -> str | None:
    """Read ``current``, AIConfigurator's word for the newest tables, as no wish at all."""
    return None if text is None or text.lower() == "current" else text


def terminal() -> Style:
    """Return what standard output can show."""
    from aiconf.report.style import Style

    return Style.of(sys.stdout)
