"""The command-line parsers of engines and Dynamo's wrappers, run for real from unpacked wheels.

Run as a process of its own: ``python parsers.py ENGINE FOLDER`` prints flags as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from stand_ins import Inside, Missing, is_stand_in

_VLLM = (
    "engine.arg_utils", "config", "envs", "usage", "utils.argparse_utils",
    "utils.collection_utils", "utils.hashing", "v1.attention.backends.registry",
    "model_executor.layers.quantization.utils.quant_utils",
)  # fmt: skip
_SGLANG = tuple(
    f"srt.{name}"
    for name in (
        "server_args", "arg_groups", "environ", "parser.reasoning_parser_names",
        "function_call.parser_names", "utils.network", "speculative.decoupled_spec_io",
    )
)  # fmt: skip
# Where each module of Dynamo that a manifest starts makes its parser.
_DYNAMO = {
    "dynamo.vllm": ("dynamo.vllm.args", "parse_args"),
    "dynamo.sglang": ("dynamo.sglang.args", "parse_args"),
    "dynamo.trtllm": ("dynamo.trtllm.args", "parse_args"),
    "dynamo.frontend": ("dynamo.frontend.main", "parse_args"),
    "dynamo.mocker": ("dynamo.mocker.args", "parse_args"),
    "dynamo.router": ("dynamo.router.args", "parse_args"),
}


class _Made(BaseException):
    """Carries the parser out of the function that made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def vllm() -> dict[str, str]:
    """Return the flags of ``AsyncEngineArgs``."""
    sys.meta_path.insert(0, Inside("vllm", _VLLM))
    platforms = importlib.import_module("vllm.platforms")
    platforms.current_platform.device_type = "cuda"
    arguments = importlib.import_module("vllm.engine.arg_utils")
    parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    return flags(arguments.AsyncEngineArgs.add_cli_args(parser)._actions)


def sglang() -> dict[str, str]:
    """Return the flags of ``ServerArgs``."""
    sys.meta_path.insert(0, Inside("sglang", _SGLANG))
    parser = argparse.ArgumentParser()
    importlib.import_module("sglang.srt.server_args").ServerArgs.add_cli_args(parser)
    return flags(parser._actions)


def dynamo() -> dict[str, dict[str, str]]:
    """Return the flags of each wrapper's own parser, before the engine sees the rest."""

    def caught(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise _Made(parser)

    argparse.ArgumentParser.parse_args = caught  # type: ignore[method-assign]
    argparse.ArgumentParser.parse_known_args = caught  # type: ignore[method-assign]
    found = {}
    for module, (place, name) in _DYNAMO.items():
        wrapper = importlib.import_module(place)
        make = getattr(wrapper, name)
        found[module] = _made(lambda make=make, m=module: make([]) if "sglang" in m else make())
        # Since 1.6 workers take the router's flags too, with a parser of its own.
        if hasattr(wrapper, "parse_worker_router_config"):
            found[module] |= _made(lambda w=wrapper: w.parse_worker_router_config([]))
    return found


def _made(run: Callable[[], Any]) -> dict[str, str]:
    """Return the flags of the first parser that ``run`` makes."""
    try:
        made = run()
        made.send(None)  # some are coroutines
    except _Made as one:
        return flags(one.parser._actions)
    raise SystemExit("no parser was made")


def flags(actions: Iterable[argparse.Action]) -> dict[str, str]:
    """Return what each flag takes, by its spellings with the first long one in front."""
    found = {}
    for action in actions:
        spellings = [one for one in action.option_strings if one not in ("-h", "--help")]
        if spellings:
            spellings.sort(key=lambda one: not one.startswith("--"))
            found[" ".join(spellings)] = _takes(action)
    return dict(sorted(found.items()))


def _takes(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "switch"
    many = action.nargs if action.nargs in ("?", "*", "+") else ""
    choices = [_choice(one) for one in action.choices or ()]
    if choices and not any(is_stand_in(one) for one in action.choices or ()):
        return "|".join(sorted(choices)) + (f" {many}" if many else "")
    return _type(action.type) + many


def _choice(value: object) -> str:
    return str(getattr(value, "value", value))


def _type(read: Any) -> str:
    if read in (int, float):
        return read.__name__
    inside = [cell.cell_contents for cell in getattr(read, "__closure__", None) or ()]
    kinds = {_type(one) for one in inside if callable(one)} - {"text"}
    if kinds:
        return sorted(kinds)[0]
    name = getattr(read, "__name__", "")
    if name.startswith("human_readable_int"):
        return "size"
    return "json" if name in ("parse_dataclass", "loads") else "text"


if __name__ == "__main__":
    engine, folder = sys.argv[1:]
    sys.argv = [engine]
    sys.path.insert(0, folder)
    sys.meta_path.append(Missing(("dynamo",)))
    print(json.dumps({"vllm": vllm, "sglang": sglang, "dynamo": dynamo}[engine]()))
