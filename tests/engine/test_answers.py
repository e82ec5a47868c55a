"""Times of single operators against the iteration that they make up."""

import numpy as np
import pytest

from aiconf.engine.answers import answers
from aiconf.engine.batch import Batch
from aiconf.engine.curves import PART
from aiconf.engine.platform import platform
from aiconf.model import load_model
from aiconf.model.operators import GqaAttention, Moe
from aiconf.parallel import Parallel

BATCH = Batch.joined(
    Batch.of(decode=[1.0, 40.0, 300.0], context=3000.0), Batch.of(prefill_tokens=2000.0)
)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("QWEN3_32B", "tp2"), ("DEEPSEEK_R1", "tp8"), ("DEEPSEEK_R1", "tp1dp8ep8"),
        ("Qwen3.5-397B-A17B", "tp8"), ("gpt-oss-120b", "tp2pp2"),
    ],
)  # fmt: skip
def test_operators_add_up_to_the_iteration(model, layout, backend):
    place, spec, parallel = platform("h200_sxm", backend), load_model(model), Parallel.parse(layout)
    if place.traits.allows(parallel, moe=spec.is_moe):
        pytest.skip("this engine does not run the layout")
    kv = spec.quantization.kv
    found = answers(place, spec, parallel, kv, BATCH)
    together = place.step(spec, parallel, kv).time(BATCH)
    wanted = together.seconds - together.by_part[PART["overhead"]]
    np.testing.assert_allclose(sum(one.seconds for one in found), wanted, rtol=1e-6)
    for one in found:
        np.testing.assert_allclose(one.by_origin.sum(axis=0), one.seconds, atol=1e-12)
        assert one.fused == (not one.seconds.any() and not one.tables)


def test_tables_are_those_that_were_read():
    place, spec = platform("h200_sxm", "vllm"), load_model("gpt-oss-120b")
    by_kind = {
        type(one.operator): one.tables for one in answers(place, spec, Parallel(), "bf16", BATCH)
    }
    assert by_kind[Moe] == (("h200_sxm", "vllm", "moe"),)
    assert set(by_kind[GqaAttention]) == {
        ("h200_sxm", "vllm", "decode_attention"), ("h200_sxm", "vllm", "prefill_attention"),
    }  # fmt: skip
