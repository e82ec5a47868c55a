"""Settings of InferenceX's disaggregated engines, found by what a row states."""

import pytest

from aiconf.parallel import Parallel
from aiconf.runs.inferencex_disagg import launched_apart
from aiconf.runs.measured import Traffic, Workers

ROW = {
    "model": "deepseek-ai/DeepSeek-R1-0528", "backend": "trtllm", "precision": "fp4",
    "hardware": "GB200 NVL72", "date": "2026-03-01",
}  # fmt: skip
PREFILL, DECODE = Workers(Parallel(1, 1, 4, 4), 5), Workers(Parallel(1, 1, 8, 8), 1)


def told(users=2150, drafts=False, **cells):
    load = Traffic("closed", 8192, 1024, users=users)
    return launched_apart(ROW | cells, load, PREFILL, DECODE, drafts=drafts)


def test_the_decode_batch_is_below_the_users():
    """github.com/SemiAnalysisAI/InferenceX: 5 x dep4, dep8 with 256 a rank for 2,150 users."""
    assert told().slots == 256
    assert told(model="deepseek-ai/DeepSeek-V3").slots == 256


def test_the_list_of_the_day_counts():
    early = told(date="2026-01-10")
    assert (early.slots, early.prompt_tokens, early.prompts) == (256, 8448, 1)


@pytest.mark.parametrize(
    "other",
    [{"backend": "sglang"}, {"hardware": "H200 SXM"}, {"model": "zai-org/GLM-5"}, {"users": 2151},
     {"drafts": True, "users": 7}],
)  # fmt: skip
def test_what_is_not_listed_is_not_known(other):
    assert told(**other) is None


def test_sglangs_recipes_are_read_for_one_rank():
    """github.com/NVIDIA/srt-slurm, recipes/b200-fp8/8k1k_stp_maxtpt_3.yaml: 1,024 requests and
    chunks of 65,536 for eight ranks, no --moe-a2a-backend."""
    load = Traffic("closed", 8192, 1024, users=1024)
    row = ROW | {"backend": "sglang", "precision": "fp8", "hardware": "B200 SXM"}
    prefill = Workers(Parallel(dp=8), 3)
    told = launched_apart(row, load, prefill, DECODE, drafts=False)
    assert (told.slots, told.prompt_tokens, told.prompts) == (128, 8192, 1)
    assert told.kv == "fp8"
    assert dict(told.facts) == {"communication.all_to_all_automatic": False}
