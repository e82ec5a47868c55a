"""The user's own container in place of NVIDIA's."""

from __future__ import annotations

import re
from dataclasses import replace

from aiconf.deploy.options import Options
from aiconf.deploy.versions import Runtime
from aiconf.errors import UserError

_IMAGE = re.compile(
    r"[a-z0-9][-a-z0-9._/]*(:\d+/[-a-z0-9._/]+)?:v?"
    r"(?P<release>(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*))(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
# How images spell the engines.
_ENGINES = {"vllm": "vllm", "sglang": "sglang", "tensorrtllm": "trtllm", "trtllm": "trtllm"}


def container(engine: Runtime, options: Options) -> Runtime:
    """Return the runtime with the user's image, where there is one.

    Raises
    ------
    UserError
        The image's name is none, or says another engine or release than that of ``engine``.
    """
    if options.image is None:
        return engine
    match = _IMAGE.fullmatch(options.image)
    if not match:
        raise UserError(
            f"--image {options.image!r} must be written REPOSITORY:X.Y.Z, where the operator reads "
            f"Dynamo's release, like {engine.image}"
        )
    last = options.image.rpartition("/")[2].partition(":")[0].replace("-", "")
    named = {backend for word, backend in _ENGINES.items() if word in last}
    if named and engine.backend not in named:
        raise UserError(
            f"--image {options.image} is of {' and '.join(sorted(named))} by its name, but the "
            f"deployment is for {engine.backend}: give one of it, like {engine.image}"
        )
    if match["release"].split(".")[:2] != engine.dynamo.split(".")[:2]:
        raise UserError(
            f"--image {options.image} holds Dynamo {match['release']} by its tag, but flags are "
            f"for {engine.dynamo}: give --dynamo-version {match['release']}"
        )
    return replace(engine, image=options.image)
