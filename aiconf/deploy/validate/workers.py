"""Each component of a graph with what its image and its words mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiconf.deploy.validate.command_line import CommandLine, read
from aiconf.deploy.validate.documents import parse
from aiconf.deploy.validate.flag_lists import FlagList, lists
from aiconf.deploy.validate.graph import Component, Graph, framework_of
from aiconf.deploy.validate.images import Image, image, nearest_release
from aiconf.errors import UserError


@dataclass(frozen=True)
class Launched:
    """A component that starts a module of Dynamo.

    release: of Dynamo, the nearest one known; exact: its flags are surely those of the image.
    """

    graph: Graph
    component: Component
    image: Image | None
    release: str
    exact: bool
    engine: str | None

    @property
    def module(self) -> str:
        """Return the Python module, such as ``dynamo.vllm``."""
        return self.component.process.module if self.component.process else ""

    @cached_property
    def line(self) -> CommandLine:
        """Return the command line as the parsers of the release read it."""
        return read(self.component.words, self.parsers)

    @cached_property
    def parsers(self) -> list[FlagList]:
        """Return the parsers that read its words.

        A frontend that leaves chat to an engine's code takes that engine's flags too.
        """
        found = lists(self.module, self.release)
        words = " ".join(self.component.words).replace("=", " ")
        chat = re.search(r"--dyn-chat-processor (vllm|sglang)\b", words)
        if self.module == "dynamo.frontend" and chat:
            found += lists(f"dynamo.{chat.group(1)}", self.release)[1:]
        return found

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Return the engine's own file (--config, TensorRT-LLM's), empty if not known.

        Raises
        ------
        UserError
            It is not YAML.
        """
        flags = {"trtllm": ("--extra-engine-args",), "sglang": ("--config",), "vllm": ("--config",)}
        path = self.line.text(*flags.get(self.engine or "", ()))
        text = self.component.files.get(path) if path else None
        if text is None:
            return {}
        found = parse(text, f"{self.graph.source} ({path})")
        return found[0] if found and isinstance(found[0], dict) else {}

    @property
    def hides_config(self) -> bool:
        """Whether it reads a file that is not among the documents."""
        named = self.line.has("--extra-engine-args", "--config")
        try:
            return named and not self.config
        except UserError:
            return True

    @property
    def is_plain_engine(self) -> bool:
        """Whether it is an engine that generates text, and all its flags are known.

        Their values may be unknown: see ``line.hidden``.
        """
        return self.is_engine and self.is_complete

    @property
    def is_engine(self) -> bool:
        """Whether it is an engine that generates text."""
        return self.engine is not None and self.module == f"dynamo.{self.engine}"

    @property
    def is_complete(self) -> bool:
        """Whether no part of its command can be further flags, or another command."""
        process = self.component.process
        return process is not None and process.certain and not self.line.open

    def written(self, flag: str, path: str = "") -> Any:
        """Return what the engine's file says: under ``path`` (dots go down), or for ``flag``.

        SGLang's and vLLM's files have flags without their dashes, in any of their spellings.
        """
        try:
            config = self.config
        except UserError:
            return None
        value: Any = config
        if path:
            for step in path.split("."):
                value = value.get(step) if isinstance(value, dict) else None
            return value
        found = next((f for one in self.parsers if (f := one.get(flag))), None)
        names = [one.removeprefix("--") for one in (found.spellings if found else (flag,))]
        keys = [*names, *(name.replace("-", "_") for name in names)]
        return next((config[key] for key in keys if key in config), None)

    def number(self, flag: str, path: str = "") -> int | None:
        """Return a whole number from the command line or the engine's file.

        TensorRT-LLM's file wins over its command line, in the other engines the line wins.
        """
        stated = self.line.number(flag)
        written = self.written(flag, path)
        found = written if type(written) is int else None
        order = (found, stated) if self.engine == "trtllm" else (stated, found)
        return next((one for one in order if one is not None), None)


def launched(graph: Graph) -> list[Launched]:
    """Return the components of ``graph`` that start a module of Dynamo."""
    return [_launched(graph, one) for one in graph.components if one.process is not None]


def _launched(graph: Graph, component: Component) -> Launched:
    override = component.body.get("runtimeVersionOverride")
    stated = (
        image(component.image, override if isinstance(override, str) else None)
        if (component.image)
        else None
    )
    release, same = nearest_release(stated.release if stated else None)
    module = component.process.module if component.process else ""
    exact = bool(stated and stated.exact and same)
    return Launched(graph, component, stated, release, exact, framework_of(module))
