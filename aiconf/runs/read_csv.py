"""Rows of the measured-runs CSV form, each read on its own."""

from __future__ import annotations

from aiconf.engine.traits import load_traits
from aiconf.errors import UserError
from aiconf.runs.cells import (
    Cells,
    Skipped,
    Unsupported,
    number,
    precision_of,
    system_of,
    traffic,
)
from aiconf.runs.history import kv_dtype, past_facts
from aiconf.runs.inferencex_disagg import launched_apart
from aiconf.runs.layouts import aggregated_workers, both_sides, by_rank_batch, runnable
from aiconf.runs.measured import Deployment, MeasuredRun, Metrics, Row
from aiconf.runs.names import model_of
from aiconf.runs.protocols import engine_settings, launched, published
from aiconf.runs.speculation import speculation

# Without these a file is of another form.
NEEDED = ("hardware", "backend", "model", "isl", "osl", "concurrency_or_rate")


def read_row(cells: Cells) -> Row:
    """Read one row: a run, or the reason why there is none. Never raises for a bad row."""
    try:
        return Row(cells, _run(cells), "ok")
    except Skipped as reason:
        return Row(cells, None, "skipped", str(reason))
    except (Unsupported, UserError) as reason:
        return Row(cells, None, "unsupported", str(reason))


def _run(cells: Cells) -> MeasuredRun:
    metrics = _metrics(cells)
    load, note = traffic(cells)
    system = system_of(cells.get("hardware", ""))
    if not cells.get("backend", "").strip():
        raise Skipped("backend is not stated")
    traits = load_traits(cells["backend"].strip())
    version, date = cells.get("backend_version", ""), cells.get("date", "")
    precision = precision_of(cells.get("precision", ""))
    if precision is None and cells.get("precision", "").strip():
        raise Unsupported(f"precision '{cells['precision'].strip()}' is not known")
    mode = cells.get("serving_mode", "").strip() or "agg"
    if mode == "agg":
        prefill, workers = None, aggregated_workers(cells)
    elif mode == "disagg":
        prefill, workers = both_sides(
            cells.get("prefill_config", ""), cells.get("decode_config", "")
        )
    else:
        raise Skipped(f"serving_mode '{mode}' is neither agg nor disagg")
    spec = model_of(cells.get("model", ""), precision)
    if prefill is None:
        workers = by_rank_batch(cells, workers, moe=spec.is_moe)
        workers = launched(cells, traits.name, load, workers)
    workers, changed = runnable(spec, traits, workers)
    notes = [note, changed]
    if prefill is not None:
        prefill, changed = runnable(spec, traits, prefill)
        notes.append(changed)
    drafts, assumed = speculation(cells, traits.name, load, workers, mode)
    notes.append(assumed)
    told = engine_settings(cells, traits.name, load, drafts)
    apart = None
    if prefill is not None and published(cells, load):
        apart = launched_apart(cells, load, prefill, workers, drafts=drafts is not None)
    deployment = Deployment(
        system, traits.name, cells["model"].strip(), precision, workers, prefill,
        (apart and apart.kv) or told.kv_dtype or kv_dtype(traits.name, version, date),
        apart.slots if apart else told.max_sequences, told.token_budget,
        apart.prompt_tokens if apart else None, apart.prompts if apart else None,
        told.poll, (apart and apart.memory) or told.memory, drafts,
        past_facts(traits.name, version, date) + (apart.facts if apart else told.facts),
    )  # fmt: skip
    note = "; ".join(dict.fromkeys(part for part in notes if part))
    return MeasuredRun(deployment, load, metrics, version, date, note)


def _metrics(cells: Cells) -> Metrics:
    def seconds(name: str) -> float | None:
        value = number(cells, name)
        return None if value is None else value / 1e3

    return Metrics(
        ttft_mean=seconds("ttft_ms_mean"),
        ttft_p50=seconds("ttft_ms_p50"),
        ttft_p99=seconds("ttft_ms_p99"),
        tpot_mean=seconds("tpot_ms_mean"),
        output_rate=number(cells, "output_tok_per_s"),
        total_rate=number(cells, "total_tok_per_s"),
    )
