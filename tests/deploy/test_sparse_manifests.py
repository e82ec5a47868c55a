"""Deployments of models with compressed or chosen attention: what TensorRT-LLM must be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deploy_plans import plan, worker

from aiconf.deploy.dgd import build
from aiconf.deploy.options import Options
from aiconf.deploy.validate.check import check
from aiconf.deploy.write import manifest
from aiconf.engine.platform import platform
from aiconf.errors import UserError
from aiconf.model import load_model
from aiconf.search.estimate import Setting, estimate_point
from aiconf.search.plan import plan as chosen
from aiconf.system.catalog import load_system
from aiconf.workload import Workload


def told(model: str, backend: str = "trtllm", system: str = "b200_sxm", dynamo: str = "1.6.1"):
    spec = load_model(model)
    one = worker(
        layout="tp8", system=load_system(system), kv_dtype=spec.quantization.kv, kv_block_size=128,
        prefix_caching=False,
    )  # fmt: skip
    return manifest(build(plan(backend, one, model=spec), Options(dynamo=dynamo)))


def test_chosen_blocks_are_told_to_the_engine(tmp_path):
    text = told("nvidia/MiniMax-M3-NVFP4")
    assert "sparse_attention_config:" in text
    assert "algorithm: minimax_m3" in text
    assert "implementation: msa" in text
    path = tmp_path / "deploy.yaml"
    path.write_text(text)
    assert not check([path], "1.6.1").problems


def test_kernels_of_sm_100_are_told_on_it_alone():
    text = told("MiniMaxAI/MiniMax-M3-MXFP8", system="h200_sxm")
    assert "algorithm: minimax_m3" in text
    assert "implementation" not in text


def test_nothing_is_told_of_what_the_engine_finds_itself():
    assert "sparse_attention_config" not in told("DeepSeek-V4-Pro")
    assert "sparse_attention_config" not in told("MiniMaxAI/MiniMax-M3-MXFP8", "vllm")


@pytest.mark.parametrize(
    ("model", "system", "dynamo", "message"),
    [
        ("DeepSeek-V4-Pro", "b200_sxm", "1.3.1", "DeepSeek-V4: use Dynamo 1.6.1, 1.5.1, 1.4.0"),
        ("MiniMaxAI/MiniMax-M3-MXFP8", "h200_sxm", "1.2.1", "MiniMax-M3: use Dynamo 1.6.1"),
        ("nvidia/MiniMax-M3-NVFP4", "b200_sxm", "1.4.0", "sm 100: use Dynamo 1.6.1, 1.5.1"),
    ],
)
def test_releases_before_the_model_are_refused(model, system, dynamo, message):
    with pytest.raises(UserError, match=message):
        told(model, system=system, dynamo=dynamo)


def test_blocks_of_m3_are_not_reused():
    spec = load_model("MiniMaxAI/MiniMax-M3-MXFP8")
    one = worker(layout="tp8", kv_dtype="bf16", kv_block_size=128, prefix_caching=False)
    with pytest.raises(UserError, match="reuses no KV blocks of MiniMax-M3"):
        build(plan("trtllm", one, model=spec), Options(router="kv"))
    assert build(plan("sglang", one, model=spec), Options(router="kv"))


def test_older_releases_serve_older_models():
    plain = replace(worker(), system=load_system("b200_sxm"))
    assert manifest(build(plan("trtllm", plain), Options(dynamo="1.0.2")))


@pytest.mark.parametrize("system", ["h200_sxm", "gb300"])
def test_the_indexer_of_vllm_has_blocks_of_64(system):
    spec, place = load_model("zai-org/GLM-5-FP8"), platform(system, "vllm")
    setting = Setting(
        spec=spec, platform=place, decode_platform=place, workload=Workload(1000, 100),
        layout="tp8", concurrency=4, workers=1, prefill_layout=None, prefill_workers=1,
        prefill_batch=1, token_budget=None, kv_dtype=None,
    )  # fmt: skip
    text = manifest(build(chosen(*estimate_point(setting)), Options()))
    assert '- --block-size\n                - "64"' in text
