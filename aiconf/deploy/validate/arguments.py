"""Command lines against the flags that the image's engine and Dynamo's wrapper accept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from aiconf.deploy.validate.command_line import Fault
from aiconf.deploy.validate.flag_lists import known_somewhere, lists
from aiconf.deploy.validate.graph import Graph
from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.shell import MOST
from aiconf.deploy.validate.transfer import agreed
from aiconf.deploy.validate.workers import Launched

_NAMED = re.compile(r"python[\d.]*\s+-m\s+dynamo\.\w+")


def problems(one: Launched, workers: Sequence[Launched] = ()) -> Iterator[Problem]:
    """Yield what the parsers of a component would refuse.

    Where the image does not say its version, or is a build of its own, only what no known
    version accepts is reported, as a warning.
    """
    process = one.component.process
    if process is None or not lists(one.module, one.release):
        return
    for found in one.line.faults:
        value = agreed(one, found.flag, workers)
        fault = replace(found, fix=value) if value else found
        if not one.is_complete and not fault.is_unknown:
            continue  # the shell may put in what is missing here
        if one.exact:
            yield _problem(one, fault, _history(one, fault), "error")
        elif not (fault.is_unknown and known_somewhere(one.module, fault.flag)):
            yield _problem(one, fault, _unsure(one), "warning")


def unstarted(graph: Graph) -> Iterator[Problem]:
    """Yield components whose script names a module of Dynamo but does not start it."""
    for component in graph.components:
        for key, words in (("command", component.command), ("args", component.args)):
            if any(len(word.encode(errors="replace")) >= MOST for word in words):
                where = spelled((*component.container, key))
                what = f"an argument of {MOST >> 10} KiB or more: Linux starts no such command"
                yield Problem(graph.source, where, what, "put it into a file of a ConfigMap")
        text = " ".join((*component.command, *component.args))
        if component.process is None and (match := _NAMED.search(text)):
            yield Problem(
                graph.source,
                spelled((*component.container, "args")),
                f"'{match.group()}' is not the start of a command: the shell takes it for words of "
                "another",
                "begin a line with it, or put && before it",
                "warning",
            )


def planner_config(one: Launched) -> Iterator[Problem]:
    """Yield what is wrong with the JSON that a planner is given."""
    words = one.component.words
    if one.module == "dynamo.planner" and "--config" in words[:-1]:
        text = words[words.index("--config") + 1]
        try:
            json.loads(text if text.startswith("{") else "{}")
        except (ValueError, RecursionError) as error:
            where = spelled((*one.component.container, "args"))
            yield Problem(one.graph.source, where, f"--config is not valid JSON: {error}")


def _problem(one: Launched, fault: Fault, more: str, level: str) -> Problem:
    what = f"{fault.flag}: {fault.what}" if fault.flag else fault.what
    return Problem(
        one.graph.source,
        spelled((*one.component.container, "args")),
        what + more,
        fault.fix,
        "error" if level == "error" else "warning",
    )


def _history(one: Launched, fault: Fault) -> str:
    if not fault.is_unknown:
        return ""
    releases = known_somewhere(one.module, fault.flag)
    return f" (Dynamo {', '.join(reversed(releases))} has it)" if releases else ""


def _unsure(one: Launched) -> str:
    name = one.image.name if one.image else "no image"
    return f" (nearest known to {name}: Dynamo {one.release})"
