"""Single iterations against measured ones: Qwen3-32B in bf16 on B300, vLLM 0.20.1.

The bounds leave the uneven lengths (see docs/decisions/iteration-time.md) room, not more.
"""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def predicted():
    """Every iteration of every configuration with its prediction."""
    from iterations import FOLDER, iterations
    from steps import predict

    if not FOLDER.is_dir():
        pytest.skip(f"no measured iterations in {FOLDER.name}")
    found = {run.measured.parallel.tp: run for run in predict(iterations(FOLDER))}
    assert sorted(found) == [1, 2, 4, 8]
    return found


def errors(run, kind, low=0, high=10**6):
    decode = run.measured.batch.decode
    chosen = run.measured.regular & (run.measured.kind == kind)
    found = run.error[chosen & (decode >= low) & (decode <= high)]
    assert len(found) >= 30
    return found


def test_hardly_an_interval_is_set_aside(predicted):
    for run in predicted.values():
        assert run.measured.regular.mean() > 0.98


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_small_decode_batches_are_within_five_per_cent(predicted, tp):
    found = errors(predicted[tp], "decode", 1, 4)
    assert np.abs(found).mean() < 0.05
    assert abs(np.median(found)) < 0.04


@pytest.mark.parametrize(("tp", "bound"), [(1, 0.14), (2, 0.12), (4, 0.10), (8, 0.08)])
def test_decode(predicted, tp, bound):
    found = errors(predicted[tp], "decode")
    assert np.abs(found).mean() < bound
    assert np.median(found) < 0.02  # never slower than measured as a whole


# A miss that is known: it fails the day it is mended.
DENSE_LAUNCHES = pytest.mark.xfail(
    strict=True,
    reason="14.3 %: a prompt of 1,024 tokens is launched in 18 ms, 27 are predicted. The time of a "
    "launch is fitted to models with experts; compiled dense layers launch fewer and cheaper ones",
)


@pytest.mark.parametrize(
    ("tp", "bound"),
    [(1, 0.14), (2, 0.15), (4, 0.12), (8, 0.15), pytest.param(8, 0.11, marks=DENSE_LAUNCHES)],
)
def test_prompts_alone(predicted, tp, bound):
    assert np.abs(errors(predicted[tp], "prefill")).mean() < bound


@pytest.mark.parametrize(("tp", "bound"), [(1, 0.11), (2, 0.15), (4, 0.14), (8, 0.14)])
def test_prompts_beside_decodes(predicted, tp, bound):
    assert np.abs(errors(predicted[tp], "mixed")).mean() < bound
