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
        both = ((one.name, getattr(one, field)) for one in (prefill, decode))
        yield from differing(rule, what, *both)
    names = f"{prefill.name} and {decode.name}"
    if prefill.backend == "sglang":  # what vLLM's connectors move depends on the connector
        sides = (Parallel(1, one.pp) for one in (prefill, decode))
        problem = load_traits("sglang").allows_apart(*sides)
        if problem:
            told, _, fix = problem.partition(": ")
            yield Finding("pipeline", names, "error", told, fix)
    here, there = prefill.max_model_len, decode.max_model_len
    if here is not None and there is not None and here > there:
        yield Finding(
            "context", names, "warning",
            f"prefill workers take {here} tokens and decode workers {there}: what is longer is "
            "computed and then refused",
            "give both the same",
        )  # fmt: skip


def differing(
    rule: str, what: str, prefill: tuple[str, object], decode: tuple[str, object]
) -> Iterator[Finding]:
    """Yield that two workers, each a name and a value, do not share ``what`` they must share.

    sglang, srt/disaggregation/common/conn.py, try_ensure_parallel_info, refuses other block sizes
    and types; vllm, distributed/kv_transfer/kv_connector/v1/nixl, compares what blocks hold.
    """
    (giver, here), (taker, there) = prefill, decode
    if here is not None and there is not None and here != there:
        yield Finding(
            rule, f"{giver} and {taker}", "error",
            f"{what}: prefill '{giver}' has {here}, decode '{taker}' {there}",
            "they hand over KV cache, so give both the same",
        )  # fmt: skip
