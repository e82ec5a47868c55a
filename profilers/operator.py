"""What an operator declares so that it can be planned, checked, timed and stored.

An operator fills one perf_db table. Its shapes come as lines: every key column but one is fixed
and the last one (``axis``) has candidate values, among which refinement chooses. A kernel is one
way to compute it: a library's, PyTorch's, or one of our own in Triton.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiconf.perf.schema import Schema, schema_of

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device
    from profilers.source import Source
    from profilers.timing import Timer

Key = Mapping[str, Any]  # key columns of a table without ``kernel``: one shape
Inputs = Mapping[str, Any]  # tensors by name, as the reference understands them
Call = Callable[[], "Tensor"]  # runs the kernel once and returns its output


@dataclass(frozen=True)
class Work:
    """The least that one call must do: for the speed of light and for estimated durations.

    rate: which of a GPU's rates does the arithmetic (a key of ``Gpu.flops``).
    link: bytes per second of what limits the call besides the GPU's memory, with ``sent`` bytes.
    """

    rate: str
    flops: float
    read: float  # bytes, each input once
    written: float  # bytes
    sent: float = 0.0
    link: float = 0.0

    def seconds(self, flops: Mapping[str, float], bandwidth: float, *, cached: bool) -> float:
        """Least time at these peaks (roofline).

        cached: outputs may stay in the last-level cache, so that only inputs have to cross.
        A rate that the GPU lacks takes no time: nothing is known about it.
        """
        moved = self.read + (0.0 if cached else self.written)
        rate = flops.get(self.rate)
        return max(
            self.flops / rate if rate else 0.0,
            moved / bandwidth,
            self.sent / self.link if self.link else 0.0,
        )


@dataclass(frozen=True)
class Line:
    """Shapes that differ in one column: ``fixed`` and the candidate values of the axis."""

    fixed: Key
    values: tuple[int, ...]  # ascending


@dataclass(frozen=True)
class Kernel:
    """One way to compute an operator.

    Attributes
    ----------
    name
        What the table's column ``kernel`` says; the name the imported tables use where it is
        the same kernel, so that ``aiconf db diff`` finds common points.
    backend
        Folder of the table: torch, triton, vllm, sglang, flashinfer, trtllm (or nccl, nixl).
    missing
        Why the kernel cannot run on a device at all, in a few words; "" when it can. Must not
        import the library (``importlib.util.find_spec``) nor touch the device.
    unsupported
        Why a shape cannot be run on a device, in a few words; "" when it can.
    prepare
        Turns inputs into a call. Everything an engine does once or that other tables hold
        (layout of weights, quantisation, plans, workspaces) belongs here and is not timed.
    graph
        Whether an engine runs it inside a CUDA graph, and so it is timed inside one.
    timer
        What times it where a pair of events on one stream cannot (transfers, whole engines).
    """

    name: str
    backend: str
    missing: Callable[[Device], str]
    unsupported: Callable[[Device, Key], str]
    prepare: Callable[[Key, Inputs], Call]
    graph: bool = True
    timer: Timer | None = None


@dataclass(frozen=True)
class Operator:
    """One operator (see the module docstring).

    Attributes
    ----------
    name
        As ``--ops`` spells it; several operators of one file share it.
    table
        perf_db table that it fills.
    axis
        The key column along which refinement chooses; the table's last one.
    lines
        Shapes for a device; ``quick``: the few that a first look needs. In order of worth.
    work
        Least work of one call of a shape.
    draw
        Random inputs (never zeros) of a shape, from a seeded source; quantised already where
        the kernel takes quantised operands, so that the reference sees the same numbers.
    error
        Relative error of an output against a float64 reference, norm of the difference over
        norm of the reference; may compare a sample of rows.
    tolerance
        Largest error of a correct kernel of this shape.
    kernels
        Ways to compute it.
    power
        Power of the axis in which time is nearly linear (2: prefill attention in its length).
    least
        Least seconds by the links of a device's datasheet, beside ``work``; 0: none bounds it.
    about
        What a plan says of it for a device besides its points; "": nothing.
    """

    name: str
    table: str
    axis: str
    lines: Callable[[Device, bool], tuple[Line, ...]]
    work: Callable[[Key], Work]
    draw: Callable[[Key, Source], Inputs]
    error: Callable[[Key, Inputs, Tensor], float]
    tolerance: Callable[[Key], float]
    kernels: tuple[Kernel, ...]
    power: int = 1
    least: Callable[[Device, Key], float] = lambda _device, _key: 0.0
    about: Callable[[Device], str] = lambda _device: ""

    @property
    def schema(self) -> Schema:
        """Schema of the table that it fills."""
        return schema_of(self.table)


@dataclass(frozen=True)
class Point:
    """One thing to measure: a kernel at a shape."""

    operator: Operator
    kernel: Kernel
    key: Key

    @property
    def row(self) -> dict[str, Any]:
        """Key columns of the table, ``kernel`` among them where the table has it, in order."""
        found = dict(self.key) | {"kernel": self.kernel.name}
        return {name: found[name] for name in self.operator.schema.key_names}

    @property
    def kernel_name(self) -> str:
        """The kernel, told apart from those of one name in other tables."""
        return f"{self.kernel.backend}/{self.operator.table} {self.kernel.name}"

    @property
    def name(self) -> str:
        """How the point is printed and found again: backend, table and row."""
        row = " ".join(f"{key}={value}" for key, value in self.row.items())
        return f"{self.kernel.backend}/{self.operator.table} {row}"
