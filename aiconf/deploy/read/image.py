"""What a worker's image holds, by its tag."""

from __future__ import annotations

import re

from aiconf.deploy.versions import engines


def engine_in(backend: str, image: str | None) -> tuple[str | None, str | None]:
    """Return the Dynamo release and the engine version of an image; None where unknown.

    Parameters
    ----------
    image
        ``repository:tag``; tags such as ``1.3.0-efa`` or ``v1.6.1`` count as their release, and
        patch releases hold the engine of their minor release.
    """
    tag = re.search(r":v?(\d+)\.(\d+)\.(\d+)[^/:]*$", image or "")
    if tag is None:
        return None, None
    release = ".".join(tag.groups())
    for known, held in engines().items():
        if known.rpartition(".")[0] == release.rpartition(".")[0]:
            return release, held.get(backend)
    return release, None
