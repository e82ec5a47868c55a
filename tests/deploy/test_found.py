"""What search and estimate find can be written for every release, with memory to spare."""

from __future__ import annotations

import pytest
from crd_check import problems
from deploy_reference import REFERENCE, crd_schema

from aiconf import estimate, search
from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.validate.check import problems as wrong
from aiconf.deploy.validate.documents import Document
from aiconf.deploy.versions import releases
from aiconf.deploy.write import contents
from aiconf.errors import UserError
from aiconf.search.plan import plan

CRDS = {"1.0": "1.0.2", "1.1": "1.0.2", "1.2": "1.2.0", "1.3": "1.2.0", "1.4": "1.4.0"}


def accepted(deployment):
    """Check with the project's own rules, and the public definition where it is at hand."""
    written = [Document("found", i, body) for i, body in enumerate(deployment.documents)]
    assert [one for one in wrong(written, deployment.runtime.dynamo) if one.level == "error"] == []
    document = deployment.graph.document()
    if not (REFERENCE / "crds").exists():
        return
    release = CRDS.get(deployment.runtime.dynamo.rpartition(".")[0], "1.5")
    schema = crd_schema(release)[document["apiVersion"].rpartition("/")[2]]
    assert problems(document, schema) == []


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (("QWEN3_32B", "h200_sxm", 32), {}),
        (("DeepSeek-R1", "gb200", 64), {}),
        (("gpt-oss-120b", "h100_sxm", 16), {}),
        (("QWEN3_32B", "h200_sxm", 16), {"decode_system": "gb200", "mode": "disagg"}),
    ],
)
@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_what_search_finds(task, options, backend):
    result = search(*task, 4000, 500, None, None, backend=backend, top=3, **options)
    written = 0
    for ranked in result.outcome.top.values():
        for found in ranked:
            one = plan(result.request, found)
            for release in releases():
                deployment = build(one, Options(dynamo=release, router="kv"))
                accepted(deployment)
                assert not any("less than 3%" in note for note in deployment.notes)
                written += 1
            assert contents(build(one))
    assert written


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_an_estimate_at_the_limit_is_marked(backend):
    """More requests in flight than the cache holds: as many run as fit, and it is said."""
    found = estimate("QWEN3_32B", "h200_sxm", "tp1", concurrency=2000, backend=backend)
    notes = build(plan(found.request, found.found)).notes
    assert any("less than 3%" in note for note in notes)
    roomy = estimate("QWEN3_32B", "h200_sxm", "tp1", concurrency=8, backend=backend)
    assert not any("less than 3%" in n for n in build(plan(roomy.request, roomy.found)).notes)


@pytest.mark.parametrize(
    ("backend", "setting"),
    [("vllm", "gpu-memory-utilization"), ("sglang", "mem-fraction-static"), ("trtllm", None)],
)
def test_a_margin_lowers_the_setting_and_the_prediction(backend, setting):
    def of(margin):
        found = estimate(
            "QWEN3_32B", "h200_sxm", "tp1", concurrency=2000, backend=backend, memory_margin=margin
        )
        one = plan(found.request, found.found)
        part = build(one).parts[0]
        if setting is None:
            config = part.launch.config["kv_cache_config"]
            return config["free_gpu_memory_fraction"], one.workers[0].max_sequences
        value = next(s.value for s in part.launch.engine if s.flag == setting)
        return value, one.workers[0].max_sequences

    (plain, most), (lower, fewer) = of(0.0), of(0.1)
    assert lower == pytest.approx(plain - 0.1)
    assert fewer < most


@pytest.mark.parametrize("margin", [-0.1, 0.5, float("nan")])
def test_an_impossible_margin_is_refused(margin):
    with pytest.raises(UserError, match=r"between 0 and 0\.5"):
        estimate("QWEN3_32B", "h200_sxm", "tp1", memory_margin=margin)
