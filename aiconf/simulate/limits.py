"""Settings of an engine that its replay obeys."""

from __future__ import annotations

from dataclasses import dataclass

from aiconf.simulate.intake import NO_INTAKE, IntakeCost
from aiconf.simulate.reserve import NO_RESERVE, Reserve


@dataclass(frozen=True)
class Limits:
    """Settings of the engine, each of one attention rank.

    token_budget: tokens of an iteration. max_sequences: running sequences. kv_tokens: tokens
    that the cache holds. mixed: prompts share iterations with decodes (else they go first).
    chunked: a prompt may be split. reserve: room for outputs when a request is admitted.
    jump: skip over equal iterations in closed form.
    balance_wait, balance_more: see ``engine.trait_schema.Scheduler``. chunk_share: of an
    iteration, after which the next one may start where no prompt ends and nothing decodes.
    """

    token_budget: int
    max_sequences: int
    kv_tokens: float
    mixed: bool
    chunked: bool = True
    reserve: Reserve = NO_RESERVE
    lost: float = 8.0  # tokens of cache lost per sequence: half a block
    intake: IntakeCost = NO_INTAKE
    jump: bool = True
    balance_wait: int = 0
    balance_more: int = 0
    chunk_share: float = 1.0
