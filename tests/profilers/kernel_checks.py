"""What the tests of every operator's kernels share."""

import interpreter
import pytest

from profilers.source import Source


def here(operator):
    """Kernels that need no engine: PyTorch's and our own."""
    return [k for k in operator.kernels if k.backend in ("torch", "triton")]


def computed(operator, kernel, key, cpu, seed=0):
    """Inputs and the output of a kernel; skips the test where it cannot run on the CPU."""
    pytest.importorskip("torch")
    if kernel.backend == "triton" and not interpreter.ready():
        pytest.skip("Triton is not installed")
    why = kernel.missing(cpu) or kernel.unsupported(cpu, key)
    if why:
        pytest.skip(why)
    inputs = operator.draw(key, Source.of("cpu", seed, "test"))
    return inputs, kernel.prepare(key, inputs)


def agrees(operator, kernel, key, cpu, limit=None):
    """A kernel is right, twice: what one call leaves behind must not spoil the next."""
    inputs, call = computed(operator, kernel, key, cpu)
    call()
    error = operator.error(key, inputs, call())
    assert error <= (operator.tolerance(key) if limit is None else limit)


def plans(operator, quick, most):
    """Lines are few enough, fit the table, and have positive work without torch."""
    from profilers.device import planned

    lines = operator.lines(planned("h200_sxm"), quick)
    assert 0 < len(lines) <= most
    names = {*operator.schema.key_names} - {"kernel", operator.axis}
    for line in lines:
        assert set(line.fixed) == names
        assert list(line.values) == sorted(set(line.values))
        assert len(line.values) > 1
        for value in (line.values[0], line.values[-1]):
            work = operator.work({**line.fixed, operator.axis: value})
            assert work.read + work.written > 0
            assert work.flops >= 0
    assert len({tuple(line.fixed.items()) for line in lines}) == len(lines)
    return lines


def in_the_imported_table(operator, lines, backend="vllm", system="h200_sxm"):
    """Share of the lines that the embedded tables hold two points of, or more."""
    from aiconf.perf.store import PerfDb

    rows = PerfDb.open().read(system, backend, operator.table)
    keys = [n for n in operator.schema.key_names if n not in ("kernel", operator.axis)]
    known = {}
    for row in zip(*(rows[k].tolist() for k in (*keys, operator.axis)), strict=True):
        known.setdefault(row[:-1], set()).add(row[-1])
    shared = [
        len(known.get(tuple(line.fixed[k] for k in keys), set()) & set(line.values)) > 1
        for line in lines
    ]
    return sum(shared) / len(shared)
