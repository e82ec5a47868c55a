"""What InferenceX told its disaggregated engines, from the history of its settings.

    python tools/inferencex_disagg.py CLONE RECIPES > aiconf/runs/inferencex_disagg.csv

CLONE is a clone of github.com/SemiAnalysisAI/InferenceX (Apache-2.0) with its history. Its list of
benchmarks names each deployment's layout and users. The batch of a TensorRT-LLM decode worker is
under DECODE_MAX_BATCH_SIZE until January 2026, later in the name of the recipe
(``..._batch256_...``); that of SGLang is in the recipe.
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
FRAMEWORKS = {"dynamo-trt": "trtllm", "dynamo-sglang": "sglang"}
FIELDS = (
    "backend", "model", "precision", "gpu", "isl", "osl", "mtp", "prefill", "decode", "users",
    "since", "slots", "prompt_tokens", "prompts", "kv", "memory", "exchange",
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
    for (*layout, count, told), date in first.items():
        users.setdefault((*layout, date, told), []).append(count)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    for (*layout, date, told), counts in sorted(users.items(), key=str):
        writer.writerow([*layout, " ".join(map(str, sorted(counts))), date, *told])


class Recipes:
    """The newest version of each file of a clone, read once it is asked for."""

    def __init__(self, clone: str) -> None:
        self._clone, self._newest, commit = clone, dict[str, str](), ""
        # A renamed file counts as added, under its new name.
        listing = ("log", "--format=:%H", "--name-only", "--diff-filter=AM", "--no-renames")
        for line in git(clone, *listing).splitlines():
            if line.startswith(":"):
                commit = line[1:]
            else:
                self._newest.setdefault(line, commit)

    def engines(self, setting: str) -> dict[str, Any]:
        """Return what a recipe tells its prefill and decode engines; nothing: not known.

        setting: path, with the name of a variant where the file holds several (``:override_x``;
        ``:zip_override_x[1]``, whose lists hold one value for each variant).
        """
        path, _, variant = setting.partition(":")
        if path not in self._newest:
            return {}
        text = git(self._clone, "show", f"{self._newest[path]}:{path}")
        try:
            told = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            return {}  # left with the marks of a merge
        if variant:
            name, _, place = variant.partition("[")
            changes = told[name]
            told = merged(told["base"], picked(changes, int(place[:-1])) if place else changes)
        found = told.get("backend") or {}
        return found.get("trtllm_config") or found.get("sglang_config") or {}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with what ``changes`` says in its place, to any depth."""
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def picked(changes: Any, place: int) -> Any:
    """Return ``changes`` with the value of one variant for each list."""
    if isinstance(changes, dict):
        return {key: picked(value, place) for key, value in changes.items()}
    return changes[place] if isinstance(changes, list) else changes


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
        if not isinstance(benchmark, dict) or benchmark.get("framework") not in FRAMEWORKS:
            continue
        backend = FRAMEWORKS[benchmark["framework"]]
        model, precision, gpu = key.split("-")[:3]
        for lengths in benchmark.get("seq-len-configs") or []:
            for one in lengths.get("search-space") or []:
                told = READ[backend](one, recipes, lengths["isl"])
                if told is None:
                    continue
                layout = (
                    backend, model, precision, gpu, lengths["isl"], lengths["osl"],
                    int(one.get("spec-decoding") == "mtp"),
                    side(one["prefill"]), side(one["decode"]),
                )  # fmt: skip
                counts = one.get("conc-list") or [one["conc-start"], one["conc-end"]]
                for count in counts:
                    yield (*layout, count, told)


def side(worker: dict[str, Any]) -> str:
    """Spell workers: number, ranks, ranks that share the experts, attention DP."""
    spread = str(worker.get("dp-attn")).lower() == "true"
    return f"{worker['num-worker']}x{worker['tp']}e{worker['ep']}{'d' if spread else ''}"


def additional(one: dict[str, Any]) -> dict[str, str]:
    """Return the further settings of both sides by name."""
    told: dict[str, str] = {}
    for part in ("prefill", "decode"):
        for setting in (one.get(part) or {}).get("additional-settings") or []:
            name, _, value = str(setting).partition("=")
            told[name] = value
    return told


def trtllm(one: dict[str, Any], recipes: Recipes, isl: int) -> tuple[Any, ...] | None:
    """Return the last columns of the table, whose meaning aiconf/runs/inferencex_disagg.py says."""
    del isl
    told = additional(one)
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
        "",
    )


def sglang(one: dict[str, Any], recipes: Recipes, isl: int) -> tuple[Any, ...] | None:
    """Return the last columns of the table, whose meaning aiconf/runs/inferencex_disagg.py says.

    The engine divides --chunked-prefill-size and --max-running-requests among the ranks of
    attention DP, --max-prefill-tokens (16384) it does not; a batch of whole prompts obeys both.
    """
    engines = recipes.engines(additional(one).get("CONFIG_FILE", ""))
    before, after = engines.get("prefill") or {}, engines.get("decode") or {}
    if not after.get("max-running-requests"):
        return None

    def ranks(side: dict[str, Any]) -> int:
        return int(side.get("data-parallel-size") or side.get("dp-size") or 1)

    chunk = int(before.get("chunked-prefill-size") or -1)
    tokens = max(isl, int(before.get("max-prefill-tokens") or 16384))
    if chunk > 0:
        tokens = min(tokens, chunk // ranks(before))
    prompts = before.get("max-running-requests")
    kind = str(after.get("kv-cache-dtype") or "")
    return (
        after["max-running-requests"] // ranks(after),
        tokens,
        max(1, prompts // ranks(before)) if prompts else "",
        "fp8" if kind.startswith("fp8") else "",
        after.get("mem-fraction-static", ""),
        "" if any(side.get("moe-a2a-backend") for side in (before, after)) else "gather",
    )


READ = {"trtllm": trtllm, "sglang": sglang}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
