"""A deployment as a user writes it, replayed under a demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiconf.engine.engine import Platform
from aiconf.engine.served import unserved
from aiconf.engine.speculation import Speculation
from aiconf.errors import UserError
from aiconf.model.layout import layout_problem
from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.simulate.demand import Demand
from aiconf.simulate.deployment import Engine, aggregated, disaggregated, engine, merged, shared
from aiconf.simulate.requests import Load, Replay
from aiconf.simulate.results import Causes, causes
from aiconf.workload import require_whole


@dataclass(frozen=True)
class Deployed:
    """What is deployed. layout: of the workers, or of the decode workers beside
    ``prefill_layout``. token_budget, max_sequences: None: the engine's defaults.
    prefill_platform: of the prefill workers, where the engine's facts differ there.
    """

    spec: ModelSpec
    platform: Platform
    layout: str
    workers: int = 1
    prefill_layout: str | None = None
    prefill_workers: int = 1
    token_budget: int | None = None
    max_sequences: int | None = None
    kv_dtype: str | None = None
    speculation: Speculation | None = None
    prefill_platform: Platform | None = None

    def __post_init__(self) -> None:
        require_whole("workers", self.workers, 1)
        require_whole("prefill_workers", self.prefill_workers, 1)
        for name in ("token_budget", "max_sequences"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1)


@dataclass(frozen=True)
class Scenario:
    """A replay with the layouts that ran, their GPUs, and what their time went to by role."""

    replay: Replay
    worker: Parallel
    prefill: Parallel | None
    gpus: int
    causes: Mapping[str, Causes]


def run(deployed: Deployed, demand: Demand, seed: int = 0) -> Scenario:
    """Replay ``demand`` on ``deployed``; aggregated workers are dealt the requests in turn.

    Raises
    ------
    UserError
        For a layout that the model or engine cannot run, requests that are longer than the
        model's context, or that do not fit in memory.
    """
    load = demand.load(seed)
    shown = (0.0, 0)
    if load.images:
        shown = (load.images.count / float(load.prompt.mean()), load.images.patches)
    longest = int((load.prompt + load.output).max())
    if longest > deployed.spec.max_context:
        raise UserError(
            f"the longest request of {longest:,} tokens exceeds the {deployed.spec.max_context:,} "
            f"of {deployed.spec.name}"
        )
    after = _engine(deployed, deployed.platform, deployed.layout, load)
    worker = after.step.parallel
    verified = deployed.speculation.verified if deployed.speculation else 1
    if deployed.prefill_layout is None:
        lanes, beside = deployed.workers * worker.pp, None
        if load.arrival is None:
            lanes = min(lanes, load.users)
            beside = lanes / deployed.workers - 1.0
        parts = shared(load, lanes)
        replay = merged([
            aggregated(after, part, beside=beside, seed=seed + i) for i, part in enumerate(parts)
        ])  # fmt: skip
        split = causes(replay.spans, after.step, lanes, replay.duration, verified, shown)
        return Scenario(replay, worker, None, deployed.workers * worker.gpus, {"worker": split})
    place = deployed.prefill_platform or deployed.platform
    apart = load.images and place.traits.allows_images_apart()
    if apart:
        raise UserError(apart)
    before = _engine(deployed, place, deployed.prefill_layout, load)
    first = before.step.parallel
    replay = disaggregated(
        before, deployed.prefill_workers, after, deployed.workers, load, seed=seed
    )
    own = replay.spans.worker < deployed.prefill_workers
    sides = {
        "prefill": causes(
            replay.spans.where(own), before.step, deployed.prefill_workers, replay.duration, 1,
            shown,
        ),
        "decode": causes(
            replay.spans.where(~own), after.step, deployed.workers * worker.pp, replay.duration,
            verified,
        ),
    }  # fmt: skip
    gpus = deployed.prefill_workers * first.gpus + deployed.workers * worker.gpus
    return Scenario(replay, worker, first, gpus, sides)


def _engine(deployed: Deployed, place: Platform, text: str, load: Load) -> Engine:
    parallel = Parallel.parse(text)
    away = unserved(place.traits, deployed.spec, place.system.gpu, deployed.kv_dtype)
    if away:
        raise UserError(away)
    problem = layout_problem(deployed.spec, parallel) or place.traits.allows(
        parallel, moe=deployed.spec.is_moe
    )
    if problem:
        raise UserError(f"layout {parallel}: {problem}")
    longest = int((load.prompt + load.output).argmax())
    return engine(
        place,
        deployed.spec,
        parallel,
        isl=int(load.prompt[longest]),
        osl=int(load.output[longest]),
        token_budget=deployed.token_budget,
        max_sequences=deployed.max_sequences,
        kv_dtype=deployed.kv_dtype,
        speculation=deployed.speculation,
    )
