"""Rules about a pair: what prefill and decode must share, since cache is handed over."""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.deploy.rules.stated import Finding, Stated
from aiconf.engine.traits import load_traits
from aiconf.parallel import Parallel


def together(prefill: Stated, decode: Stated) -> Iterator[Finding]:
    """Yield the rules that a prefill and a decode worker break together."""
    for rule, what, field in (
        ("block-size", "KV block size", "kv_block_size"),
        ("kv-dtype", "KV cache type", "kv_dtype"),
    ):
        here, there = ((one.name, getattr(one, field)) for one in (prefill, decode))
        yield from differing(rule, what, here, there, prefill.backend)
    names = f"{prefill.name} and {decode.name}"
    if prefill.backend == "sglang":  # what vLLM's connectors move depends on the connector
        sides = (Parallel(1, one.pp) for one in (prefill, decode))
        problem = load_traits("sglang").allows_apart(*sides)
        if problem:
            told, _, fix = problem.partition(": ")
            yield Finding("pipeline", names, "error", told, fix)
    longest, taken = prefill.max_model_len, decode.max_model_len
    if longest is not None and taken is not None and longest > taken:
        yield Finding(
            "context", names, "warning",
            f"prefill workers take {longest} tokens and decode workers {taken}: what is longer is "
            "computed and then refused",
            "give both the same",
        )  # fmt: skip


def differing(
    rule: str, what: str, prefill: tuple[str, object], decode: tuple[str, object], backend: str
) -> Iterator[Finding]:
    """Yield that two workers, each a name and a value, do not share ``what`` they must share.

    sglang, srt/disaggregation/common/conn.py, try_ensure_parallel_info, refuses other block sizes
    and types. vLLM's NIXL connector refuses other types by a hash at the handshake, and block sizes
    unless that of decode is a multiple (TransferTopology.block_size_ratio); those it moves for some
    models and layouts (docs/features/nixl_connector_compatibility.md).
    """
    (giver, here), (taker, there) = prefill, decode
    if here is None or there is None or here == there:
        return
    sizes = isinstance(here, int) and isinstance(there, int) and here > 0 and there % here == 0
    partly = backend == "vllm" and sizes
    told = f"{what}: prefill '{giver}' has {here}, decode '{taker}' {there}"
    yield Finding(
        rule, f"{giver} and {taker}", "warning" if partly else "error",
        told + (", which vLLM moves for some models and layouts only" if partly else ""),
        "they hand over KV cache, so give both the same",
    )  # fmt: skip
