"""What published benchmarks told their engines, by the row that they made."""

import pytest

from aiconf.parallel import Parallel
from aiconf.runs.cells import Skipped
from aiconf.runs.measured import Traffic, Workers
from aiconf.runs.protocols import engine_settings, launched

ROW = {"source": "InferenceX", "serving_mode": "agg", "hardware": "B200 SXM", "tp": "4"}


def load(users, isl=1024, osl=1024):
    return Traffic("closed", isl, osl, users=users)


def settings(cells, backend, users, **lengths):
    return engine_settings(ROW | cells, backend, load(users, **lengths))


def test_the_script_of_the_model_and_its_width_counts():
    deepseek = {"model": "deepseek-ai/DeepSeek-R1-0528", "precision": "fp8"}
    wide = settings(deepseek | {"tp": "8"}, "sglang", 32)
    assert (wide.poll, wide.token_budget, wide.memory) == (30, 32768, 0.82)
    narrow = settings(deepseek, "sglang", 32)
    assert (narrow.poll, narrow.token_budget, narrow.memory) == (10, 8192, 0.95)


def test_a_rule_for_lengths_is_for_these_lengths():
    llama = {"model": "nvidia/Llama-3.1-70B", "precision": "fp8"}
    assert settings(llama, "trtllm", 8).poll == 20
    assert settings(llama, "trtllm", 8, isl=8192).poll == 1
    assert settings(llama | {"tp": "8"}, "trtllm", 8).poll == 1


def test_rows_before_a_day_are_not_those_after():
    minimax = {"model": "MiniMaxAI/MiniMax-M2.5", "precision": "fp8", "backend_version": "0.19.0"}
    before = settings(minimax | {"date": "2026-04-03"}, "vllm", 8)
    after = settings(minimax | {"date": "2026-04-22"}, "vllm", 8)
    assert before.facts == (("graphs.prefill_tokens", 2048),)
    assert after.facts == (("float32_products", "tf32"), ("graphs.prefill_tokens", 2048))


def test_generated_sglang_runs_mix_prompts_and_decodes_since_a_version():
    own = {"source": "NVIDIA internal", "notes": "AIC_fields tp=1", "max_batch": "64",
           "serving_mode": "agg"}  # fmt: skip
    old = engine_settings(own | {"backend_version": "0.5.1.post1"}, "sglang", load(64))
    new = engine_settings(own | {"backend_version": "0.5.6.post2"}, "sglang", load(64))
    assert old.facts == ()
    assert new.facts == (("scheduler.policy", "mixed"),)


def test_a_script_without_a_switch_launches_what_it_always_does():
    minimax = ROW | {"model": "MiniMaxAI/MiniMax-M2.5", "precision": "fp8"}
    stated = Workers(Parallel(1, 1, 4, 4))
    old = launched(minimax | {"backend_version": "0.17.0"}, "vllm", load(8), Workers(Parallel(4)))
    assert old.parallel == Parallel(4, 1, 1, 4)
    new = launched(minimax | {"backend_version": "0.19.0"}, "vllm", load(8), stated)
    assert new.parallel == Parallel(4, 1, 1, 4)
    other = ROW | {"model": "openai/gpt-oss-120b", "precision": "fp4"}
    assert launched(other, "vllm", load(8), stated) == stated


def test_a_load_that_the_row_does_not_state_is_skipped_with_the_reason():
    row = ROW | {"model": "openai/gpt-oss-120b", "precision": "fp4", "hardware": "H100 SXM"}
    with pytest.raises(Skipped, match="512 users"):
        launched(row | {"date": "2025-12-05"}, "vllm", load(512), Workers(Parallel(4)))
    for day, users in (("2025-12-05", 64), ("2026-03-27", 512), ("", 512)):
        one = Workers(Parallel(4))
        assert launched(row | {"date": day}, "vllm", load(users), one) == one


def test_generated_engines_take_one_or_two_prompts_at_a_time():
    row = {"source": "NVIDIA internal", "notes": "AIC_fields tp=1", "max_batch": "64"}
    assert engine_settings(row, "trtllm", load(64)).token_budget == 1024 + 1500 + 64
    assert engine_settings(row, "sglang", load(64)).token_budget is None
    assert engine_settings(row | {"max_batch": ""}, "vllm", load(64)).token_budget is None
    assert engine_settings(row | {"serving_mode": "disagg"}, "vllm", load(64)).token_budget is None


def test_disaggregated_rows_have_rules_of_their_own():
    deepseek = {"model": "deepseek-ai/DeepSeek-R1-0528", "precision": "fp8"}
    apart = settings(deepseek | {"serving_mode": "disagg", "tp": "8"}, "sglang", 512)
    assert apart.facts == (("communication.all_to_all_automatic", False),)
    assert (apart.poll, apart.token_budget) != (30, 32768)
    aggregated = settings(deepseek | {"tp": "8"}, "sglang", 512)
    assert "communication.all_to_all_automatic" not in dict(aggregated.facts)
    gb200 = {"serving_mode": "disagg", "hardware": "GB200 NVL72"}
    assert settings(deepseek | gb200, "sglang", 512).facts == ()
