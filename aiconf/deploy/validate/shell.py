"""What a container runs, read from its command and arguments without running anything.

Pods start Dynamo as ``python3 -m dynamo.vllm ...``, directly or inside a string for ``sh -c``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_SHELLS = ("sh", "bash", "dash", "zsh")
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_START = re.compile(r"(?:[\w./-]*/)?python[\d.]*\s+(?:-[uOB]\s+)*-m\s+(?=[A-Za-z_])")
_OPERATORS = set(";&|<>()\n")
_ASSIGNED = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=(?!\()([^\n;]*)$", re.M)
_ARRAY = re.compile(r"^[ \t]*([A-Za-z_]\w*)(\+?)=\(", re.M)
_EXPANDED = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
_KUBERNETES = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")
# What may stand before the interpreter without changing what it is given.
_PREFIX = re.compile(
    r"\s*(?:(?:exec|nohup|time|env|trtllm-llmapi-launch|then|do|else|numactl(?:\s+-\S+)*)\s+"
    r"|[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s'\"]*)\s+)*"
)


@dataclass(frozen=True)
class Process:
    """A Python module and its words.

    certain: all words are known. It is False where the shell would put in what only it knows
    (a substitution, a condition); a word that holds such a part still has its ``$``.
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

    return _KUBERNETES.sub(value, word)


def _of_words(words: Sequence[str]) -> Process | None:
    if "-m" not in words[:-1]:
        return None
    place = words.index("-m")
    rest = tuple(words[place + 2 :])
    return Process(words[place + 1], rest, not any("$(" in word for word in rest))


def _script(words: Sequence[str]) -> str | None:
    """Return the text that ``-c`` (also ``-lc``, ``-ec``) is given."""
    for place, word in enumerate(words[:-1]):
        if word.startswith("-") and not word.startswith("--") and "c" in word:
            return words[place + 1]
    return None


def _of_script(script: str, env: Mapping[str, str]) -> Process | None:
    script = re.sub(r"\\\r?\n", " ", script)
    script = re.sub(r"^[ \t]*#.*$", "", script, flags=re.M)
    starts = [match for match in _START.finditer(script) if _is_command(script, match.start())]
    if not starts:
        return None
    words, _ = _until_operator(script[starts[-1].end() :])
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
            value = _expand(item, known)
            certain &= "$" not in value and "`" not in value
            expanded.append(value)
    return Process(words[0], tuple(expanded), certain)


def _is_command(script: str, place: int) -> bool:
    """Whether what starts at ``place`` is run, and not a word of another command."""
    before = re.split(r"[\n;&|(]", script[:place])[-1]
    return bool(_PREFIX.fullmatch(before))


def _until_operator(text: str) -> tuple[list[str], str]:
    """Split ``text`` into words up to the first operator of the shell, which comes second."""
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
    for name, text in _ASSIGNED.findall(script):
        words, operator = _until_operator(text)
        value = " ".join(words)
        if not operator and "`" not in value and "$(" not in value:
            found[name] = _expand(value, {**env, **found})
    return found


def _arrays(script: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for match in _ARRAY.finditer(script):
        words: list[str] = []
        for word, is_operator in _tokens(script[match.end() :]):
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

    return _EXPANDED.sub(value, word)
