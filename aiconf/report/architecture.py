"""A model as the tool understands it: blocks, weights, memory, operators, and their tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiconf.engine.answers import Answer, Place, answers
from aiconf.engine.batch import Batch
from aiconf.engine.capacity import Capacity
from aiconf.engine.engine import Platform
from aiconf.engine.served import unserved
from aiconf.errors import UserError
from aiconf.model.cache import kv_bytes_per_token, kv_layout, state_bytes
from aiconf.model.figures import decode_bytes, embedding_parameters, parts, token_flops
from aiconf.model.layout import layout_problem
from aiconf.model.memory import active_parameters, checkpoint_bytes, parameters
from aiconf.model.operators import PipelineSend
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.perf.origin import Origin
from aiconf.perf.store import PerfDb
from aiconf.report.coverage import smallest_layout
from aiconf.report.shapes import attention_text, ffn_text, operator_text
from aiconf.search.space import layouts
from aiconf.units import GIB, to_ms
from aiconf.workload import Workload

Document = dict[str, Any]
# Sequences that decode on one attention rank at the points that are shown.
_DECODE = (1, 32, 256)


def architecture(
    spec: ModelSpec,
    platform: Platform,
    database: PerfDb,
    *,
    layout: str | None,
    kv_dtype: str | None,
    context: int,
    others: tuple[str, ...] = (),
) -> Document:
    """Describe a model on a system.

    Parameters
    ----------
    spec
        The checkpoint.
    platform, database
        What it runs on, and the tables that the platform reads.
    layout
        Of one worker; None: the fewest GPUs (a power of two) that hold it.
    kv_dtype
        None: as the checkpoint states it.
    context
        Tokens of a sequence, where figures depend on them.
    others
        Further checkpoints that the asked name stands for.

    Returns
    -------
    dict
        ``model``, ``blocks``, ``weights``, ``work``, ``cache``, ``memory``, ``layout``,
        ``operators``, ``tables``: plain values, as ``aiconf model show --format json`` prints.

    Raises
    ------
    UserError
        For a layout that the model or the engine cannot run, a context that is too long, or a
        model that the engine does not serve there.
    """
    if not 1 <= context <= spec.max_context:
        raise UserError(
            f"context {context} must lie between 1 and the {spec.max_context} of {spec.name}"
        )
    away = unserved(platform.traits, spec, platform.system.gpu, kv_dtype)
    if away is not None:
        raise UserError(away)
    kv = kv_dtype or spec.quantization.kv
    chosen = _chosen(spec, platform, layout, context)
    shown = _shown(spec, platform)
    if chosen is not None and chosen not in shown:
        shown.append(chosen)
    found: Document = {
        "model": _model(spec, others),
        "blocks": [
            {"layers": g.count, "attention": attention_text(g.attention), "ffn": ffn_text(g.ffn)}
            for g in spec.layers
        ],
        "weights": [
            {
                "name": part.name, "precision": part.precision, "parameters": part.count,
                "active": part.active, "bytes": part.size,
                "parameters_billion": part.count / 1e9, "active_billion": part.active / 1e9,
                "gib": part.size / GIB,
            }
            for part in parts(spec)
        ],
        "context": context,
        "cache": _cache(spec, kv),
        "work": list(_work(spec, kv, context)),
        "system": platform.system.name,
        "backend": platform.traits.name,
        "backend_title": platform.traits.title,
        "version": platform.version,
        "memory": [_room(spec, platform, parallel, kv, context) for parallel in shown],
        "layout": None if chosen is None else str(chosen),
        "operators": [],
        "tables": [],
    }  # fmt: skip
    if chosen is not None:
        batch, names = _points(platform, chosen, context)
        timed = answers(platform, spec, chosen, kv, batch)
        found["points"] = names
        found["operators"] = [_operator(answer, chosen, names) for answer in timed]
        found["totals"] = _totals(timed, names)
        used = dict.fromkeys(place for answer in timed for place in answer.tables)
        found["tables"] = [_table(database, place) for place in sorted(used)]
    return found


def _chosen(
    spec: ModelSpec, platform: Platform, layout: str | None, context: int
) -> Parallel | None:
    if layout is None:
        return smallest_layout(spec, platform, Workload(context, 1))
    parallel = Parallel.parse(layout)
    problem = layout_problem(spec, parallel) or platform.traits.allows(parallel, moe=spec.is_moe)
    if problem is not None:
        raise UserError(f"layout {parallel}: {problem}")
    return parallel


def _model(spec: ModelSpec, others: tuple[str, ...]) -> Document:
    return {
        "name": spec.name,
        "checkpoint": spec.checkpoint,
        "others": list(others),
        "architecture": spec.architecture,
        "layers": spec.layer_count,
        "hidden": spec.hidden,
        "vocab": spec.vocab,
        "max_context": spec.max_context,
        "tied_embeddings": spec.tied_embeddings,
        "mtp_layers": spec.mtp_layers,
        "kv_dtype": spec.quantization.kv,
        "parameters": parameters(spec),
        "active_parameters": active_parameters(spec),
        "embedding_parameters": embedding_parameters(spec),
        "checkpoint_bytes": checkpoint_bytes(spec),
        "notes": list(spec.notes),
    }


def _cache(spec: ModelSpec, kv: str) -> Document:
    whole = Parallel()
    return {
        "kv_dtype": kv,
        "bytes_per_token": kv_bytes_per_token(spec, whole, kv),
        "by_window": [
            {"window": window, "bytes_per_token": size}
            for window, size in kv_layout(spec, whole, kv)
        ],
        "state_bytes": state_bytes(spec, whole),
    }


def _work(spec: ModelSpec, kv: str, context: int) -> Iterator[Document]:
    """What one token asks of all GPUs together, in decode and in a prompt."""
    for sequences in _DECODE:
        moved = decode_bytes(spec, sequences, context, kv) / sequences
        flops = token_flops(spec, context)
        yield {
            "phase": f"decode, {sequences} sequence{'s' * (sequences > 1)}",
            "gflop_per_token": flops / 1e9,
            "gb_per_token": moved / 1e9,
            "flop_per_byte": flops / moved,
        }
    flops = token_flops(spec, context, prompt=True)
    yield {
        "phase": f"prompt of {context:,}", "gflop_per_token": flops / 1e9,
        "gb_per_token": None, "flop_per_byte": None,
    }  # fmt: skip


def _shown(spec: ModelSpec, platform: Platform) -> list[Parallel]:
    """Layouts on powers of two of GPUs up to a node, without pipelines.

    Attention all tensor or all data parallel, experts all split or all divided; larger than a
    node where nothing in one holds the model.
    """
    kept: list[Parallel] = []
    gpus = platform.system.gpus_per_node
    while not kept or not any(_fits(spec, platform, parallel) for parallel in kept):
        kept = [
            p
            for p in layouts(platform, spec, gpus)
            if p.pp == 1
            and 1 in (p.tp, p.dp)
            and p.ep in (1, p.stage_gpus)
            and p.gpus & (p.gpus - 1) == 0
        ]
        if gpus >= platform.system.nvlink_domain * 8:
            break
        gpus *= 2
    return kept


def _capacity(
    spec: ModelSpec, platform: Platform, parallel: Parallel, kv: str, context: int | None = None
) -> Capacity:
    gpu = platform.system.gpu
    return platform.capacity(
        spec, parallel, token_budget=platform.token_budget(parallel.dp),
        max_sequences=platform.traits.max_sequences(gpu.memory_bytes, gpu.sm), kv_dtype=kv,
        longest=context,
    )  # fmt: skip


def _fits(spec: ModelSpec, platform: Platform, parallel: Parallel) -> bool:
    return _capacity(spec, platform, parallel, spec.quantization.kv).kv > 0


def _room(
    spec: ModelSpec, platform: Platform, parallel: Parallel, kv: str, context: int
) -> Document:
    """Memory of the fullest GPU of a layout, and the sequences of ``context`` that fit."""
    room = _capacity(spec, platform, parallel, kv, context)
    each = float(room.sequence_bytes(context))
    sequences = parallel.dp * max(room.lasting, 0.0) // each if each else 0.0
    return {
        "layout": str(parallel),
        "gpus": parallel.gpus,
        "total_gib": room.total / GIB,
        "reserved_gib": room.reserved / GIB,
        "weights_gib": room.weights / GIB,
        "activations_gib": room.activations / GIB,
        "graphs_gib": room.graphs / GIB,
        "kv_cache_gib": max(room.kv, 0.0) / GIB,
        "kv_kb_per_token": sum(size for _, size in room.per_token) / 1e3,
        "state_mb": room.state / 1e6 or None,
        "sequences": sequences,
        "tokens": sequences * context,
    }


def _points(platform: Platform, parallel: Parallel, context: int) -> tuple[Batch, list[str]]:
    """Decode iterations, and one with as much of a prompt as the engine takes at once."""
    chunk = min(context, platform.token_budget(parallel.dp))
    decode = Batch.of(decode=[float(n) for n in _DECODE], context=float(context))
    prompt = Batch.of(prefill_tokens=float(chunk), prefill_ranks=float(parallel.dp))
    names = [f"decode {n}" for n in _DECODE] + [f"prompt {chunk}"]
    return Batch.joined(decode, prompt), names


def _operator(answer: Answer, parallel: Parallel, names: list[str]) -> Document:
    name, shape, precision = operator_text(answer.operator)
    sends = isinstance(answer.operator, PipelineSend)
    count = parallel.pp - 1 if sends else getattr(answer.operator, "count", 0)
    origins = {
        point: {
            kind.name.lower(): float(answer.by_origin[kind, place] / answer.seconds[place])
            for kind in Origin
            if answer.seconds[place]
        }
        for place, point in enumerate(names)
    }
    return {
        "operator": name,
        "shape": shape,
        "precision": precision,
        "times": count,
        "fused": answer.fused,
        "ms": {
            point: None if answer.fused else to_ms(float(answer.seconds[place]))
            for place, point in enumerate(names)
        },
        "origins": origins,
        "tables": list(dict.fromkeys("/".join(place[1:]) for place in answer.tables)),
    }


def _totals(timed: tuple[Answer, ...], names: list[str]) -> list[Document]:
    """Sum of all operators at each point, and the shares by origin."""
    found = []
    for place, point in enumerate(names):
        total = sum(float(answer.seconds[place]) for answer in timed)
        shares = {
            f"{kind.name.lower()}_percent": 100.0
            * sum(float(answer.by_origin[kind, place]) for answer in timed)
            / total
            for kind in Origin
        }
        found.append({"point": point, "ms": to_ms(total), **shares})
    return found


def _table(database: PerfDb, place: Place) -> Document:
    entry = database.entries(*place)[0]
    return {
        "table": f"{entry.backend}/{entry.table}",
        "system": entry.system,
        "version": entry.version,
        "versions": list(entry.versions),
        "rows": entry.rows,
        "date": entry.date,
        "licence": entry.licence,
    }
