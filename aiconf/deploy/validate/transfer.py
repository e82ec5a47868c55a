"""KV cache that moves between workers: what prefill, decode and router must agree on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from aiconf.deploy.rules import differing
from aiconf.deploy.validate.integers import whole
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched

_AUTO = "auto"
_BLOCKS = 16  # tokens: attention kernels take multiples of it as the size of a block
# What each engine calls the things that both sides must share: (meaning, flag, key in its file).
_SHARED = {
    "vllm": [
        ("KV cache type", "--kv-cache-dtype", ""),
        ("KV block size", "--block-size", ""),
    ],
    "sglang": [
        ("KV cache type", "--kv-cache-dtype", ""),
        ("page size", "--page-size", ""),
        ("transfer backend", "--disaggregation-transfer-backend", ""),
    ],
    "trtllm": [
        ("KV cache type", "", "kv_cache_config.dtype"),
        ("tokens per block", "--kv-block-size", "kv_cache_config.tokens_per_block"),
        ("transfer backend", "", "cache_transceiver_config.backend"),
    ],
}  # fmt: skip
_BLOCK = {"vllm": "--block-size", "sglang": "--page-size", "trtllm": "--kv-block-size"}


def problems(workers: Sequence[Launched]) -> Iterator[Problem]:
    """Yield where the components of one graph do not fit together."""
    plain = [one for one in workers if one.is_plain_engine]
    for one in plain:
        yield from _own(one)
    sides = {role: [w for w in plain if w.component.role == role] for role in ("prefill", "decode")}
    for prefill in sides["prefill"]:
        for decode in sides["decode"]:
            if prefill.engine == decode.engine and _model(prefill) == _model(decode):
                yield from _pair(prefill, decode)
    for one in workers:
        if one.component.role == "frontend":
            yield from _routed(one, plain)


def _model(one: Launched) -> str | None:
    """Return the model's name, with a variable in it where only the cluster knows it."""
    names = ("--served-model-name", "--model", "--model-path")
    return next((given[-1] for name in names if (given := one.line.settings.get(name))), None)


def _stated(one: Launched, flag: str, path: str) -> str | None:
    """Return a setting from the command line, or from the engine's file."""
    if flag and (text := one.line.text(flag)):
        return text
    value = one.written(flag, path)
    return None if value is None else str(value)


def _pair(prefill: Launched, decode: Launched) -> Iterator[Problem]:
    where = spelled(decode.component.where)
    for meaning, flag, path in _SHARED[prefill.engine or ""]:
        a, b = (_stated(one, flag, path) for one in (prefill, decode))
        if any(one.line.hidden(flag) for one in (prefill, decode)):
            what = f"{meaning}: not known here, so that prefill and decode are not compared"
            yield Problem(prefill.graph.source, where, what, f"state {flag}", "warning")
            continue
        one_hides = prefill.hides_config or decode.hides_config
        if a == b or (one_hides and None in (a, b)):
            continue
        if _refuses(prefill, flag, a) or _refuses(decode, flag, b):
            continue  # said where the command line is read
        fix = f"give both {flag or path} {_common(a, b)}"
        # A default may be the same as what the other side states.
        if a is None or b is None or _AUTO in (a, b):
            told = f"{meaning}: prefill '{prefill.component.name}' has {a or 'the default'}, "
            told += f"decode '{decode.component.name}' {b or 'the default'}"
            yield Problem(prefill.graph.source, where, told, fix, "warning")
            continue
        # Sizes of blocks are compared as numbers.
        sizes = flag == _BLOCK[prefill.engine or ""]
        here = prefill.component.name, whole(a) if sizes else a
        there = decode.component.name, whole(b) if sizes else b
        for finding in differing("handed-over", meaning, here, there, prefill.engine or ""):
            yield Problem(prefill.graph.source, where, finding.problem, fix, finding.severity)


def _refuses(one: Launched, flag: str, value: str | None) -> bool:
    """Whether the parser knows all values of ``flag``, and ``value`` is none of them."""
    found = next((f for parser in one.parsers if (f := parser.get(flag))), None) if flag else None
    return bool(value and found and found.choices and value not in found.choices)


def agreed(one: Launched, flag: str, workers: Sequence[Launched]) -> str | None:
    """Return the value of another worker for a flag that both must share, if it is one of few."""
    if not one.is_plain_engine or flag not in {name for _, name, _ in _SHARED[one.engine or ""]}:
        return None
    values = [w.line.text(flag) for w in workers if w is not one and w.engine == one.engine]
    known = next((f for parser in one.parsers if (f := parser.get(flag))), None)
    choices = known.choices if known else ()
    return next((value for value in values if value in choices), None)


def _common(a: str | None, b: str | None) -> str:
    """Return what both sides should have; a number is a size of blocks, a multiple of 16."""
    sizes = [size for size in (whole(one or "") for one in (a, b)) if size is not None]
    if not sizes:
        return a or b or ""
    fit = next((size for size in sizes if size % _BLOCKS == 0), None)
    return str(fit or max(1, round(sizes[0] / _BLOCKS)) * _BLOCKS)


def _own(one: Launched) -> Iterator[Problem]:
    source, where = one.graph.source, spelled((*one.component.container, "args"))
    mode = one.line.text("--disaggregation-mode")
    is_prefill = mode == "prefill" or one.line.has("--is-prefill-worker")
    if one.engine == "vllm":
        config = one.line.text("--kv-transfer-config")
        if is_prefill and not any(
            key.startswith("--kv-transfer-config") for key in one.line.settings
        ):
            example = '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
            yield Problem(
                source, where, "a prefill worker without --kv-transfer-config does not start",
                f"--kv-transfer-config '{example}'",
            )  # fmt: skip
        if (one.line.text("--connector") or "none") != "none":
            yield Problem(
                source, where, "Dynamo's vLLM workers no longer take --connector",
                "--kv-transfer-config with a kv_connector",
            )  # fmt: skip
        yield from _connector(config, is_prefill, mode == "decode", source, where)
    blocks = [
        one.line.number("--kv-block-size"),
        one.written("", "kv_cache_config.tokens_per_block"),
    ]
    if one.engine == "trtllm" and None not in blocks and blocks[0] != blocks[1]:
        yield Problem(
            source, where,
            f"--kv-block-size {blocks[0]}, and tokens_per_block {blocks[1]} in the engine file",
            f"--kv-block-size {blocks[1]}",
        )  # fmt: skip
    apart = one.engine == "trtllm" and mode in ("prefill", "decode")
    if apart and not one.hides_config and one.config:
        if not one.config.get("cache_transceiver_config"):
            yield Problem(
                source, where, f"{mode} worker without cache_transceiver_config in its engine file",
                "cache_transceiver_config: {backend: DEFAULT}",
            )  # fmt: skip
        if mode == "prefill" and not one.config.get("disable_overlap_scheduler"):
            yield Problem(
                source, where, "the overlap scheduler does not work in prefill workers",
                "disable_overlap_scheduler: true in the engine file",
            )  # fmt: skip


def _connector(
    text: str | None, is_prefill: bool, is_decode: bool, source: str, where: str
) -> Iterator[Problem]:
    try:
        config = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return  # said where the command line is read
    if config is None:
        return
    if not isinstance(config, dict) or not isinstance(config.get("kv_connector"), str):
        told = "--kv-transfer-config names no kv_connector"
        yield Problem(source, where, told, 'such as "kv_connector": "NixlConnector"')
        return
    role = config.get("kv_role")
    known = ("kv_producer", "kv_consumer", "kv_both")
    if role is not None and role not in known:
        yield Problem(source, where, f"kv_role '{role}' is none of {', '.join(known)}", "kv_both")
    wrong = {"kv_consumer": is_prefill, "kv_producer": is_decode}
    if wrong.get(str(role)):
        side = "prefill worker consumes" if is_prefill else "decode worker only produces"
        yield Problem(source, where, f"kv_role {role}: a {side} KV cache", "kv_both")


def _routed(frontend: Launched, workers: Sequence[Launched]) -> Iterator[Problem]:
    """A KV-aware router hashes prompts in blocks, which must be those of the workers."""
    line, env = frontend.line, frontend.component.env
    if (line.text("--router-mode") or env.get("DYN_ROUTER_MODE")) != "kv":
        return
    stated = line.text("--kv-cache-block-size") or env.get("DYN_KV_CACHE_BLOCK_SIZE")
    engines = [(one, one.engine) for one in workers if one.engine]
    if any(one.line.hidden(_BLOCK[engine]) for one, engine in engines):
        told = "block sizes: not known here, so that router and workers are not compared"
        where = spelled(frontend.component.where)
        yield Problem(frontend.graph.source, where, told, "state the block size", "warning")
        return
    path = {"trtllm": "kv_cache_config.tokens_per_block"}
    sizes = {
        size
        for one, engine in engines
        if (size := _stated(one, _BLOCK[engine], path.get(engine, "")))
    }
    if stated and sizes and stated not in sizes:
        told = f"the router's --kv-cache-block-size {stated} is none of the workers' "
        yield Problem(
            frontend.graph.source, spelled(frontend.component.where),
            told + f"block sizes ({', '.join(sorted(sizes))})",
            f"--kv-cache-block-size {sorted(sizes)[0]}",
        )  # fmt: skip
