"""A platform whose engine was given every setting of a deployment in place of its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aiconf.engine.engine import Platform
from aiconf.engine.trait_schema import Steps, Tier
from aiconf.model.operators import Collective


def told(
    place: Platform,
    *,
    dp: int,
    sequences: int,
    token_budget: int,
    block: int,
    fraction: float,
    graphs: Sequence[int],
) -> Platform:
    """Return ``place`` with the settings of one worker as its engine's defaults.

    Parameters
    ----------
    dp
        Attention ranks of the worker.
    sequences, token_budget
        Running sequences, and tokens of an iteration, of one attention rank.
    block
        Tokens of a KV block.
    fraction
        The engine's memory setting.
    graphs
        Decode batch sizes that are captured; empty: none.
    """
    traits, sizes = place.traits, sorted(set(graphs))
    largest = sizes[-1] if sizes else 0
    shared = traits.scheduler.budget_shared_by_dp
    tier = Tier(0, 0, token_budget * dp if shared else token_budget, sequences, {0: largest})
    rule = replace(
        traits.graphs,
        sizes=tuple(Steps(size, size, 1) for size in sizes),
        limit=largest,
        limit_factor=float(max(largest, 1)),  # the list is complete: sequences do not cut it
        append_limit=False,
    )
    new = replace(
        traits,
        scheduler=replace(traits.scheduler, tiers=(tier,)),
        kv=replace(
            traits.kv,
            block_tokens={0: block},
            block_tokens_mla={0: block},
            block_tokens_only={},
        ),
        memory=replace(traits.memory, fraction=fraction, fraction_wide=None),
        graphs=rule,
    )
    # Collectives take another kernel beyond the largest graph; all else does not know of graphs.
    kept = {key: value for key, value in place.tables.built.items() if not _of_graphs(key)}
    return replace(place, traits=new, tables=replace(place.tables, built=kept), steps={}, rooms={})


def _of_graphs(key: object) -> bool:
    return isinstance(key, tuple) and bool(key) and isinstance(key[0], Collective)
