"""One measured operating point: what was deployed, the load, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aiconf.engine.changes import Changes
from aiconf.engine.speculation import Speculation
from aiconf.parallel import Parallel

Status = Literal["ok", "skipped", "unsupported"]
TrafficKind = Literal["closed", "rate", "burst", "static", "offline"]
Mode = Literal["agg", "disagg"]


@dataclass(frozen=True)
class Workers:
    """Equal engines: the layout of one, and how many."""

    parallel: Parallel
    count: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of all of them."""
        return self.parallel.gpus * self.count


@dataclass(frozen=True)
class Traffic:
    """Requests of one run.

    kind: ``closed`` (``users`` in flight), ``rate`` (``rate`` requests/s), ``burst`` (all at
    once), ``static`` (one batch of ``users`` requests), ``offline`` (all at once, and only the
    throughput counts). isl, osl: longest prompt and output in tokens. least: lengths are uniform
    whole numbers in [least x L, L]. requests: how many were sent; None: the protocol's own
    number.
    """

    kind: TrafficKind
    isl: int
    osl: int
    least: float = 1.0
    users: int = 0
    rate: float = 0.0
    requests: int | None = None


@dataclass(frozen=True)
class Deployment:
    """What served the run; hashable, so that equal configurations are replayed once.

    workers: the aggregated workers, or the decode side. prefill: None when aggregated.
    max_sequences, token_budget: settings of a whole engine (of a decode rank where prefill is
    apart); None: the engine's default. prompt_tokens, prompts: of one iteration of a prefill
    rank; None: the engine's default, and as many as the tokens hold.
    kv_dtype: None: what the engine picks for the checkpoint. poll: decode iterations between two
    looks at the queue of new requests (SGLang --scheduler-recv-interval). memory: the engine's
    memory setting; None: its default. speculation: None: no drafts. changes: facts of the
    engine that differ from its traits.
    """

    system: str
    backend: str
    model: str
    precision: str | None
    workers: Workers
    prefill: Workers | None = None
    kv_dtype: str | None = None
    max_sequences: int | None = None
    token_budget: int | None = None
    prompt_tokens: int | None = None
    prompts: int | None = None
    poll: int = 1
    memory: float | None = None
    speculation: Speculation | None = None
    changes: Changes = ()


@dataclass(frozen=True)
class Metrics:
    """Measured figures in seconds and tokens/s; None where not stated."""

    ttft_mean: float | None = None
    ttft_p50: float | None = None
    ttft_p99: float | None = None
    tpot_mean: float | None = None
    output_rate: float | None = None
    total_rate: float | None = None

    @property
    def ttft(self) -> tuple[Literal["p50", "mean"], float] | None:
        """The TTFT that is compared: the median where stated (it is the less noisy), else mean."""
        if self.ttft_p50 is not None:
            return "p50", self.ttft_p50
        return ("mean", self.ttft_mean) if self.ttft_mean is not None else None


@dataclass(frozen=True)
class MeasuredRun:
    """One row that says enough to be predicted. note: what had to be read into it."""

    deployment: Deployment
    traffic: Traffic
    metrics: Metrics
    version: str = ""
    date: str = ""
    note: str = ""

    @property
    def mode(self) -> Mode:
        """Aggregated or disaggregated."""
        return "agg" if self.deployment.prefill is None else "disagg"


@dataclass(frozen=True)
class Row:
    """One row of an input: its cells, and the run it describes or why it describes none.

    status: ``ok`` where ``run`` is set; ``skipped``: says too little, or the impossible;
    ``unsupported``: is clear, but cannot be predicted.
    """

    cells: Mapping[str, str]
    run: MeasuredRun | None
    status: Status
    reason: str = ""
