"""aiconf: find, predict and deploy the best way to serve a model."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiconf.api import estimate, replay, search
    from aiconf.errors import UserError
    from aiconf.manifests import estimate_manifest

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "estimate", "estimate_manifest", "replay", "search"]


class _Package(ModuleType):
    """The package with its functions imported on first use, so that the command line is fast.

    ``search`` is both a function of the package and a folder in it: importing the folder would
    put the module in the function's place, so that assignment is passed over (the module is
    found in ``sys.modules`` all the same).
    """

    @property
    def search(self) -> Any:
        """The function ``aiconf.api.search``."""
        return _api().search

    @search.setter
    def search(self, module: ModuleType) -> None:
        pass

    @property
    def estimate(self) -> Any:
        """The function ``aiconf.api.estimate``."""
        return _api().estimate

    @property
    def estimate_manifest(self) -> Any:
        """The function ``aiconf.manifests.estimate_manifest``."""
        from aiconf.manifests import estimate_manifest

        return estimate_manifest

    @property
    def replay(self) -> Any:
        """The function ``aiconf.api.replay``."""
        return _api().replay

    @property
    def UserError(self) -> Any:
        """The exception ``aiconf.errors.UserError``."""
        from aiconf.errors import UserError

        return UserError


def _api() -> Any:
    from aiconf import api

    return api


sys.modules[__name__].__class__ = _Package
