"""What recipes share: making rows, translating names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiconf.errors import UserError
from aiconf.perf.convert import names

if TYPE_CHECKING:
    import pandas as pd

MILLI = 1e-3


@dataclass(frozen=True)
class Context:
    """What a recipe needs to know beyond the rows themselves."""

    gpus_per_node: int


Recipe = Callable[["pd.DataFrame", Context], "pd.DataFrame"]


def frame(like: pd.DataFrame, columns: Mapping[str, object]) -> pd.DataFrame:
    """Make rows with the index of the source rows."""
    import pandas as pd

    return pd.DataFrame(dict(columns), index=like.index)


def precision(values: pd.Series) -> pd.Series:
    """Translate precisions to our names."""
    return values.map(names.precision)


def known(values: pd.Series, mapping: Mapping[str, object], what: str) -> pd.Series:
    """Map names that must all be known: an unknown element size would be a silent error."""
    missing = sorted(set(values.unique()) - set(mapping))
    if missing:
        raise UserError(f"the source has a {what} that this import does not know: {missing[0]}")
    return values.map(mapping)
