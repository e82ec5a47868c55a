"""Crash patterns that are known: what the workers of one deployment must not say.

Each rule looks at what is stated and is silent about what is not, so that it serves for a plan
that is written out and for a manifest that was found.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiconf.deploy.rules.alone import alone
from aiconf.deploy.rules.stated import Finding, Severity, Stated
from aiconf.deploy.rules.together import differing, together


def findings(workers: Sequence[Stated]) -> list[Finding]:
    """Return every rule that ``workers`` of one deployment break, errors first."""
    found = [one for worker in workers for one in alone(worker)]
    sides = {role: [w for w in workers if w.role == role] for role in ("prefill", "decode")}
    for prefill in sides["prefill"]:
        for decode in sides["decode"]:
            found += together(prefill, decode)
    return sorted(found, key=lambda one: one.severity)


__all__ = ["Finding", "Severity", "Stated", "alone", "differing", "findings", "together"]
