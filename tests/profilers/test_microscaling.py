"""mxfp4 weights."""

import pytest


def drawn(k=256):
    from profilers.source import Source

    w = Source.of("cpu", 0, "w").normal(40, k)
    w[:, 32:64] *= 20.0  # scales differ between groups
    return w


def test_it_stands_for_what_was_drawn():
    torch = pytest.importorskip("torch")
    from profilers.microscaling import exact_mxfp4, mxfp4

    w = drawn(300)
    found = exact_mxfp4(mxfp4(w))
    assert found.shape == (40, 384)
    assert not found[:, 300:].any()
    error = torch.linalg.vector_norm(found[:, :300] - w) / torch.linalg.vector_norm(w.double())
    assert 0.01 < error < 0.15


def test_every_code_stands_for_its_number():
    torch = pytest.importorskip("torch")
    from profilers.microscaling import exact_mxfp4, mxfp4

    # Groups whose largest is 4: scales are those under which it stays 4.
    numbers = torch.tensor([0.5, -1.0, 1.5, -2.0, 3.0, -4.0, 0.0, -3.0] * 16)[None] * 0.25
    assert torch.equal(exact_mxfp4(mxfp4(numbers)), numbers.double())
