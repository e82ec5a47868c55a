"""One component of a graph as a worker: its words, its engine's file, and what neither says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from aiconf.deploy.read import sglang, trtllm, vllm
from aiconf.deploy.read.amounts import MOST_SEQUENCES, check_amounts
from aiconf.deploy.read.flags import Flags, named, parsed
from aiconf.deploy.read.loose import BALANCING
from aiconf.deploy.read.overrides import NO_GRAPHS
from aiconf.deploy.read.stated import Stated
from aiconf.deploy.validate.documents import parse
from aiconf.deploy.validate.graph import Component, framework_of
from aiconf.engine.engine import Platform
from aiconf.engine.traits import load_traits
from aiconf.errors import UserError
from aiconf.model.cache import LATENT, cache_kind
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.perf.exchange import measured_kernels
from aiconf.serving.plan import Role, Worker

_READERS: dict[str, Callable[[Flags], Stated]] = {
    "vllm": vllm.stated, "sglang": sglang.stated, "trtllm": trtllm.stated,
}  # fmt: skip
_ENGINE_ENV = ("VLLM_", "SGLANG_", "SGL_", "TRTLLM_", "TLLM_", "OVERRIDE_QUANT_ALGO")
_QUIET_ENV = ("LOG", "TIMEOUT", "CACHE_ROOT", "DISABLE_LOAD_WEIGHTS", "PORT", "HOST", "CONFIGURE")


def backend_of(component: Component) -> str:
    """Return the engine of a worker.

    Raises
    ------
    UserError
        What it runs cannot be seen, or is no engine that is modelled.
    """
    process = component.process
    if process is None:
        shown = " ".join((*component.command, *component.args)).split()
        what = " ".join(shown[:4]) or "the image's own command"
        raise UserError(
            f"component {component.name} runs {what!r}, in which no dynamo.vllm, dynamo.sglang "
            "or dynamo.trtllm is seen"
        )
    backend = framework_of(process.module)
    if backend is None:
        raise UserError(f"component {component.name} runs {process.module}, which is not modelled")
    return backend


def read_worker(component: Component, backend: str) -> Stated:
    """Return what the command line, engine file and variables of a worker state.

    Raises
    ------
    UserError
        A value cannot be read, or the engine's file is not in the manifest.
    """
    values = settings_of(component, backend)
    found = said_by(values, backend, f"component {component.name}")
    if found.ep >= load_traits(backend).layouts.balanced_ep:  # which the prediction assumes
        found = replace(found, loose=tuple(one for one in found.loose if one not in BALANCING))
    told = [
        f"env {name}"
        for name in component.env
        if name.startswith(_ENGINE_ENV) and not any(word in name for word in _QUIET_ENV)
    ]
    return replace(found, loose=(*found.loose, *told))


def said_by(values: Mapping[str, Any], backend: str, where: str) -> Stated:
    """Return what settings (see ``settings_of``) state; ``where`` begins messages about them.

    Raises
    ------
    UserError
        A value cannot be read.
    """
    return _READERS[backend](Flags(values, where))


def settings_of(component: Component, backend: str) -> dict[str, Any]:
    """Return the values of the command line and of the file it names, in the engine's order.

    Raises
    ------
    UserError
        The file is not in the manifest, or not a mapping.
    """
    where = f"component {component.name}"
    line = parsed(component.words)
    if backend == "trtllm":
        path = line.get("extra-engine-args")
        file = _file(component, path, where) if isinstance(path, str) else {}
        if "cuda_graph_config" in file and file["cuda_graph_config"] is None:
            file = {**file, "cuda_graph_config": NO_GRAPHS}
        told = {k: v for k, v in file.items() if v is not None}
        return trtllm.merged(line, told, component.env, where)
    path = line.get("config")
    file = _file(component, path, where) if isinstance(path, str) else {}
    return {**named({k: v for k, v in file.items() if v is not None}), **line}


def _file(component: Component, path: str, where: str) -> dict[str, Any]:
    text = component.files.get(str(PurePosixPath(path)))
    if text is None:
        raise UserError(
            f"{where}: its engine settings are in {path}, which no ConfigMap of the manifest "
            "mounts: add the ConfigMap to the file"
        )
    documents = parse(text, f"{where}: {path}")
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise UserError(f"{where}: {path} is not one mapping of settings")
    check_amounts(documents[0], "")
    return documents[0]


def layout_of(stated: Stated, spec: ModelSpec) -> tuple[Parallel, int]:
    """Return the layout of one engine, and how many engines a worker is.

    Data-parallel ranks of a dense model share nothing: they are engines of their own.
    """
    if spec.is_moe:
        return Parallel(stated.tp, stated.pp, stated.dp, stated.ep), stated.apart
    return Parallel(stated.tp, stated.pp), stated.apart * stated.dp


def filled(stated: Stated, spec: ModelSpec, place: Platform, role: Role, replicas: int) -> Worker:
    """Return the worker: what is not stated is the engine's default."""
    parallel, engines = layout_of(stated, spec)
    gpu, traits = place.system.gpu, place.traits
    mla = cache_kind(spec) in LATENT
    per_rank = traits.max_sequences(gpu.memory_bytes, gpu.sm)
    sequences = per_rank * parallel.dp * (1 if traits.name != "trtllm" else parallel.pp)
    if stated.sequences is not None:
        sequences = max(stated.sequences // engines, 1)
        per_rank = -(-sequences // parallel.dp)
    length = stated.max_model_len
    context = length if length and length > 0 else spec.max_context
    budget = stated.token_budget or place.token_budget(parallel.dp)
    if stated.whole_prompts and traits.name == "vllm":
        # vLLM (EngineArgs, SchedulerConfig.verify_max_model_len): the longest prompt must fit.
        if budget < context and stated.token_budget is not None:
            raise UserError(
                f"vLLM does not start with --no-enable-chunked-prefill and "
                f"--max-num-batched-tokens {budget} below its context of {context}"
            )
        budget = max(budget, context)
    _check_sizes(per_rank, stated)
    graphs = stated.graphs
    if graphs is None:
        own = traits.largest_graph(gpu.memory_bytes, gpu.sm, parallel.stage_gpus)
        graphs = traits.graph_sizes(per_rank, stated.largest_graph or own)
    fraction = stated.memory_fraction
    if fraction is None:
        fraction = traits.memory_fraction(
            gpu.memory_bytes, gpu.sm, parallel, token_budget=budget * parallel.dp, mla=mla,
            disaggregated=role != "agg",
        )  # fmt: skip
    return Worker(
        role=role,
        replicas=replicas * engines,
        system=place.system,
        parallel=parallel,
        max_sequences=sequences,
        token_budget=budget,
        max_model_len=context,
        kv_dtype=stated.kv_dtype or spec.quantization.kv,
        kv_block_size=stated.kv_block_size or traits.block_tokens(gpu.sm, cache_kind(spec)),
        memory_fraction=fraction,
        graph_sizes=graphs,
        prefix_caching=traits.kv.prefix_caching
        if stated.prefix_caching is None
        else stated.prefix_caching,
        exchange=stated.exchange
        or traits.exchange(parallel, place.system.nvlink_domain, measured_kernels(place.tables)),
        moe_backend=stated.moe_backend or "",
    )


def _check_sizes(per_rank: int, stated: Stated) -> None:
    largest = max((*(stated.graphs or ()), stated.largest_graph or 0))
    for what, count in (("sequences at once", per_rank), ("sequences in CUDA graphs", largest)):
        if count > MOST_SEQUENCES:
            raise UserError(f"{count:,} {what}: no engine runs more than {MOST_SEQUENCES:,}")
