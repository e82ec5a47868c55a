"""What engine versions did differently from those that ``backends/*.yaml`` describes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from aiconf.engine.changes import Changes, frozen
from aiconf.resources import read_yaml


@dataclass(frozen=True)
class _Past:
    """One rule of ``history.yaml`` (its heading explains the fields)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    backend: str
    before: str
    day: str
    facts: Mapping[str, Any]
    source: str
    since: str = "0"


@cache
def _rules() -> Sequence[_Past]:
    from pydantic import TypeAdapter

    found = read_yaml(Path(__file__).with_name("history.yaml"))["rules"]
    rules: tuple[_Past, ...] = TypeAdapter(tuple[_Past, ...]).validate_python(found)
    return rules


def past_facts(backend: str, version: str, date: str) -> Changes:
    """Return the facts in which an engine of ``version`` (or of ``date``) differed."""
    return tuple(
        fact
        for rule in _rules()
        if rule.backend == backend
        and older(version, date, rule.before, rule.day)
        and not older(version, "", rule.since, "")
        for fact in facts_of(rule.facts)
    )


def facts_of(given: Mapping[str, Any]) -> Changes:
    """Facts of a YAML file, hashable."""
    return tuple((name, frozen(value)) for name, value in given.items())


def kv_dtype(backend: str, version: str, date: str) -> str | None:
    """Return the KV cache type that an old engine picked; None: as today.

    vLLM up to 0.11 read ``--kv-cache-dtype auto`` as the type of the activations, so the cache
    of an FP8 checkpoint was bf16; since 0.12 (December 2025) it follows the checkpoint's own
    KV quantisation. Rows without a version are dated by their day.
    """
    return "bf16" if backend == "vllm" and older(version, date, "0.12", "2025-12") else None


def older(version: str, date: str, first: str, day: str) -> bool:
    """Whether ``version`` comes before ``first``, or, unstated, ``date`` before ``day``."""
    stated = re.match(r"v?(\d+(?:\.\d+)+)", version.strip())
    if stated:
        return _numbers(stated.group(1)) < _numbers(first)
    month = re.match(r"\d{4}-\d{2}", date.strip())
    return month is not None and month.group(0) < day


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
