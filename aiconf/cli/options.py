"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aiconf.report.style import Style


FORMATS = ("table", "json", "csv")


def whole(text: str) -> int:
    """Read a whole number; ranges are checked where they are known."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a whole number") from None


def amount(text: str) -> float:
    """Read a number; ``inf`` is one."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a number") from None


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of one of ``choices``, in any case."""

    def choice(text: str) -> str:
        if text.lower() not in choices:
            raise typer.BadParameter(f"'{text}' is not one of {', '.join(choices)}")
        return text.lower()

    return choice


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
Isl = Annotated[
    int,
    typer.Option("--isl", parser=whole, metavar="N",
                 help="Prompt tokens per request, those of --images not counted."),
]  # fmt: skip
Osl = Annotated[
    int, typer.Option("--osl", parser=whole, metavar="N", help="Output tokens per request.")
]
Prefix = Annotated[
    int,
    typer.Option(
        "--prefix", parser=whole, metavar="N", help="Leading prompt tokens already cached."
    ),
]
ImageCount = Annotated[
    int,
    typer.Option("--images", "--image-batch-size", parser=whole, metavar="N",
                 help="Images per request, of models with a vision tower; their tokens come in "
                 "addition to --isl."),
]  # fmt: skip
ImageSize = Annotated[
    str | None,
    typer.Option("--image-size", metavar="WxH",
                 help="Width and height of each image in pixels; default 1024x1024."),
]  # fmt: skip
BackendVersion = Annotated[
    str | None,
    typer.Option(
        "--backend-version", "--perf-db-version", metavar="V",
        help="Engine version of the measured tables; an error if it is another.",
    ),
]  # fmt: skip
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="P",
        help="Checkpoints of this precision; where none is known, as if there were one.",
    ),
]
KvDtype = Annotated[
    str | None, typer.Option("--kv-dtype", metavar="T", help="KV cache type: bf16 or fp8.")
]
PerfDb = Annotated[
    Path | None,
    typer.Option("--perf-db", metavar="DIR", help="Your own tables, laid over the embedded."),
]
Calibration = Annotated[
    Path | None,
    typer.Option("--calibration", metavar="FILE.yaml",
                 help="From `aiconf runs calibrate`; default: the one that is shipped."),
]  # fmt: skip
Output = Annotated[
    str,
    typer.Option(
        "--format", parser=one_of(*FORMATS), metavar="|".join(FORMATS), help="How to print."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that exist.")]


def version_or_none(text: str | None) -> str | None:
    """Read ``current``, AIConfigurator's word for the newest tables, as no wish at all."""
    return None if text is None or text.lower() == "current" else text


def terminal() -> Style:
    """Return what standard output can show."""
    from aiconf.report.style import Style

    return Style.of(sys.stdout)
