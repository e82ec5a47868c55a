"""What InferenceX told its disaggregated TensorRT-LLM engines, from the history of its settings.

    python tools/inferencex_disagg.py CLONE > aiconf/runs/inferencex_disagg.csv

CLONE is a clone of github.com/SemiAnalysisAI/InferenceX (Apache-2.0) with its history. Its list of
benchmarks names each deployment's layout and users, and the batch of its decode workers: under
DECODE_MAX_BATCH_SIZE until January 2026, later in the name of the recipe (``..._batch256_...``).
One line for each deployment and setting, with the first day on which it was listed.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import yaml

LISTS = (".github/configs/nvidia-master.yaml", "configs/nvidia-master.yaml")  # it was moved
FIELDS = (
    "model", "precision", "gpu", "isl", "osl", "mtp", "prefill", "decode", "users", "since",
    "slots", "prompt_tokens", "prompts",
)  # fmt: skip


def main(clone: str) -> None:
    """Print the table."""
    first: dict[tuple[Any, ...], str] = {}
    for place, date in versions(clone):
        text = git(clone, "show", place)
        try:
            listed = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            continue  # a few versions were not YAML
        for entry in entries(listed or {}):
            first.setdefault(entry, date)
    users: dict[tuple[Any, ...], list[int]] = {}
    for (*layout, count, slots, tokens, prompts), date in first.items():
        users.setdefault((*layout, date, slots, tokens, prompts), []).append(count)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    for (*layout, date, slots, tokens, prompts), counts in sorted(users.items(), key=str):
        writer.writerow(
            [*layout, " ".join(map(str, sorted(counts))), date, slots, tokens, prompts]
        )


def git(clone: str, *words: str) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", "-C", clone, *words], check=True, capture_output=True, text=True
    ).stdout


def versions(clone: str) -> Iterator[tuple[str, str]]:
    """Yield every version of the list as COMMIT:PATH, oldest first, with its day."""
    for path in LISTS:
        changes = ("--reverse", "--diff-filter=AM", "--format=%h %ad", "--date=short")
        for line in git(clone, "log", *changes, "--", path).splitlines():
            commit, date = line.split()
            yield f"{commit}:{path}", date


def entries(listed: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield one tuple for each deployment and number of users that says its decode batch."""
    for key, benchmark in listed.items():
        if not isinstance(benchmark, dict) or benchmark.get("framework") != "dynamo-trt":
            continue
        model, precision, gpu = key.split("-")[:3]
        for lengths in benchmark.get("seq-len-configs") or []:
            for one in lengths.get("search-space") or []:
                batch = settings(one)
                if batch is None:
                    continue
                layout = (
                    model, precision, gpu, lengths["isl"], lengths["osl"],
                    int(one.get("spec-decoding") == "mtp"),
                    side(one["prefill"]), side(one["decode"]),
                )  # fmt: skip
                counts = one.get("conc-list") or [one["conc-start"], one["conc-end"]]
                for count in counts:
                    yield (*layout, count, *batch)


def side(worker: dict[str, Any]) -> str:
    """Spell workers: number, ranks, ranks that share the experts, attention DP."""
    spread = str(worker.get("dp-attn")).lower() == "true"
    return f"{worker['num-worker']}x{worker['tp']}e{worker['ep']}{'d' if spread else ''}"


def settings(one: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the decode batch of a rank, and tokens and prompts of a prefill iteration."""
    told: dict[str, str] = {}
    for part in ("prefill", "decode"):
        for setting in (one.get(part) or {}).get("additional-settings") or []:
            name, _, value = str(setting).partition("=")
            told[name] = value
    named = re.search(r"_batch(\d+)_", told.get("CONFIG_FILE", ""))
    slots = told.get("DECODE_MAX_BATCH_SIZE") or (named and named[1])
    if not slots:
        return None
    return (
        int(slots), told.get("PREFILL_MAX_NUM_TOKENS", ""), told.get("PREFILL_MAX_BATCH_SIZE", "")
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
