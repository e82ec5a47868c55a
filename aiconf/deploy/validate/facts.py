"""What a worker of a manifest states, for the rules: sizes, its model's figures, its memory.

Nothing is looked up outside: a model that is not embedded, or a GPU that nothing names, gives
fewer facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiconf.deploy.asked import lengths
from aiconf.deploy.read.flags import Flags
from aiconf.deploy.read.hardware import system_of
from aiconf.deploy.read.model import model_of
from aiconf.deploy.read.stated import Stated as Said
from aiconf.deploy.read.worker import layout_of, said_by, settings_of
from aiconf.deploy.rules import Severity, Stated
from aiconf.deploy.validate.parallelism import ranks
from aiconf.deploy.validate.workers import Launched
from aiconf.engine.capacity import capacity
from aiconf.engine.traits import load_traits
from aiconf.errors import UserError
from aiconf.model.cache import cache_kind
from aiconf.model.layout import head_counts, layout_problem
from aiconf.model.library import embedded_model
from aiconf.model.spec import ModelSpec
from aiconf.system.catalog import load_system

_OPEN = re.compile(r"\$[({\w]|\{\{|<[\w-]+>|`")  # what only a shell or a template would know
# Settings that make another model of a checkpoint, or let the engine go beyond its context.
_RESHAPED = ("hf-overrides", "json-model-override-args", "model-kwargs", "rope-scaling")
_LONGER = ("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN")
# Parts of the names of settings that put weights or cache elsewhere, or bound them otherwise.
_ELSEWHERE = (
    "offload", "quantization", "context-parallel", "num-gpu-blocks", "kv-cache-memory",
    "max-total-tokens", "lora", "max-tokens", "max-gpu-total-bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """A worker, what its manifest calls its model, and what is known of it.

    checkpoint, system: those that figures of model and GPU are of; empty where none are.
    """

    worker: Launched
    model: str
    stated: Stated
    checkpoint: str = ""
    system: str = ""


def facts(one: Launched) -> Facts | None:
    """Return what is known of a worker; None where its layout is not, or values are wrong."""
    return None if ranks(one) is None else _facts(one)


def _facts(one: Launched) -> Facts | None:
    backend = one.engine or ""
    try:
        values = settings_of(one.component, backend)
        open_ = {name for name, value in values.items() if _OPEN.search(str(value))}
        known = {name: value for name, value in values.items() if name not in open_}
        said = said_by(known, backend, f"component {one.component.name}")
        trusted = Flags(known, "").switch("trust-remote-code")
    except UserError:
        return None  # said where the command line and the engine's file are read
    sizes = replace(_sizes(one, said, known), trusted=None if open_ else bool(trusted))
    found = Facts(one, said.model, sizes)
    if any(name.startswith(_RESHAPED) for name in values):
        return found
    try:
        spec, taken = model_of(said, "", embedded_model)
    except UserError:
        return found
    found = _of_model(found, spec, is_named=not taken)
    if open_ or any(part in name for name in _names(values) for part in _ELSEWHERE):
        return found
    return _of_memory(found, said, spec)


def _names(values: Mapping[str, Any]) -> Iterator[str]:
    """Names of settings, those inside TensorRT-LLM's mappings too."""
    for name, value in values.items():
        yield name
        if isinstance(value, dict) and name != "cache-transceiver-config":
            yield from (str(inner).replace("_", "-") for inner in value)


def _sizes(one: Launched, said: Said, values: Mapping[str, Any]) -> Stated:
    """Return the sizes that the manifest states itself, of one attention rank."""
    backend, component = one.engine or "", one.component
    own = said.dp * said.apart * (said.pp if backend == "trtllm" else 1)
    transfer = values.get("cache-transceiver-config")
    buffer = transfer.get("max_tokens_in_buffer") if isinstance(transfer, dict) else None
    role = component.role if component.role in ("prefill", "decode") else "agg"
    asked = _asked(one.graph.annotations)
    length = said.max_model_len
    return Stated(
        name=component.name,
        role=said.role or role,
        backend=backend,
        tp=said.tp,
        pp=said.pp,
        max_sequences=None if said.sequences is None else -(-said.sequences // own),
        graph_top=max(said.graphs) if said.graphs else said.largest_graph,
        token_budget=said.token_budget,
        whole_prompts=said.whole_prompts,
        max_model_len=length if length and length > 0 else None,
        longest=sum(asked) if asked else None,
        kv_block_size=said.kv_block_size,
        transfer_tokens=buffer if type(buffer) is int else None,
    )


def _asked(annotations: Mapping[str, str]) -> tuple[int, int] | None:
    """Prompt and output tokens that our annotations state; None with images, whose tokens the
    model decides."""
    try:
        found = lengths(annotations)
    except UserError:
        return None
    if not found or "images" in found:
        return None
    return int(found["isl"]), int(found["osl"])


def _of_model(found: Facts, spec: ModelSpec, *, is_named: bool) -> Facts:
    """Add the model's heads, its code and, where the manifest gives its very id, its context."""
    heads, kv_heads = head_counts(spec)
    longer = any(name in found.worker.component.env for name in _LONGER)
    context = spec.max_context if is_named and not longer else None
    traits = load_traits(found.stated.backend)
    needs_code: Severity = "error" if is_named else "warning"
    stated = replace(
        found.stated, heads=heads, kv_heads=kv_heads, model_context=context,
        block_unit=traits.block_unit(cache_kind(spec)),
        needs_code=needs_code if spec.own_code else None,
    )  # fmt: skip
    return replace(found, stated=stated, checkpoint=spec.checkpoint)


def _of_memory(found: Facts, said: Said, spec: ModelSpec) -> Facts:
    """Add what the KV cache holds, where the GPU is known and the model can be cut so."""
    stated, graph = found.stated, found.worker.graph
    place = system_of(graph, found.worker.component, stated.role)
    if place is None:
        return found
    try:
        parallel, system = layout_of(said, spec)[0], load_system(place[0])
    except UserError:  # such as a GPU in our annotation that is of no system here
        return found
    if layout_problem(spec, parallel):
        return found
    traits = load_traits(stated.backend)
    gpu = system.gpu
    # The engine's own default is the model's context.
    longest = stated.max_model_len or (stated.backend == "vllm" and spec.max_context) or None
    room = capacity(
        spec, system, parallel, traits,
        token_budget=stated.token_budget or traits.token_budget(gpu.memory_bytes, gpu.sm, said.dp),
        max_sequences=stated.max_sequences or traits.max_sequences(gpu.memory_bytes, gpu.sm),
        kv_dtype=said.kv_dtype or spec.quantization.kv,
        fraction=said.memory_fraction, longest=longest,
    )  # fmt: skip
    needed = None
    asked = _asked(graph.annotations)
    if asked and stated.max_sequences:
        running = (asked[0], 0 if stated.role == "prefill" else asked[1])
        needed = room.held(max(stated.max_sequences - 1, 1), *running)
    one = stated.longest or longest
    stated = replace(
        stated,
        max_model_len=longest,
        sequence_bytes=float(room.sequence_bytes(one)) if one else None,
        kv_bytes=room.lasting,
        kv_needed=needed,
        memory_bytes=room.total,
    )
    return replace(found, stated=stated, system=system.name)
