"""Benchmark protocols: what a published benchmark told its engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aiconf.engine.changes import Changes
from aiconf.engine.speculation import Speculation
from aiconf.parallel import Parallel
from aiconf.resources import read_yaml
from aiconf.runs.cells import Cells, Skipped, number, precision_of
from aiconf.runs.history import facts_of, older
from aiconf.runs.measured import Traffic, Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class Settings:
    """Engine settings of one run; None: the engine's default (see ``Deployment``)."""

    max_sequences: int | None = None
    token_budget: int | None = None
    kv_dtype: str | None = None
    poll: int = 1
    memory: float | None = None
    facts: Changes = ()


@dataclass(frozen=True)
class Budget:
    """Token budget: the largest of its parts."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    tokens: int = 1
    isl_factor: int = 0
    margin: int | None = None

    def of(self, load: Traffic, verified: int) -> int:
        """Tokens of one iteration under ``load``, ``verified`` of each decoding sequence."""
        decode = load.users * verified
        longest = load.isl + decode + self.margin if self.margin is not None else 0
        return max(self.tokens, self.isl_factor * load.isl, longest)


@dataclass(frozen=True)
class Rule:
    """One line of ``inferencex.yaml`` (its heading explains the fields)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    backend: str
    model: str
    apart: bool = False
    gpus: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    since: str = ""
    before: str = ""
    tp: tuple[int, ...] = ()
    lengths: tuple[int, int] | None = None
    users: int = 0
    layout: Literal["plain", "tensor", "expert"] | None = None
    unstated: str = ""
    token_budget: Budget | None = None
    kv_dtype: str | None = None
    poll: Mapping[int, int] | None = None
    memory: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, cells: Cells, backend: str, load: Traffic) -> bool:
        """Whether the rule is about such a row."""
        model = cells.get("model", "").rsplit("/", 1)[-1].lower()
        gpu = cells.get("hardware", "").split(" ", maxsplit=1)[0]
        version, date = cells.get("backend_version", ""), cells.get("date", "")
        return (
            backend == self.backend
            and self.apart == (cells.get("serving_mode", "") == "disagg")
            and model.startswith(self.model.lower())
            and (not self.gpus or gpu in self.gpus)
            and (not self.precisions or precision_of(cells.get("precision", "")) in self.precisions)
            and (not self.versions or version.startswith(self.versions))
            and (not self.since or date >= self.since)
            and (not self.before or "" < date < self.before)
            and (not self.tp or cells.get("tp", "") in map(str, self.tp))
            and self.lengths in (None, (load.isl, load.osl))
            and load.users >= self.users
        )


@cache
def _rules() -> Sequence[Rule]:
    from pydantic import TypeAdapter

    found = read_yaml(Path(__file__).with_name("inferencex.yaml"))["rules"]
    rules: tuple[Rule, ...] = TypeAdapter(tuple[Rule, ...]).validate_python(found)
    return rules


def _rule(cells: Cells, backend: str, load: Traffic) -> Rule | None:
    """The rule about a row of InferenceX, if any."""
    if not published(cells, load):
        return None
    return next((rule for rule in _rules() if rule.matches(cells, backend, load)), None)


def published(cells: Cells, load: Traffic) -> bool:
    """Whether InferenceX made the row, as its own files or copies of them say."""
    told = cells.get("source", "") + cells.get("isl_osl_note", "")
    return load.kind == "closed" and ("InferenceX" in told or "InferenceMAX" in told)


def launched(cells: Cells, backend: str, load: Traffic, workers: Workers) -> Workers:
    """Return the layout that the benchmark's script launched, where it had no switch for the
    stated one.

    Raises
    ------
    Skipped
        Where the script put a load on the engine that the row does not state.
    """
    rule, one = _rule(cells, backend, load), workers.parallel
    if rule is not None and rule.unstated:
        raise Skipped(rule.unstated)
    if rule is None or rule.layout is None:
        return workers
    ep = {"plain": 1, "tensor": one.ep, "expert": one.stage_gpus}[rule.layout]
    return Workers(Parallel(one.stage_gpus, one.pp, 1, ep), workers.count)


def _generated(cells: Cells, backend: str, load: Traffic) -> Settings:
    """What AIConfigurator's generator wrote into the engines of its own aggregated runs.

    max_num_tokens is one prompt, the batch and 1,500 tokens (ai-dynamo/aiconfigurator,
    src/aiconfigurator/cli/backends/trtllm.py of September 2025, later
    generator/rule_plugin/benchmark/{trtllm,vllm}.rule), so prompts enter one or two at a time
    and the users of a closed loop do not stay in step. SGLang, whose rule came
    later (sglang.rule, January 2026: enable_mixed_chunk), mixes prompts and decodes since 0.5.6.
    """
    batch = number(cells, "max_batch")
    if load.kind != "closed" or batch is None or cells.get("serving_mode", "") == "disagg":
        return Settings()
    if backend != "sglang":
        return Settings(max_sequences=load.users, token_budget=load.isl + 1500 + round(batch))
    if older(cells.get("backend_version", ""), cells.get("date", ""), "0.5.6", "2025-12"):
        return Settings()
    return Settings(load.users, facts=(("scheduler.policy", "mixed"),))


def engine_settings(
    cells: Cells, backend: str, load: Traffic, drafts: Speculation | None = None
) -> Settings:
    """Return what the benchmark of a row told its engine.

    InferenceX sets maximum sequences to the concurrency, and per model what
    ``inferencex.yaml`` lists. Other sources say nothing.
    """
    if "AIC_fields" in cells.get("notes", "") and "InferenceX" not in cells.get("source", ""):
        return _generated(cells, backend, load)
    if not published(cells, load):
        return Settings()
    rule = _rule(cells, backend, load)
    if rule is None:
        return Settings(max_sequences=load.users)
    steps = rule.poll or {1: 1}
    reached = max((users for users in steps if users <= load.users), default=min(steps))
    verified = drafts.verified if drafts else 1
    budget = rule.token_budget.of(load, verified) if rule.token_budget else None
    return Settings(
        load.users, budget, rule.kv_dtype, steps[reached], rule.memory, facts_of(rule.facts)
    )
