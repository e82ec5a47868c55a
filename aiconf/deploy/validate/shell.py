"""What a container runs, read from its command and arguments without running anything.

Pods start Dynamo as ``python3 -m dynamo.vllm ...``, directly or inside a string for ``sh -c``.
"""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_SHELLS = ("sh", "bash", "dash", "zsh")
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_START = re.compile(r"python[\d.]*\s+(?:-[uOB]\s+)*-m\s+(?=[A-Za-z_])")
_PLAIN = re.compile(r"[\w./:=,$-]+")  # one word as it stands
_SEPARATOR = re.compile(r"[\n;&|(]")
# A comment begins a word; what is quoted has none.
_COMMENT = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|((?<![^\s;&|()])#[^\n]*)", re.S)
_OPERATORS = set(";&|<>()\n")
_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=(?!\()([^\n;]*)$", re.M)
_ARRAY = re.compile(r"^[ \t]*([A-Za-z_]\w*)(\+?)=\(", re.M)
_EXPANDED = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
_KUBERNETES = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")
MOST = 128 * 2**10  # bytes of one argument, beyond which Linux starts nothing
# What may stand before the interpreter without changing what it is given.
_PREFIX = re.compile(
    r"\s*(?:(?:exec|nohup|time|env|trtllm-llmapi-launch|then|do|else|numactl(?:\s+-\S+)*)\s+"
    r"|[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s'\"]*)\s+)*"
)


@dataclass(frozen=True)
class Process:
    """A Python module and its words.

    A word that holds what only the shell or the cluster knows (a substitution) still has its
    ``$``. certain: these are the words. It is False where another command may run instead (a
    condition), or an array is not known.
    """

    module: str
    words: tuple[str, ...]
    certain: bool = True


def process(
    command: Sequence[str], args: Sequence[str], env: Mapping[str, str] | None = None
) -> Process | None:
    """Return the Python module that a container starts; None when there is none to be seen.

    Parameters
    ----------
    env
        Values of environment variables that the manifest states.
    """
    env = env or {}
    if any(len(word) >= MOST for word in (*command, *args)):
        return None
    words = [_kubernetes(word, env) for word in (*command, *args)]
    if not words:
        return None
    program = words[0].rpartition("/")[2]
    if program in _SHELLS:
        script = _script(words[1:])
        return None if script is None else _of_script(script, env)
    place = next((i for i, w in enumerate(words) if _PYTHON.fullmatch(w.rpartition("/")[2])), None)
    return None if place is None else _of_words(words[place + 1 :])


def _kubernetes(word: str, env: Mapping[str, str]) -> str:
    """Expand ``$(NAME)`` as the kubelet does: unknown names stay, ``$$`` is a dollar sign."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else env.get(name, match.group())

    return _substituted(_KUBERNETES, value, word)


def _substituted(
    pattern: re.Pattern[str], value: Callable[[re.Match[str]], str], word: str
) -> str:
    """Substitute while the result could still be an argument; the rest stays as it is."""
    room = MOST - len(word)

    def bounded(match: re.Match[str]) -> str:
        nonlocal room
        text = value(match) if room > 0 else match.group()
        room -= len(text)
        return text if room > 0 else match.group()

    return pattern.sub(bounded, word)


def _of_words(words: Sequence[str]) -> Process | None:
    if "-m" not in words[:-1]:
        return None
    place = words.index("-m")
    rest = tuple(words[place + 2 :])
    return Process(words[place + 1], rest)


def _script(words: Sequence[str]) -> str | None:
    """Return the text that ``-c`` (also ``-lc``, ``-ec``) is given."""
    for place, word in enumerate(words[:-1]):
        if word.startswith("-") and not word.startswith("--") and "c" in word:
            return words[place + 1]
    return None


def _of_script(script: str, env: Mapping[str, str]) -> Process | None:
    script = _COMMENT.sub(lambda match: "" if match.group(1) else match.group(), script)
    script = re.sub(r"\\\r?\n", " ", script)
    starts = _starts(script)
    if not starts:
        return None
    words, _ = _until_operator(script[starts[-1] :])
    if not words:
        return None
    known = {**env, **_assigned(script, env)}
    arrays = _arrays(script)
    expanded, certain = [], len(starts) == 1
    for word in words[1:]:
        array = re.fullmatch(r"\$\{(\w+)\[@\]\}", word)
        items = arrays.get(array.group(1)) if array else (word,)
        if items is None:
            certain = False
            continue
        for item in items:
            expanded.append(_expand(item, known))
    return Process(words[0], tuple(expanded), certain)


def _starts(script: str) -> list[int]:
    """Return the ends of ``python -m`` where it is run, and no word of another command."""
    commands = [0, *(match.end() for match in _SEPARATOR.finditer(script))]
    found = []
    for match in _START.finditer(script):
        start = match.start()
        if script[start - 1 : start] == "/":  # the interpreter's folder
            while start and (script[start - 1].isalnum() or script[start - 1] in "_./-"):
                start -= 1
        if _PREFIX.fullmatch(script, commands[bisect_right(commands, start) - 1], start):
            found.append(match.end())
    return found


def _until_operator(text: str) -> tuple[list[str], str]:
    """Split ``text`` into words up to the first operator of the shell, which comes second."""
    if _PLAIN.fullmatch(text):
        return [text], ""
    words: list[str] = []
    for word, is_operator in _tokens(text):
        if is_operator:
            if word[0] in "<>" and words and words[-1] in ("1", "2"):
                words.pop()  # the descriptor of 2>&1
            return words, word
        words.append(word)
    return words, ""


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(sorted(_OPERATORS)))
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        for token in lexer:
            yield token, bool(token) and set(token) <= _OPERATORS
    except ValueError:  # a quote that never ends
        return


def _assigned(script: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the script sets to plain values."""
    found: dict[str, str] = {}
    known = dict(env)
    for name, text in _ASSIGNED.findall(script):
        words, operator = _until_operator(text)
        value = " ".join(words)
        if not operator and "`" not in value and "$(" not in value:
            found[name] = known[name] = _expand(value, known)
    return found


def _arrays(script: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    begun = list(_ARRAY.finditer(script))
    ends = [*(match.start() for match in begun[1:]), len(script)]
    for match, end in zip(begun, ends, strict=False):
        words: list[str] = []
        for word, is_operator in _tokens(script[match.end() : end]):
            if is_operator and ")" in word:
                break
            words += [] if is_operator else [word]
        name, more = match.groups()
        found[name] = (*found.get(name, ()), *words) if more else tuple(words)
    return found


def _expand(word: str, env: Mapping[str, str]) -> str:
    """Put known values in for ``$NAME``, ``${NAME}`` and ``${NAME:-default}``."""

    def value(match: re.Match[str]) -> str:
        braced, default, bare = match.groups()
        fallback = match.group() if default is None else default
        return env.get(braced or bare, fallback)

    return _substituted(_EXPANDED, value, word)
