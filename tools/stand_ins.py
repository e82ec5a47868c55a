"""Stand-ins for packages that an engine imports but its command-line parser does not need.

Engines import torch, kernels and drivers on their way to the parser. Here whatever is not
installed is replaced by an object that accepts everything, so that the parser itself runs for
real on a machine without a GPU.
"""

from __future__ import annotations

import abc
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import core_schema

# Engines ask for these to find out where they run; to be absent is the answer.
_ABSENT_SUFFIXES = ("_npu", "_xla", "_musa", "_hpu", "_mlu")
_ABSENT = ("msvcrt", "winreg")


class _Anything(abc.ABCMeta):
    """A class that is also a value, a call, a decorator, a container and a base class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return anything(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        is_decorated = len(args) == 1 and not kwargs
        if is_decorated and isinstance(args[0], (type, types.FunctionType)):
            return args[0]
        return cls

    def __getitem__(cls, _: object) -> Any:
        return cls

    def __or__(cls, _: object) -> Any:
        return cls

    __ror__ = __add__ = __radd__ = __or__

    def __iter__(cls) -> Iterator[Any]:
        return iter((cls,))  # so that a list of choices made of it shows that it is not whole

    def __len__(cls) -> int:
        return 0

    def __lt__(cls, _: object) -> bool:
        return False

    def __ge__(cls, _: object) -> bool:
        return True

    __le__, __gt__ = __lt__, __ge__

    def __enter__(cls) -> Any:
        return cls

    def __exit__(cls, *_: object) -> bool:
        return False

    def __instancecheck__(cls, _: object) -> bool:
        return False

    def __subclasscheck__(cls, _: object) -> bool:
        return False


class _Base:
    def __init_subclass__(cls, **_: Any) -> None:
        pass

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> Any:
        return core_schema.any_schema()


def anything(name: str) -> Any:
    """Return a stand-in for a class, function or value."""
    return _Anything(name, (_Base,), {})


def is_stand_in(value: object) -> bool:
    """Whether ``value`` is one of ours."""
    return type(value) is _Anything


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return "99.0"
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        value = anything(name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []

    def _spec(self, name: str) -> importlib.machinery.ModuleSpec:
        return importlib.machinery.ModuleSpec(name, self, is_package=True)


class Inside(_Finder):
    """Stands in for all of ``package`` but the modules ``real``."""

    def __init__(self, package: str, real: Sequence[str]) -> None:
        self.package = package
        self.real = [f"{package}.{name}" for name in real]

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """Return a stand-in's specification, or None to let the real module be found."""
        if not name.startswith(f"{self.package}."):
            return None
        kept = any(f"{name}.".startswith(f"{r}.") or r.startswith(f"{name}.") for r in self.real)
        return None if kept else self._spec(name)


class Missing(_Finder):
    """Stands in for what is not installed, and for missing parts of ``packages``."""

    def __init__(self, packages: Sequence[str] = ()) -> None:
        self.packages = packages

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """Return a stand-in's specification; asked only after all real finders."""
        top = name.partition(".")[0]
        inside = "." in name and not isinstance(sys.modules.get(top), _Module)
        if inside and top not in self.packages:
            return None
        is_own = top in sys.stdlib_module_names or top.startswith("_") or top in _ABSENT
        return None if is_own or top.endswith(_ABSENT_SUFFIXES) else self._spec(name)
