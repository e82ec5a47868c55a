"""Settings of the recipes of disaggregated runs, from the row to the engines that are replayed."""

from aiconf.parallel import Parallel
from aiconf.runs.measured import Traffic, Workers
from aiconf.runs.predict import _platform, _prefill_settings
from aiconf.runs.protocols import launched
from aiconf.runs.read_csv import read_row

ROW = {
    "source": "InferenceX dashboard", "date": "2026-03-18", "hardware": "B200 SXM",
    "backend": "sglang", "backend_version": "v0.5.8.post1", "precision": "fp8",
    "model": "deepseek-ai/DeepSeek-R1-0528", "serving_mode": "disagg", "isl": "8192",
    "osl": "1024", "concurrency_or_rate": "1024", "ttft_ms_p50": "7878", "tpot_ms_mean": "53.6",
    "prefill_config": "workers=3;tp=8;ep=1;dp_attn=true;gpus=24",
    "decode_config": "workers=1;tp=8;ep=8;dp_attn=true;gpus=8", "mtp/spec": "none",
    "isl_osl_note": "random; request-rate inf, max-concurrency=conc", "length_range": "0.8",
}  # fmt: skip


def test_a_listed_run_is_told_what_its_recipe_says():
    """github.com/NVIDIA/srt-slurm, recipes/b200-fp8/8k1k_stp_maxtpt_3.yaml."""
    told = read_row(ROW).run.deployment
    assert (told.kv_dtype, told.memory, told.max_sequences) == ("fp8", 0.75, 128)
    assert (told.prompt_tokens, told.prompts) == (8192, 1)
    assert ("communication.all_to_all_automatic", False) in told.changes


def test_a_run_of_somebody_else_is_not():
    told = read_row(ROW | {"source": "my cluster", "isl_osl_note": ""}).run.deployment
    assert (told.memory, told.max_sequences, told.prompt_tokens) == (None, None, None)


def test_a_budget_of_each_rank_is_that_of_an_engine_that_shares_it():
    told = read_row(ROW).run.deployment
    place = _platform(told, None)
    assert place.traits.scheduler.budget_shared_by_dp
    assert told.prefill == Workers(Parallel(dp=8), 3)
    assert _prefill_settings(told, place).token_budget == 8 * 8192


def test_a_script_without_a_switch_for_experts_runs_them_plain():
    cells = ROW | {"model": "moonshotai/Kimi-K2.5", "backend": "vllm", "serving_mode": "agg"}
    spread = Workers(Parallel(tp=8, ep=8))
    load = Traffic("closed", 8192, 1024, users=64)
    assert launched(cells, "vllm", load, spread) == Workers(Parallel(tp=8))
