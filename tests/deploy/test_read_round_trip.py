"""Reading what was written gives the same plan back, for every backend, layout and mode."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deploy_plans import many_plans, plan, worker

from aiconf.deploy.dgd import Options, build
from aiconf.deploy.launch import graph_sizes, per_rank
from aiconf.deploy.write import manifest
from aiconf.errors import UserError
from aiconf.manifests import predicted, read_manifest

PLANS = many_plans()
FIELDS = (
    "role", "replicas", "parallel", "max_model_len", "kv_dtype", "kv_block_size",
    "memory_fraction", "prefix_caching",
)  # fmt: skip


def _ids(one):
    layouts = "-".join(f"{w.role}{w.parallel}" for w in one.workers)
    return f"{one.backend}-{layouts}"


def _read(one, tmp_path, **options):
    path = tmp_path / "deploy.yaml"
    path.write_text(manifest(build(one, Options(**options))))
    systems = {worker.role: worker.system.name for worker in one.workers}
    return read_manifest(
        path, one.workload.isl, one.workload.osl,
        system=systems.get("prefill") or systems.get("agg"), decode_system=systems.get("decode"),
    )  # fmt: skip


def _graphs(backend, each):
    """Sizes that a backend can be told: those beyond its batch are cut."""
    if backend == "vllm":
        return tuple(sorted(set(each.graph_sizes)))
    if backend == "sglang" and each.role == "prefill":
        return ()
    limit = per_rank(each)
    if backend == "trtllm":
        limit = -(-limit // each.parallel.pp)
    return tuple(graph_sizes(each, limit))


@pytest.mark.parametrize("one", PLANS, ids=_ids)
def test_the_plan_comes_back(one, tmp_path):
    reading = _read(one, tmp_path)
    found = reading.plan
    assert found.backend == one.backend
    assert found.model.checkpoint == one.model.checkpoint
    assert found.workload == one.workload
    written = {each.role: each for each in one.workers}
    assert {each.role for each in found.workers} == set(written)
    for each in found.workers:
        before = written[each.role]
        for field in FIELDS:
            assert getattr(each, field) == getattr(before, field), field
        assert each.system.name == before.system.name
        assert each.graph_sizes == _graphs(one.backend, before)
        assert each.token_budget == before.token_budget
        stages = before.parallel.pp if one.backend == "trtllm" else 1
        ranks = before.parallel.dp * stages
        assert each.max_sequences == -(-before.max_sequences // ranks) * ranks
    assert not any(note.startswith("not modelled") for note in reading.notes if "decod" not in note)


def test_uneven_sizes_come_back(tmp_path):
    """No value in the reader is the writer's default by chance."""
    odd = {"max_sequences": 96, "token_budget": 3072, "max_model_len": 6000, "kv_block_size": 32,
           "memory_fraction": 0.77, "graph_sizes": (1, 3, 24, 96), "replicas": 5}  # fmt: skip
    for backend in ("vllm", "sglang", "trtllm"):
        one = plan(backend, worker(layout="tp4", **odd))
        found = _read(one, tmp_path).plan.workers[0]
        for field, value in odd.items():
            assert getattr(found, field) == value, (backend, field)


def test_what_was_written_is_predicted_alike(tmp_path):
    """A search's own deployment, read back, is predicted as the search predicted it."""
    from aiconf import search
    from aiconf.search.plan import plan as plan_of

    for backend in ("vllm", "sglang"):
        for mode in ("agg", "disagg"):
            found = search("qwen3-32b", "h200_sxm", 8, 3000, 500, 4000.0, 50.0, backend=backend,
                           mode=mode, top=1)  # fmt: skip
            one = plan_of(found.request, found.settled.outcome.best)
            reading = _read(one, tmp_path)
            again = predicted(reading).best
            best = found.best
            assert again["layout"] == best["layout"]
            assert again["workers"] == best["workers"]
            for field in ("tpot_ms", "output_tok_per_s_per_gpu"):
                assert again[field] == pytest.approx(best[field], rel=0.05), (backend, mode, field)


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_drafts_come_back(backend, tmp_path):
    from aiconf.model.library import load_model

    draft = replace(plan(backend, model=load_model("deepseek-r1")), drafts=2, draft_model="")
    draft = replace(draft, workers=(worker(layout="tp8", kv_dtype=draft.model.quantization.kv),))
    assert _read(draft, tmp_path).plan.drafts == 2
    own = replace(plan(backend), drafts=3, draft_model="me/eagle3")
    found = _read(own, tmp_path).plan
    assert (found.drafts, found.draft_model) == (3, "me/eagle3")


def test_two_systems_come_back(tmp_path):
    one = plan("vllm", worker("prefill"), worker("decode"))
    decode = replace(one.workers[1], system=replace(one.workers[1].system, name="gb200"))
    found = _read(replace(one, workers=(one.workers[0], decode)), tmp_path).plan
    assert [each.system.name for each in found.workers] == ["h200_sxm", "gb200"]


def test_without_a_system_there_is_no_answer(tmp_path):
    path = tmp_path / "deploy.yaml"
    path.write_text(manifest(build(plan())).replace("aiconf/system", "other/system"))
    with pytest.raises(UserError, match="give --system"):
        read_manifest(path)
