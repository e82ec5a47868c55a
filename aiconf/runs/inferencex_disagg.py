"""What InferenceX told its disaggregated engines (``inferencex_disagg.csv``).

The decode batch decides how many requests are under way at once: the benchmark keeps 5 to 40 %
more users than that, who wait for a slot, and that wait is most of TTFT. The file was written by
``tools/inferencex_disagg.py`` from github.com/SemiAnalysisAI/InferenceX and the recipes that it
names, github.com/NVIDIA/srt-slurm (both Apache-2.0).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.runs.cells import Cells
from aiconf.runs.measured import Traffic, Workers

# Beginnings of model names, and what the benchmark calls them. AIConfigurator's copies of its
# rows call DeepSeek-R1 by the name of DeepSeek-V3.
_MODELS = {"deepseek-r1": "dsr1", "deepseek-v3": "dsr1", "gpt-oss-120b": "gptoss",
           "kimi-k2.5": "kimik2.5"}  # fmt: skip
# Without --moe-a2a-backend SGLang gathers the tokens of attention DP and scatters the results.
_GATHERS = (("communication.all_to_all_automatic", False),)


@dataclass(frozen=True)
class Launched:
    """slots: requests that a decode rank runs at once. prompt_tokens, prompts: of one prefill
    iteration of a rank. kv, memory: type of the cache, and memory setting, of the decode side and
    taken for both. None: not stated. facts: of backends/*.yaml that the settings change."""

    slots: int
    prompt_tokens: int | None
    prompts: int | None
    kv: str | None
    memory: float | None
    facts: tuple[tuple[str, Any], ...] = ()


@cache
def _table() -> dict[tuple[str, ...], dict[int, list[tuple[str, Launched]]]]:
    """By deployment and users: the settings by the day from which they were listed."""
    found: dict[tuple[str, ...], dict[int, list[tuple[str, Launched]]]] = {}
    path = Path(__file__).with_suffix(".csv")
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = tuple(row[name] for name in ("backend", "model", "precision", "gpu", "isl",
                                               "osl", "mtp", "prefill", "decode"))  # fmt: skip
            told = Launched(
                int(row["slots"]),
                int(row["prompt_tokens"]) if row["prompt_tokens"] else None,
                int(row["prompts"]) if row["prompts"] else None,
                row["kv"] or None,
                float(row["memory"]) if row["memory"] else None,
                _GATHERS if row["exchange"] == "gather" else (),
            )
            for users in map(int, row["users"].split()):
                found.setdefault(key, {}).setdefault(users, []).append((row["since"], told))
    return found


def launched_apart(
    cells: Cells, load: Traffic, prefill: Workers, decode: Workers, *, drafts: bool
) -> Launched | None:
    """Return what the benchmark told the engines of a disaggregated row; None: not known.

    The settings listed on the day of the row count, else the first that were.
    """
    name = cells.get("model", "").rsplit("/", 1)[-1].lower()
    model = next((short for begin, short in _MODELS.items() if name.startswith(begin)), None)
    if model is None:
        return None
    gpu = cells.get("hardware", "").split(" ", maxsplit=1)[0].lower()
    key = (
        cells.get("backend", "").strip(), model, cells.get("precision", "").strip(), gpu,
        str(load.isl), str(load.osl), str(int(drafts)), _side(prefill), _side(decode),
    )  # fmt: skip
    listed = _table().get(key, {}).get(load.users)
    if not listed:
        return None
    date = cells.get("date", "")
    known = [told for since, told in sorted(listed, key=lambda one: one[0]) if since <= date]
    return known[-1] if known else listed[0][1]


def _side(workers: Workers) -> str:
    one = workers.parallel
    return f"{workers.count}x{one.stage_gpus}e{one.ep}{'d' if one.dp > 1 else ''}"
