"""Calibration files: what they change, what is refused; intervals and probabilities."""

import numpy as np
import pytest
import yaml

import aiconf
from aiconf.engine.calibration import LEVELS, Calibration, Spread, load_calibration
from aiconf.engine.interval import below, bounds, spread_of
from aiconf.engine.platform import platform
from aiconf.errors import UserError

# What a parameter can be: factors near one, kernels that launch in microseconds.
PHYSICAL = {
    "scales.gemm": (0.85, 1.2), "scales.attention": (0.8, 1.3), "scales.moe": (0.8, 1.3),
    "scales.communication": (0.7, 1.5), "scales.memory": (0.7, 1.5),
    "scales.acceptance": (0.5, 1.2), "host.seconds_exposed_per_layer": (1e-7, 3e-5),
    "host.seconds_per_launch": (3e-6, 1e-4), "host.seconds_per_request": (2e-3, 0.05),
    "host.seconds_per_handover": (2e-3, 0.3), "scales.launch": (0.2, 4.0),
}  # fmt: skip
SPREAD = Spread("tpot", "agg", (-0.3, -0.2, -0.1, 0.0, 0.1, 0.3, 0.5), 10, 100)


def fitted(**more):
    return {"value": 1.5, "low": 1.4, "high": 1.6} | more


def facts(given):
    return record(engines=[{"backend": "vllm", "sm": [90, 99], "facts": given}])


def record(**more):
    engine = {"backend": "vllm", "sm": [90, 99], "facts": {"scales.gemm": fitted()}}
    return {
        "tool": aiconf.__version__, "seed": 0, "rows": 6, "files": [], "engines": [engine],
        "spreads": [], "validation": {},
    } | more  # fmt: skip


def written(folder, content):
    path = folder / "calibration.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_facts_hold_for_their_engine_and_family_alone(tmp_path):
    path = written(tmp_path, record())
    assert platform("h200_sxm", "vllm", None, (), path).traits.scales == {"scales.gemm"[7:]: 1.5}
    for system, backend in (("b200_sxm", "vllm"), ("h200_sxm", "sglang")):
        assert platform(system, backend, None, (), path).traits.scales == {}


def test_facts_of_a_processor_hold_on_its_hosts_alone(tmp_path):
    slow = {"backend": "vllm", "sm": [90, 119], "cpu": "Grace",
            "facts": {"scales.launch": fitted()}}  # fmt: skip
    path = written(tmp_path, record(engines=[slow]))
    assert platform("gb200", "vllm", None, (), path).traits.scales == {"launch": 1.5}
    assert platform("b200_sxm", "vllm", None, (), path).traits.scales == {}


def test_a_factor_on_launches_scales_them(tmp_path):
    from aiconf.model import load_model
    from aiconf.parallel import Parallel

    spec = load_model("llama-3.1-70b", "fp8")
    graphs = (("graphs.prefill", "none"),)
    plain, slow = (
        platform("h200_sxm", "vllm", None, (*graphs, ("scales.launch", factor)))
        .step(spec, Parallel(4), "bf16").launch_seconds(np.array([900.0]))
        for factor in (1.0, 2.0)
    )  # fmt: skip
    assert slow == pytest.approx(2.0 * plain)


def test_a_factor_on_matrix_products_slows_them_and_nothing_else(tmp_path):
    from aiconf.engine.batch import Batch
    from aiconf.engine.curves import PART
    from aiconf.model import load_model
    from aiconf.parallel import Parallel

    spec, batch = load_model("llama-3.1-70b", "fp8"), Batch.of(decode=16.0, context=2000.0)
    paths = [written(tmp_path, record(engines=[])), None]
    plain = platform("h200_sxm", "vllm", None, (), paths[0]).step(spec, Parallel(4), "bf16")
    other = tmp_path / "other"
    other.mkdir()
    slow = platform("h200_sxm", "vllm", None, (), written(other, record()))
    before, after = plain.time(batch), slow.step(spec, Parallel(4), "bf16").time(batch)
    ratio = after.by_part[:, 0] / np.maximum(before.by_part[:, 0], 1e-12)
    assert ratio[PART["gemm"]] == pytest.approx(1.5)
    assert ratio[PART["attention"]] == pytest.approx(1.0)
    assert ratio[PART["communication"]] == pytest.approx(1.0)


def test_told_facts_override_a_calibration(tmp_path):
    path = written(tmp_path, record())
    found = platform("h200_sxm", "vllm", None, (("scales.gemm", 0.9),), path)
    assert found.traits.scales["gemm"] == 0.9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (record(tool="0.0.1"), "fitted by aiconf 0.0.1, this is"),
        ("a: [", "is not YAML"),
        (record(surprise=1), "surprise"),
        (record(engines=[{"backend": "vllm"}]), "engines.0"),
        ("just words", "is no calibration"),
        ("spec: {}", "is no calibration"),
        (facts({"scales.gem": fitted()}), "scales.gemm"),
        (facts({"host": fitted()}), "parameter in calibration"),
        (facts({"scales.gemm": fitted(value=float("nan"))}), "positive and ascend"),
        (facts({"scales.gemm": fitted(value=-1.0)}), "positive and ascend"),
        (facts({"scales.gemm": fitted(low=2.0)}), "positive and ascend"),
        (record(spreads="tpot agg - - - 0 1 1 0.1 0.2"), "columns"),
        (record(spreads="tpt agg - - - 0 1 1 0 1 2 3 4 5 6"), "spread of tpt"),
        (record(spreads="tpot agg - - - 0 1 1 6 5 4 3 2 1 0"), "quantiles that ascend"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as caught:
        load_calibration(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read calibration"):
        load_calibration(tmp_path / "none.yaml")


def test_the_shipped_calibration_loads_and_stays_physical():
    found = load_calibration()
    assert found.files
    for engine in found.engines:
        for name, one in engine.facts.items():
            assert 0 < one.low <= one.value <= one.high, name
            least, most = PHYSICAL[name]
            assert least < one.value < most, (engine.backend, name)
    assert all(list(s.quantiles) == sorted(s.quantiles) for s in found.spreads)
    assert all(len(s.quantiles) == len(LEVELS) for s in found.spreads)


def test_bounds_are_the_ten_and_ninety_per_cent_quantiles():
    assert bounds(SPREAD) == pytest.approx((np.exp(-0.2), np.exp(0.3)))
    assert bounds(None) is None


def test_probability_rises_with_the_limit_from_none_to_all():
    limits = np.geomspace(0.2, 6.0, 200)
    chance = np.array([float(below(SPREAD, 1.0, limit)) for limit in limits])
    assert (np.diff(chance) > 0).all()
    assert chance[0] < 0.001
    assert chance[-1] > 0.999
    for level, point in zip(LEVELS, SPREAD.quantiles, strict=True):
        assert float(below(SPREAD, 1.0, np.exp(point))) == pytest.approx(level)
    assert float(below(SPREAD, 2.0, np.inf)) == 1.0


def test_without_a_spread_the_prediction_decides():
    assert below(None, np.array([1.0, 3.0]), 2.0).tolist() == [1.0, 0.0]


def test_a_measured_group_has_its_own_spread_and_much_fallback_a_wider_one():
    wide = Spread("tpot", "agg", (-1.0, -0.8, -0.4, 0.0, 0.4, 0.8, 1.0), 6, 60, fallback=0.3)
    own = Spread("tpot", "agg", SPREAD.quantiles, 1, 9, "h200_sxm", "vllm", "m")
    known = Calibration(aiconf.__version__, 0, 6, (), (), (own, wide, SPREAD), {})

    def found(**more):
        group = {"system": "h200_sxm", "backend": "vllm", "model": "other"} | more
        return spread_of(known, "tpot", "agg", **group)

    assert found(model="m") is own
    assert found() is SPREAD
    assert found(fallback=0.5) is wide
    assert spread_of(known, "ttft", "agg", system="", backend="", model="") is None
