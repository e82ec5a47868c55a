"""aiconf: find, predict and deploy the best way to serve a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiconf.api import estimate, search
    from aiconf.errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "estimate", "search"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command line starts faster than the whole package."""
    if name in ("search", "estimate"):
        from aiconf import api

        return getattr(api, name)
    if name == "UserError":
        from aiconf.errors import UserError

        return UserError
    raise AttributeError(f"module 'aiconf' has no attribute '{name}'")
