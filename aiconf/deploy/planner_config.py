"""Configuration of Dynamo's SLA planner: the part that aiconf sets, with the planner's own rules.

Fields and rules after ``PlannerConfig`` of ai-dynamo 1.0.2 to 1.6.1 (dynamo/planner).
"""

from __future__ import annotations

import json
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aiconf.errors import UserError

_UNIT = re.compile("_(ms|seconds)$")


class PlannerConfig(BaseModel):
    """What the planner scales, between which bounds, and by which targets.

    ttft_ms, itl_ms: targets in milliseconds. max_gpu_budget: GPUs of all workers together.
    min_endpoint: replicas of each kind that always stay. *_engine_num_gpu: GPUs of one replica.
    *_interval_seconds: how often it looks at traffic forecasts, and at queues.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    environment: Literal["kubernetes"] = "kubernetes"
    backend: Literal["vllm", "sglang", "trtllm"]
    mode: Literal["agg", "disagg"]
    optimization_target: Literal["sla", "throughput"]
    ttft_ms: float | None = Field(default=None, gt=0)
    itl_ms: float | None = Field(default=None, gt=0)
    max_gpu_budget: int = Field(ge=1)
    min_endpoint: int = Field(default=1, ge=0)
    prefill_engine_num_gpu: int | None = Field(default=None, ge=1)
    decode_engine_num_gpu: int | None = Field(default=None, ge=1)
    enable_throughput_scaling: bool
    enable_load_scaling: bool = True
    throughput_adjustment_interval_seconds: int = Field(default=180, gt=0)
    load_adjustment_interval_seconds: int = Field(default=5, gt=0)
    # Thorough: performance data lie on disk, as a sweep over real GPUs would have left them.
    pre_deployment_sweeping_mode: Literal["none", "thorough"] = "thorough"
    profile_results_dir: str

    @model_validator(mode="after")
    def _rules(self) -> PlannerConfig:
        if self.optimization_target == "sla" and (self.ttft_ms is None or self.itl_ms is None):
            raise ValueError("scaling by SLA needs a TTFT and a TPOT target")
        if self.enable_throughput_scaling and self.optimization_target != "sla":
            raise ValueError("only scaling by SLA looks at traffic forecasts")
        if not (self.enable_throughput_scaling or self.enable_load_scaling):
            raise ValueError("one of throughput and load scaling must be on")
        every = self.throughput_adjustment_interval_seconds
        if self.enable_throughput_scaling and every % self.load_adjustment_interval_seconds:
            raise ValueError("the load interval must divide the throughput interval")
        needed = sum(filter(None, (self.prefill_engine_num_gpu, self.decode_engine_num_gpu)))
        if self.max_gpu_budget < needed * self.min_endpoint:
            raise ValueError(
                f"a budget of {self.max_gpu_budget} GPUs is below the {needed} of one replica each"
            )
        return self

    def text(self, dynamo: str) -> str:
        """Return the JSON that ``dynamo.planner --config`` of a release reads."""
        release = tuple(int(part) for part in dynamo.split(".")[:2])
        values = self.model_dump(exclude_none=True)
        if release < (1, 1):  # it knows no other target than the SLA
            del values["optimization_target"]
        if release < (1, 2):  # units entered the names later
            values = {_UNIT.sub("", name): value for name, value in values.items()}
        return json.dumps(values, indent=2) + "\n"


def planner_config(**values: object) -> PlannerConfig:
    """Return a configuration.

    Raises
    ------
    UserError
        The planner would refuse it.
    """
    try:
        return PlannerConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise UserError(f"planner: {f'{where}: ' * bool(where)}{what}") from error
