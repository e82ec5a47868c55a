"""A worker's words as its parsers would read them: settings, and what they would refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aiconf.deploy.validate.flag_lists import Flag, FlagList
from aiconf.deploy.validate.integers import whole
from aiconf.errors import nearest

MOST = 50  # faults of one command line; who has more reads no further

_SIZE = re.compile(r"-?\d+(\.\d+)?[kKmMgGtT]?i?|auto")
_OPEN = re.compile(r"\$[({\w]|\{\{|<[\w-]+>|`")  # what only a shell or a template would know
_FLAG = re.compile(r"-[^\s=]+(=|$)")
_NUMBER = re.compile(r"-\.?\d")
# Flags that take text in argparse and JSON in truth.
_JSON = {
    "--kv-transfer-config", "--kv-events-config", "--speculative-config", "--compilation-config",
    "--override-engine-args", "--json-model-override-args", "--eplb-config", "--hf-overrides",
    "--model-loader-extra-config", "--attention-config", "--ec-transfer-config",
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What a parser would refuse. ``flag`` is empty for a stray word.

    is_unknown: no parser of the version has the flag.
    """

    flag: str
    what: str
    fix: str = ""
    is_unknown: bool = False


@dataclass
class CommandLine:
    """Settings by each spelling of their flag: the words given, none for a switch.

    open: words that only a shell or the cluster knows and that may be any flags.
    """

    settings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def text(self, *names: str) -> str | None:
        """Return the last value of the first of ``names`` that is set and known."""
        for name in names:
            values = self.settings.get(name)
            if values and not _OPEN.search(values[-1]):
                return values[-1]
        return None

    def number(self, *names: str) -> int | None:
        """Return a whole number, None when it is not set or not known."""
        text = self.text(*names)
        return None if text is None else whole(text)

    def hidden(self, *names: str) -> list[str]:
        """Return those of ``names`` that are given a value which is not known here."""
        return [n for n in names if any(_OPEN.search(v) for v in self.settings.get(n, ()))]

    def has(self, *names: str) -> bool:
        """Whether one of ``names`` is given."""
        return any(name in self.settings for name in names)


def read(words: Sequence[str], lists: Sequence[FlagList]) -> CommandLine:
    """Read ``words`` with the parsers ``lists``, the first that knows a flag."""
    line = CommandLine()
    if any(one.is_flexible for one in lists):
        words = _translated(words)
    place = 0
    while place < len(words) and len(line.faults) < MOST:
        word = words[place]
        place += 1
        if not _is_flag(word):
            if _OPEN.search(word):
                line.open.append(word)
            else:
                line.faults.append(_stray(word))
            continue
        name, sign, value = word.partition("=")
        taken = _until_flag(words[place:])
        flag, spelled = _find(name, lists)
        if flag is None:
            if _OPEN.search(name):
                line.open.append(word)
            else:
                line.faults.append(_unknown(name, lists))
            line.settings[name.replace("_", "-")] = (value,) if sign else tuple(taken)
            place += len(taken)
            continue
        given = [value] if sign else taken[: _most(flag)]
        place += 0 if sign else len(given)
        line.faults += _refused(flag, spelled, given, bool(sign))
        for key in _keys(flag, spelled):
            line.settings[key] = tuple(given)
    glued = [fault for fault in line.faults if fault.what.startswith("' ")]
    line.faults = glued[:1] or line.faults  # what follows is only its consequence
    return line


def _translated(words: Sequence[str]) -> list[str]:
    """Write ``-O3``, ``-O=3`` and ``-O 3`` out, as vLLM's FlexibleArgumentParser does.

    ``-O.mode`` has been no key of JSON since vLLM 0.13 (pull request 29991 of vllm-project/vllm).
    """
    found: list[str] = []
    for word, following in zip(words, (*words[1:], ""), strict=False):
        if re.match(r"-O[^.]", word):
            found += ["--optimization-level", word[2:].removeprefix("=")]
        else:
            is_level = word == "-O" and following in ("0", "1", "2", "3")
            found.append("--optimization-level" if is_level else word)
    return found


def _is_flag(word: str) -> bool:
    return bool(_FLAG.match(word)) and not _NUMBER.match(word)


def _until_flag(words: Sequence[str]) -> list[str]:
    end = next((i for i, word in enumerate(words) if _is_flag(word)), len(words))
    return list(words[:end])


def _most(flag: Flag) -> int | None:
    if flag.takes == "switch":
        return 0
    return None if flag.many in ("*", "+") else 1


def _keys(flag: Flag, spelled: str) -> list[str]:
    """A setting has all names of its flag; what switches off keeps its own, as keys of JSON do."""
    off = flag.takes == "switch" and spelled.startswith("--no-") and spelled != flag.name
    if off or "." in spelled:
        return [spelled]
    return [one for one in flag.spellings if not one.startswith("--no-") or one == flag.name]


def _find(name: str, lists: Sequence[FlagList]) -> tuple[Flag | None, str]:
    """Return the flag that is meant, and its spelling; a whole name wins over the start of one."""
    if name == "--config" and any(one.is_flexible for one in lists):
        return Flag(name, "text", spellings=(name,)), name  # the parser reads the file itself
    for one in lists:
        spelled = name.replace("_", "-") if one.is_flexible else name
        if spelled in one.flags:
            return one.flags[spelled], spelled
    for one in lists:
        spelled = name.replace("_", "-") if one.is_flexible else name
        if flag := one.get(spelled):
            return flag, spelled
        base, dot, _ = spelled.partition(".")
        parent = one.get(base.rstrip("+")) if dot else None
        if parent and one.is_flexible:
            return Flag(parent.name, "text"), spelled
        if name.startswith("--trtllm."):
            return Flag(name, "text"), name
    return None, name


def _stray(word: str) -> Fault:
    if word.startswith(" -"):
        fix = "a backslash before a space keeps the space: end lines with it, or leave it out"
        return Fault("", f"'{word}' begins with a space, so that no parser sees a flag", fix)
    return Fault("", f"'{word[:60]}' belongs to no flag", "remove it, or name its flag")


def _unknown(name: str, lists: Sequence[FlagList]) -> Fault:
    told = " and ".join(one.of for one in reversed(lists))
    if name.startswith("-O.") and any(one.is_flexible for one in lists):
        return Fault(name, f"no flag of {told}", f"did you mean -cc{name[2:]}?", True)
    ambiguous = [s for one in lists for s in one.ambiguous(name) if not one.is_flexible]
    if ambiguous:
        return Fault(name, f"could be {' or '.join(ambiguous[:4])} in {told}", "write it out", True)
    near = nearest(name, [s for one in lists for s in one.flags if s.startswith("--")], limit=1)
    fix = f"did you mean {near[0]}?" if near else "remove it"
    return Fault(name, f"no flag of {told}", fix, True)


def _refused(flag: Flag, spelled: str, given: Sequence[str], is_joined: bool) -> Iterable[Fault]:
    if flag.takes == "switch":
        if is_joined:
            yield Fault(spelled, f"takes no value, '{given[0]}' is given", f"write {spelled}")
        return
    if not given and flag.many not in ("?", "*"):
        yield Fault(spelled, "needs a value")
    for value in given:
        if _OPEN.search(value):
            continue
        if flag.choices and value not in flag.choices:
            near = nearest(value, flag.choices, limit=1)
            told = ", ".join(flag.choices)
            yield Fault(spelled, f"'{value}' is none of {told}", near[0] if near else "")
        wanted = "json" if flag.name in _JSON else flag.takes
        if not flag.choices and wanted in _READ and not _READ[wanted](value):
            yield Fault(spelled, f"'{value[:60]}' is not {_CALLED[wanted]}")


def _reads(convert: Callable[[str], object]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            convert(text)
        except (ValueError, RecursionError):
            return False
        return True

    return fits


_READ: dict[str, Callable[[str], bool]] = {
    "int": _reads(int),
    "float": _reads(float),
    "size": lambda text: bool(_SIZE.fullmatch(text)),
    "json": lambda text: text[:1] not in "[{" or _reads(json.loads)(text),
}
_CALLED = {
    "int": "a whole number",
    "float": "a number",
    "size": "a number such as 8192 or 8K",
    "json": "valid JSON",
}
