import numpy as np
import pytest

from aiconf.perf.leave_one_out import curvature, fits, left_out, powers
from aiconf.perf.schema import schema_of


def table(seconds, m, **fixed):
    rows = {"dtype": "bf16", "n": 512, "k": 512, "kernel": "a"} | fixed
    count = len(m)
    columns = {
        name: np.full(count, value, object if isinstance(value, str) else None)
        for name, value in rows.items()
    }
    return columns | {"m": np.array(m), "seconds": np.array(seconds, float)}


def test_a_straight_line_foretells_itself_and_a_knee_does_not():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert left_out(x, 3.0 + 2.0 * x) == pytest.approx([1.0, 1.0])
    assert left_out(x, x**2, 2) == pytest.approx([1.0, 1.0])
    knee = left_out(x, np.maximum(4.0, x))
    assert knee == pytest.approx([1.0, (4.0 + 4.0 * 2 / 6) / 4.0])


def test_curvature_foretells_the_error_of_a_finer_grid():
    """Of a smooth curve, halving the gaps quarters the error: curvature stays the same."""

    def time(x):
        return np.exp(0.1 * np.log2(x) ** 2)

    coarse, fine = 2.0 ** np.arange(0, 8, 1.0), 2.0 ** np.arange(0, 8, 0.25)
    wide = curvature(coarse, time(coarse))[3]
    narrow = curvature(fine, time(fine))[12]
    assert wide == pytest.approx(narrow, rel=0.2)
    assert np.isnan(curvature(coarse[:2], time(coarse[:2]))).all()


def test_fits_are_per_kernel_and_count_what_has_no_neighbours():
    m = [1, 2, 4, 8]
    a, b = table([1, 2, 4, 8], m), table([1, 1, 9, 1], m, kernel="b")
    rows = {name: np.concatenate([a[name], b[name]]) for name in a}
    order = np.random.default_rng(0).permutation(8)  # rows come in any order
    found = list(fits({name: column[order] for name, column in rows.items()}, schema_of("gemm")))
    assert [(f.kernel, f.axis, f.points, f.ends) for f in found] == [
        ("a", "m", 2, 2), ("b", "m", 2, 2),
    ]  # fmt: skip
    assert found[0].median == pytest.approx(0.0, abs=1e-12)
    assert found[1].worst_key["m"] == 2
    assert found[1].worst == pytest.approx((1 + (9 - 1) / 3) / 1 - 1)


def test_shapes_are_not_mixed():
    rows = [table([1, 2], [1, 2]), table([5, 6], [1, 2], n=1024)]
    joined = {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
    (found,) = fits(joined, schema_of("gemm"))
    assert (found.points, found.ends) == (0, 4)


def attention(window):
    """Prompts whose time grows with the square of their length."""
    x = np.array([1, 2, 4, 8])
    fixed = {
        "dtype": "bf16", "kv_dtype": "bf16", "head_dim": 128, "window": window, "heads": 8,
        "kv_heads": 1, "kernel": "a", "batch": 1,
    }  # fmt: skip
    columns = {name: np.array([value] * 4, dtype=object) for name, value in fixed.items()}
    columns["window"] = columns["window"].astype(int)
    return columns | {"isl": x, "seconds": 1.0 + x.astype(float) ** 2}


def test_prompts_are_interpolated_in_the_square_as_the_reader_does():
    """Not where a window bounds the work: the reader is linear there."""
    schema = schema_of("prefill_attention")
    whole, windowed = (
        next(fit for fit in fits(attention(window), schema) if fit.axis == "isl")
        for window in (0, 128)
    )
    assert whole.worst == pytest.approx(0.0, abs=1e-12)
    assert windowed.worst == pytest.approx((5 + (65 - 5) / 3) / 17 - 1)
    scopes = {"scope": np.array(["kernel", "module"]), "seconds": np.ones(2)}
    assert powers(scopes, "mla_prefill", "isl").tolist() == [2.0, 1.0]
    assert powers(scopes, "mla_prefill", "batch").tolist() == [1.0, 1.0]
