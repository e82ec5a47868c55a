"""YAML files from anybody, read as plain data: no tags, no time stamps, no bombs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aiconf.errors import UserError

MOST_BYTES = 8 * 2**20  # of one file; Kubernetes refuses objects over 1.5 MiB
MOST_NODES = 200_000  # of one file once its aliases are expanded
MOST_DEPTH = 100
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Document:
    """One document of a file. ``index`` counts the documents of the file from 0."""

    source: str
    index: int
    body: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Return the kind of object, empty when it has none."""
        kind = self.body.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def api(self) -> str:
        """Return the version of the API without its group, such as ``v1beta1``."""
        api = self.body.get("apiVersion")
        return api.rpartition("/")[2] if isinstance(api, str) else ""

    @property
    def group(self) -> str:
        """Return the API group, such as ``nvidia.com``; empty for core objects."""
        api = self.body.get("apiVersion")
        return api.rpartition("/")[0] if isinstance(api, str) else ""

    @property
    def name(self) -> str:
        """Return the object's name, empty when it has none."""
        metadata = self.body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return name if isinstance(name, str) else ""


@cache
def _loader() -> Any:
    """A safe loader that keeps time stamps as text, as Kubernetes does, and refuses repeated keys.

    Kubernetes' strict decoding refuses a repeated key; plain YAML would keep the last silently.
    """
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def refused(what: str, node: Any) -> Exception:
        return yaml.constructor.ConstructorError(None, None, what, node.start_mark)

    class Loader(base):  # type: ignore[misc]
        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self.flat: dict[int, Any] = {}  # the nodes themselves too, so that no id comes again
            self.merged = 0

        def flatten_mapping(self, node: Any) -> None:
            """Put in what ``<<`` merges, once per mapping, and what it says itself after that."""
            if id(node) in self.flat:
                return
            own: list[Any] = []
            merged: list[Any] = []
            seen: set[str] = set()
            for key, value in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    is_list = isinstance(value, yaml.SequenceNode)
                    merged += value.value[::-1] if is_list else [value]
                    continue
                if isinstance(key.value, str):
                    if key.value in seen:
                        raise refused(f"key '{key.value}' twice in one mapping", key)
                    seen.add(key.value)
                own.append((key, value))
            pairs = []
            for mapping in merged:
                if not isinstance(mapping, yaml.MappingNode):
                    raise refused("'<<' merges what is no mapping", mapping)
                self.flatten_mapping(mapping)
                self.merged += len(mapping.value)
                if self.merged > MOST_NODES:
                    raise refused(f"'<<' merges more than {MOST_NODES} values", node)
                pairs += mapping.value
            node.value = pairs + own
            self.flat[id(node)] = node

        def construct_yaml_int(self, node: Any) -> int | float:
            """Kubernetes reads a whole number beyond 64 bits as a float."""
            number: int = super().construct_yaml_int(node)
            try:
                return number if -(1 << 63) <= number < 1 << 64 else float(number)
            except OverflowError:
                return math.inf

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in base.yaml_implicit_resolvers.items()
    }
    return Loader


def parse(text: str, source: str) -> list[Any]:
    """Return the documents of YAML ``text`` as plain data, empty ones left out.

    Raises
    ------
    UserError
        It is not YAML, or larger or deeper than any manifest.
    """
    import yaml

    if len(text) > MOST_BYTES:
        raise UserError(f"{source}: larger than {MOST_BYTES >> 20} MiB: not a manifest")
    try:
        _check_depth(text, source)
        documents = [one for one in yaml.load_all(text, Loader=_loader()) if one is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        what = getattr(error, "problem", None) or "not text"
        raise UserError(f"{source}: not YAML: {what}{where}") from error
    except UserError:
        raise
    # Such as an impossible number; PyYAML lets these through for tags that do not fit their text.
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: not YAML: {error}") from error
    _check_size(documents, source)
    return documents


def _check_depth(text: str, source: str) -> None:
    """Refuse deep nesting before anything recurses over it."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_DEPTH:
                raise UserError(f"{source}: nested deeper than {MOST_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_size(documents: list[Any], source: str) -> None:
    """Refuse data that aliases blow up: count nodes as often as they are reached."""
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, (dict, list)):
            return 1
        known = sizes.get(id(value))
        if known is None:
            sizes[id(value)] = MOST_NODES + 1  # what contains itself has no end
            items = value.values() if isinstance(value, dict) else value
            known = sizes[id(value)] = 1 + sum(size(item) for item in items)
        return known

    if sum(size(document) for document in documents) > MOST_NODES:
        raise UserError(f"{source}: more than {MOST_NODES:,} values once aliases are expanded")


def read(path: Path) -> list[Document]:
    """Return the documents of a file that are mappings, with lists of objects flattened.

    Raises
    ------
    UserError
        It cannot be read, or is not YAML.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: larger than {MOST_BYTES >> 20} MiB: not a manifest")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    found = []
    for index, body in enumerate(parse(text, str(path))):
        if isinstance(body, dict):
            items = body.get("items") if body.get("kind") == "List" else None
            bodies = items if isinstance(items, list) else [body]
            found += [Document(str(path), index, one) for one in bodies if isinstance(one, dict)]
    return found


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the YAML files among ``paths``; folders are searched.

    Left out are hidden files, and patches of Kustomize, which are parts of documents.

    Raises
    ------
    UserError
        A path does not exist, or a folder holds no YAML.
    """
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise UserError(f"there is no {path}")
            yield path
            continue
        inside = [
            one
            for one in sorted(path.rglob("*"))
            if one.suffix in SUFFIXES
            and one.is_file()
            and not any(part.startswith(".") for part in one.relative_to(path).parts)
        ]
        patches = {
            patch for one in inside if one.stem == "kustomization" for patch in _patches(one)
        }
        inside = [one for one in inside if one.resolve() not in patches]
        if not inside:
            raise UserError(f"no YAML file in {path}")
        yield from inside


def _patches(path: Path) -> Iterator[Path]:
    """Yield the files that a kustomization names as patches."""
    try:
        bodies = [one.body for one in read(path)]
    except UserError:
        return
    for body in bodies:
        for key in ("patches", "patchesStrategicMerge", "patchesJson6902"):
            listed = body.get(key)
            for patch in listed if isinstance(listed, list) else ():
                name = patch.get("path") if isinstance(patch, dict) else patch
                try:
                    if isinstance(name, str) and "\n" not in name:
                        yield (path.parent / name).resolve()
                except (OSError, ValueError, RuntimeError):
                    continue  # no path: a null byte, a link to itself
