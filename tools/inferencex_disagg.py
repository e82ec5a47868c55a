"""What InferenceX told its disaggregated TensorRT-LLM engines, from the history of its settings.

    python tools/inferencex_disagg.py CLONE RECIPES > aiconf/runs/inferencex_disagg.csv

CLONE is a clone of github.com/SemiAnalysisAI/InferenceX (Apache-2.0) with its history. Its list of
benchmarks names each deployment's layout and users, and the batch of its decode workers: under
DECODE_MAX_BATCH_SIZE until January 2026, later in the name of the recipe (``..._batch256_...``).
RECIPES is a clone of github.com/NVIDIA/srt-slurm (Apache-2.0) with its history, which holds these
recipes: of each the newest version counts. One line for each deployment and setting, with the
first day on which it was listed.
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
    "slots", "prompt_tokens", "prompts", "kv", "memory",
)  # fmt: skip


def main(clone: str, recipes: str) -> None:
    """Print the table."""
    first: dict[tuple[Any, ...], str] = {}
    known = Recipes(recipes)
    for place, date in versions(clone):
        text = git(clone, "show", place)
        try:
            listed = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            continue  # a few versions were not YAML
        for entry in entries(listed or {}, known):
            first.setdefault(entry, date)
    users: dict[tuple[Any, ...], list[int]] = {}
    for (*layout, count, slots, tokens, prompts, kv, memory), date in first.items():
        users.setdefault((*layout, date, slots, tokens, prompts, kv, memory), []).append(count)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    for (*layout, date, slots, tokens, prompts, kv, memory), counts in sorted(
        users.items(), key=str
    ):
        writer.writerow(
            [*layout, " ".join(map(str, sorted(counts))), date, slots, tokens, prompts, kv, memory]
        )


class Recipes:
    """The newest version of each file of a clone, read once it is asked for."""

    def __init__(self, clone: str) -> None:
        self._clone, self._newest, commit = clone, dict[str, str](), ""
        for line in git(clone, "log", "--format=:%H", "--name-only", "--diff-filter=AM").split():
            if line.startswith(":"):
                commit = line[1:]
            else:
                self._newest.setdefault(line, commit)

    def engines(self, path: str) -> dict[str, Any]:
        """Return what a recipe tells its prefill and decode engines; nothing: not known."""
        path = path.partition(":")[0]
        if path not in self._newest:
            return {}
        text = git(self._clone, "show", f"{self._newest[path]}:{path}")
        found = yaml.load(text, Loader=yaml.CSafeLoader).get("backend") or {}
        return found.get("trtllm_config") or {}


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


def entries(listed: dict[str, Any], recipes: Recipes) -> Iterator[tuple[Any, ...]]:
    """Yield one tuple for each deployment and number of users that says its decode batch."""
    for key, benchmark in listed.items():
        if not isinstance(benchmark, dict) or benchmark.get("framework") != "dynamo-trt":
            continue
        model, precision, gpu = key.split("-")[:3]
        for lengths in benchmark.get("seq-len-configs") or []:
            for one in lengths.get("search-space") or []:
                batch = settings(one, recipes)
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


def settings(one: dict[str, Any], recipes: Recipes) -> tuple[Any, ...] | None:
    """Return the decode batch of a rank, tokens and prompts of a prefill iteration, and type of
    the KV cache and share of the free memory that it takes on the decode side."""
    told: dict[str, str] = {}
    for part in ("prefill", "decode"):
        for setting in (one.get(part) or {}).get("additional-settings") or []:
            name, _, value = str(setting).partition("=")
            told[name] = value
    path = told.get("CONFIG_FILE", "")
    named = re.search(r"_batch(\d+)_", path)
    slots = told.get("DECODE_MAX_BATCH_SIZE") or (named and named[1])
    if not slots:
        return None
    engines = recipes.engines(path)
    before, after = engines.get("prefill") or {}, engines.get("decode") or {}
    cache = after.get("kv_cache_config") or {}
    kind = str(cache.get("dtype", ""))
    return (
        int(slots),
        told.get("PREFILL_MAX_NUM_TOKENS") or before.get("max_num_tokens") or "",
        told.get("PREFILL_MAX_BATCH_SIZE") or before.get("max_batch_size") or "",
        kind if kind != "auto" else "",
        cache.get("free_gpu_memory_fraction", ""),
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
