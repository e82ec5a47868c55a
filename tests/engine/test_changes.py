"""Facts of an engine replaced one by one."""

import pytest

from aiconf.engine.changes import changed, frozen
from aiconf.engine.traits import load_traits
from aiconf.errors import UserError


def test_facts_of_every_depth_are_replaced_and_nothing_else():
    before = load_traits("vllm")
    after = changed(
        before,
        (
            ("graphs.prefill", "none"),
            ("kernels.moe.mxfp4", frozen(["marlin"])),
            ("norm_in_all_reduce", frozen({90: {2: 5}})),
        ),
    )
    assert after.graphs.prefill == "none"
    assert after.kernel_order("moe.mxfp4", 100) == ("marlin",)
    assert after.norm_limit(90, 2) == 5
    assert after.scheduler is before.scheduler
    assert before.graphs.prefill == "captured"
    assert changed(before, (("norm_in_all_reduce", frozen({})),)).norm_limit(90, 2) == 0


def test_frozen_values_are_hashable():
    assert hash(frozen({"a": [1, {"b": 2}]}))


def test_an_unknown_fact_is_named_with_the_nearest():
    with pytest.raises(UserError, match="graphs"):
        changed(load_traits("vllm"), (("graph.prefill", "none"),))
