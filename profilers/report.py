"""What a plan and a run come to, in lines for the terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from profilers import journal
from profilers.device import described
from profilers.plan import Job, Plan
from profilers.run import clock

_NUMBER = re.compile(r"\d[\d.]*(e[+-]?\d+)?")


def plan_lines(plan: Plan, job: Job) -> Iterator[str]:
    """Points by operator and backend, how long they take, and what is left out and why."""
    device = plan.device
    yield f"{device.name}, system {device.system}, {device.memory_bytes / 2**30:.0f} GiB free"
    if device.kind == "cuda" and not device.datasheet:
        yield f"  no system describes it, so its peaks were measured: {described(device.name)}"
    counts: dict[tuple[str, str], list[float]] = {}
    for (operator, kernel, _), track in zip(plan.lines, plan.refinement.tracks, strict=True):
        count = counts.setdefault((operator.name, kernel.backend), [0, 0, 0, 0.0])
        seeds = [place for place in track.seeds() if track.open(place)]
        count[0] += 1
        count[1] += len(seeds)
        count[2] += len(track.values)
        count[3] += float(track.cost[seeds].sum())
    for (name, backend), (lines, first, points, seconds) in counts.items():
        yield (
            f"  {name} {backend}: {lines:.0f} lines, {first:.0f} points first (about "
            f"{clock(seconds)}), {points:.0f} at most"
        )
    for operator in {id(one): one for one, _, _ in plan.lines}.values():
        told = operator.about(device)
        if told:
            yield f"  {operator.name}: {told}"
    whole = sum(float(track.cost.sum()) for track in plan.refinement.tracks)
    first = sum(count[3] for count in counts.values())
    yield (
        f"  all: {plan.first_looks()} points first, about {clock(first)}, then the worst gaps; "
        f"{plan.points()} points at most, about {clock(whole)}"
    )
    if job.budget is not None:
        yield f"  budget {clock(job.budget)}: lines in order of worth, then the worst gaps of them"
    if plan.known:
        yield f"  {plan.known} points are known from {job.perf_db}"
    for reason, _ in sorted(plan.left_out.items()):
        yield f"  left out: {reason}"


def status_lines(folder: Path) -> Iterator[str]:
    """What the journal of a run holds; ``UserError`` where there is none."""
    reading = journal.read(folder)
    job, sessions, points = Job.of(reading.records[0]), reading.of("session"), reading.of("point")
    refused = reading.of("refused")
    walls = [record["wall"] for record in (*points, *refused)]
    yield (
        f"{folder}: {len(points)} points measured, {len(refused)} refused, "
        f"{clock(sum(walls))} in {len(sessions)} sessions"
    )
    asked = [",".join(job.ops) or "all operators", ",".join(job.backends) or "all backends"]
    budget = f", budget {clock(job.budget)}" if job.budget else ""
    yield f"  asked for: {', '.join(asked)}{', quick' * job.quick}{budget}"
    if sessions:
        last = sessions[-1]
        libraries = ", ".join(f"{name} {v}" for name, v in last["libraries"].items())
        driver = last["driver"].get("driver_version", "")
        yield f"  on {last['device']['name']}{f', driver {driver}' * bool(driver)}, {libraries}"
    for place, count in sorted(Counter(f"{r['backend']}/{r['table']}" for r in points).items()):
        spread = [r["spread"] for r in points if f"{r['backend']}/{r['table']}" == place]
        yield f"  {place}: {count} points, spread {np.median(spread):.1%} (median)"
    alike: dict[str, list[str]] = {}
    for record in refused:  # reasons that differ in their numbers only
        alike.setdefault(_NUMBER.sub("#", record["why"]), []).append(record["why"])
    for whys in sorted(alike.values(), key=len, reverse=True)[:10]:
        yield f"  refused {len(whys)}: {whys[0]}{' and alike' * (len(set(whys)) > 1)}"
    if reading.damaged:
        yield f"  {reading.damaged} damaged lines, which `resume` drops"
