"""The keys of a ``systems/*.yaml`` file.

Kept apart from its reader so that pydantic is imported only when a system is read.
"""

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt


class Strict(BaseModel):
    """Refuses keys that the format does not have."""

    model_config = ConfigDict(extra="forbid")


class Figure(Strict):
    """A positive figure and where it was read."""

    value: PositiveFloat
    source: str


class Count(Strict):
    """A positive whole number and where it was read."""

    value: PositiveInt
    source: str


class Name(Strict):
    """A name and where it was read, or why it is named."""

    value: str
    source: str


class Rates(Strict):
    """Dense FLOP/s by precision."""

    bf16: PositiveFloat
    fp8: PositiveFloat | None = None
    int8: PositiveFloat | None = None
    fp4: PositiveFloat | None = None
    float32: PositiveFloat  # without tensor cores
    source: str


class SystemFile(Strict):
    """Every figure of `aiconf.system.spec.System` and its GPU."""

    name: str
    gpu: str
    device_name: Name | None = None
    cpu: Name | None = None
    sm: Count
    memory_bytes: Figure
    memory_bandwidth: Figure
    flops: Rates
    multiprocessors: Count
    power_watt: Figure
    cost_usd_per_hour: Figure
    gpus_per_node: Count
    nvlink_domain: Count
    nvlink_bandwidth: Figure
    nvlink_latency: Figure
    network_bandwidth: Figure
    network_latency: Figure
    host_bandwidth: Figure
    reserved_bytes: Figure
    nvlink_twin: Name | None = None
