"""Known crash patterns in a manifest: the rules of ``deploy/rules``, on what its workers state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from aiconf.deploy.rules import Finding, alone, together
from aiconf.deploy.validate.facts import Facts, facts
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched


def problems(workers: Sequence[Launched]) -> Iterator[Problem]:
    """Yield the rules that the workers of one graph break."""
    known = [found for one in workers if (found := facts(one)) is not None]
    for one in known:
        for finding in alone(one.stated):
            yield _problem(one, finding)
    for prefill in (one for one in known if one.stated.role == "prefill"):
        for decode in (one for one in known if one.stated.role == "decode"):
            if prefill.stated.backend == decode.stated.backend and prefill.model == decode.model:
                # How caches look is compared with the flags, defaults among them.
                sides = (replace(one.stated, kv_block_size=None) for one in (prefill, decode))
                for finding in together(*sides):
                    yield _problem(decode, finding)


def _problem(one: Facts, finding: Finding) -> Problem:
    """Say on what model and GPU a finding stands that the manifest does not state itself."""
    of_memory = finding.rule in ("kv-memory", "tight-memory")
    of_model = finding.rule in ("heads", "kv-blocks", "own-code") or "a model of" in finding.problem
    about = f" ({one.checkpoint} on {one.system})" if of_memory else ""
    about = f" ({one.checkpoint})" if of_model else about
    where = spelled((*one.worker.component.container, "args"))
    return Problem(
        one.worker.graph.source, where, finding.problem + about, finding.fix, finding.severity
    )
