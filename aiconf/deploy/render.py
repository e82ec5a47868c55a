"""Plain data -> YAML text with comments: block style, two spaces, the same bytes every time."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

Path = tuple[str | int, ...]
Comments = Mapping[Path, str]

# Words that YAML 1.1 or 1.2 could read as anything but this text are quoted; so is all the rest.
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+-]*(:[A-Za-z0-9_./+-]+)*|--?[A-Za-z][A-Za-z0-9-]*")
_RESERVED = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|\.inf|\.nan|[.]?|[.][0-9_].*")


def render(document: object, comments: Comments | None = None) -> str:
    """Return ``document`` (dicts, lists, scalars) as YAML text that ends in a newline.

    Parameters
    ----------
    comments
        Text by path of keys and list indices; written on its own line above the entry.
    """
    if isinstance(document, (Mapping, list, tuple)) and document:
        return "\n".join(_block(document, (), 0, comments or {})) + "\n"
    return _scalar(document) + "\n"


def render_all(documents: Sequence[str], header: Sequence[str] = ()) -> str:
    """Join rendered documents into one file, each with its start marker."""
    wrapped = [piece for line in header for piece in textwrap.wrap(_one_line(line), 96)]
    return "".join(f"# {line}\n" for line in wrapped) + "".join(
        f"---\n{document}" for document in documents
    )


def _block(value: object, path: Path, indent: int, comments: Comments) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _comment(comments.get((*path, key)), pad)
            yield from _entry(f"{pad}{_scalar(key)}:", item, (*path, key), indent + 2, comments)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            here = (*path, index)
            yield from _comment(comments.get(here), pad)
            if isinstance(item, (Mapping, list, tuple)) and item:
                lines = list(_block(item, here, indent + 2, comments))
                first = next(n for n, line in enumerate(lines) if not line.lstrip().startswith("#"))
                yield from (line[2:] for line in lines[:first])  # above the dash, so level with it
                yield f"{pad}- {lines[first][indent + 2 :]}"
                yield from lines[first + 1 :]
            else:
                yield from _entry(f"{pad}-", item, here, indent + 2, comments)


def _entry(head: str, item: object, path: Path, indent: int, comments: Comments) -> Iterator[str]:
    if isinstance(item, (Mapping, list, tuple)) and item:
        if _flows(item):
            yield f"{head} [{', '.join(map(str, item))}]"
        else:
            yield head
            yield from _block(item, path, indent, comments)
    elif isinstance(item, str) and _is_text(item):
        yield f"{head} |"
        yield from ((" " * indent + line).rstrip() for line in item[:-1].split("\n"))
    else:
        yield f"{head} {_scalar(item)}"


def _flows(item: object) -> bool:
    """Short lists of numbers stay on one line."""
    if not isinstance(item, (list, tuple)) or any(type(one) is not int for one in item):
        return False
    return sum(len(str(one)) + 2 for one in item) <= 120


def _is_text(value: str) -> bool:
    """Whether a literal block keeps ``value`` exactly."""
    lines = value[:-1].split("\n")
    return (
        "\n" in value[:-1]
        and value.endswith("\n")
        and not lines[0].startswith((" ", "\t"))
        and lines[0] != ""
        and lines[-1] != ""
        and all(line.isprintable() and line == line.rstrip() for line in lines)
    )


def _comment(text: str | None, pad: str) -> Iterator[str]:
    if text:
        yield f"{pad}# {_one_line(text)}"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    if isinstance(value, float):
        text = repr(value)
        # YAML 1.1 wants a dot in the mantissa and a signed exponent.
        mantissa, _, exponent = text.partition("e")
        if not exponent:
            return text
        dotted = mantissa if "." in mantissa else f"{mantissa}.0"
        return f"{dotted}e{exponent if exponent[0] == '-' else '+' + exponent.lstrip('+')}"
    return json.dumps(value)


def _string(value: str) -> str:
    if _PLAIN.fullmatch(value) and not _RESERVED.fullmatch(value):
        return value
    if value.isprintable() and '"' in value:
        return "'" + value.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(char: str) -> str:
    """Return ``char`` for a double-quoted scalar; YAML pairs no surrogates as JSON does."""
    if char in '"\\':
        return f"\\{char}"
    if char == "\n":
        return "\\n"
    return char if char.isprintable() else f"\\U{ord(char):08x}"
