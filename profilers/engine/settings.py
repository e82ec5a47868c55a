"""What a run of an engine was asked for, as the journal keeps it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiconf.model import ModelSpec
from aiconf.model.library import checkpoints
from aiconf.parallel import Parallel
from profilers.engine.experiments import Load
from profilers.plan import Job

_CONTEXT = 20480  # room for the first looks at contexts of 8,192 and 16,384


@dataclass(frozen=True)
class Settings:
    """What was asked for; stored in the journal, so that a resumed run needs no options.

    model: a name that aiconf knows, or a folder with a config.json. url: of a running server;
    "": one is started. port: 0: a free one. context: tokens of one request; 0: ``_CONTEXT`` or
    what the model has. memory, sequences: 0: the engine's defaults. patience: seconds that a
    server may take to start.
    """

    backend: str
    model: str
    layout: Parallel = field(default_factory=Parallel)
    url: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    context: int = 0
    budget: int = 8192
    sequences: int = 0
    memory: float = 0.0
    extra: tuple[str, ...] = ()
    quick: bool = False
    loads: tuple[Load, ...] = ()
    limit: float | None = None  # seconds
    patience: float = 1800.0
    seed: int = 0
    system: str = ""  # where the GPU is not recognised

    def record(self) -> dict[str, Any]:
        """As the journal holds it: also a job that `status` understands."""
        job = Job(
            ("engine",), (self.backend,), self.quick, self.limit, self.seed, system=self.system
        )
        return job.record() | {"engine": dataclasses.asdict(self)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Settings:
        """Read it back from the journal."""
        known = record["engine"]
        return cls(**known | {
            "layout": Parallel(**known["layout"]), "extra": tuple(known["extra"]),
            "loads": tuple(Load(**load) for load in known["loads"]),
        })  # fmt: skip

    @property
    def flags(self) -> str:
        """First 8 digits of the checksum of what decides how the engine runs."""
        told = [self.context, self.budget, self.sequences, self.memory, *self.extra, self.url]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]


def spec_of(settings: Settings) -> ModelSpec:
    """The model that is served; ``UserError`` for one that is not known."""
    return checkpoints(settings.model)[0]


def model_name(settings: Settings) -> str:
    """Id of the checkpoint; of a folder its name, since where it lies says nothing."""
    spec = spec_of(settings)
    return spec.name if Path(settings.model).expanduser().exists() else spec.checkpoint


def context_of(settings: Settings) -> int:
    """Tokens that one request may have."""
    return settings.context or min(_CONTEXT, spec_of(settings).max_context)
