"""Memory of a GPU against what engines said of it when they started.

``reported_memory.csv``, a row per engine: weights and KV cache in GiB, KV tokens, and for the
whole prediction the system and the engine's share of memory (empty: only weights, or bytes of a
token, are compared). Sources: issues and pull requests by their address; ``llm-d-planner NAME``
are start-up logs of vLLM 0.19.0 on H100, github.com/llm-d-incubation/llm-d-planner at d3121e0,
accuracy/results/v0.19.0/logs/NAME.log, read by its authors into results_raw.csv beside.
Kimi-Dev-72B and DeepSeek-R1-Distill-Qwen-14B stand under the models that they were trained from.

budget: tokens of an iteration; length: of the longest sequence that the engine was told of.
sequences: of that length, that the whole deployment is said to hold; sequence_gib: what one of
them is said to need free; pages: of the pool that ``kv_gib`` makes.

``because``: why a row misses; docs/decisions/reported-memory.md says more.
"""

import csv
from pathlib import Path

import pytest

from aiconf.engine.capacity import gathered_bytes
from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.parallel import Parallel
from aiconf.units import GIB

ROWS = list(csv.DictReader((Path(__file__).parent / "reported_memory.csv").open(encoding="utf-8")))
WEIGHTS, TOKENS, SEQUENCE = 0.03, 0.05, 0.02
# vLLM's log of 0.24 weighs the pages of each group by what that group puts into them, where the
# pool gives each the same (get_max_concurrency_for_kv_cache_config): 5 % more sequences.
SEQUENCES = 0.06
# Figures are printed to 0.01 GiB, and a cache has whole blocks.
PER_TOKEN = 0.015
# vLLM's defaults on a GPU of 70 GiB or more, and its first release that takes CUDA graphs off
# before the cache (backends/vllm.yaml).
BUDGET, SEQUENCES_RUN = 8192, 1024
GRAPHS_SINCE = (0, 21)


def of(*columns):
    found = [row for row in ROWS if all(row[column] for column in columns)]
    return pytest.mark.parametrize(
        "row", found, ids=lambda row: f"{row['checkpoint']} {row['source'][-30:]}"
    )


def holds(found, reported, tolerance, row):
    """Within the tolerance, or outside it for a known reason."""
    if abs(found / reported - 1) > tolerance and row["because"]:
        pytest.xfail(f"{found / reported - 1:+.1%}: {row['because']}")
    assert found == pytest.approx(reported, rel=tolerance)


def room_of(row):
    """What is predicted for a row, and its model; on an H100 where no system is stated."""
    spec, parallel = load_model(row["checkpoint"]), Parallel.parse(row["layout"])
    length = int(row["length"]) if row["length"] else None
    room = platform(row["system"] or "h100_sxm", row["backend"]).capacity(
        spec, parallel, token_budget=int(row["budget"] or BUDGET), max_sequences=SEQUENCES_RUN,
        kv_dtype=row["kv_dtype"], fraction=float(row["fraction"]) if row["fraction"] else None,
        longest=length,
    )  # fmt: skip
    return room, spec


def bytes_of_a_token(room, row):
    """In sequences as long as the log was told of: vLLM counts tokens in these."""
    if room.pages is None:
        return sum(size for _, size in room.per_token)
    length = int(row["length"])
    return room.pages.admission_bytes(length, int(row["budget"] or BUDGET)) / length


@of("weights_gib")
def test_weights(row):
    room, spec = room_of(row)
    place = platform(row["system"] or "h100_sxm", row["backend"])
    # vLLM makes room for gathered entries while it loads, and so counts it with the weights.
    gathered = gathered_bytes(
        spec, place.traits, place.system.gpu.sm, row["kv_dtype"], int(row["length"] or 0)
    )
    holds((room.weights + gathered) / GIB, float(row["weights_gib"]), WEIGHTS, row)


@of("kv_gib", "kv_tokens")
def test_bytes_of_a_token(row):
    room, _ = room_of(row)
    reported = float(row["kv_gib"]) * GIB / float(row["kv_tokens"])
    assert bytes_of_a_token(room, row) == pytest.approx(reported, rel=PER_TOKEN)


@of("system", "kv_tokens")
def test_tokens_of_the_cache(row):
    room, _ = room_of(row)
    held = room.kv
    if row["backend"] == "vllm" and tuple(map(int, row["version"].split(".")[:2])) < GRAPHS_SINCE:
        held += room.graphs
    holds(held / bytes_of_a_token(room, row), float(row["kv_tokens"]), TOKENS, row)


@of("sequences")
def test_sequences_of_a_length(row):
    room, _ = room_of(row)
    held = float(row["kv_gib"]) * GIB if row["kv_gib"] else room.kv
    each = room.pages.admission_bytes(int(row["length"]), int(row["budget"]))
    ranks = Parallel.parse(row["layout"]).dp
    holds(ranks * held / each, float(row["sequences"]), SEQUENCES, row)


@of("sequence_gib")
def test_bytes_of_a_sequence(row):
    room, _ = room_of(row)
    each = room.pages.admission_bytes(int(row["length"]), int(row["budget"]))
    holds(each / GIB, float(row["sequence_gib"]), SEQUENCE, row)


@of("pages")
def test_pages_of_the_pool(row):
    room, _ = room_of(row)
    found = float(row["kv_gib"]) * GIB / room.pages.page
    assert found == pytest.approx(float(row["pages"]), rel=5e-4)


def test_most_rows_are_compared_without_a_reason():
    kept = [row for row in ROWS if not row["because"]]
    assert len([row for row in kept if row["weights_gib"]]) >= 25
    assert len([row for row in kept if row["system"]]) >= 25
