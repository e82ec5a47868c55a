"""Parameters, bytes, cache and state of models against published figures, each with its source.

HUB: number of parameters in the metadata that the Hugging Face hub keeps of a checkpoint's
safetensors (huggingface.co/api/models/ID, ``safetensors.total``), read through public
repositories that quote it, among them those of kvfit (``scripts/build_registry.py``). GGUF: the
same of the conversion that llama.cpp and its users report (``general.parameter_count``,
``n_params``); it leaves vision towers and MTP layers out. INDEX: ``metadata.total_size`` of
model.safetensors.index.json. HEADERS: sums over the headers of all safetensors files, by a public
audit that lists them. Others are named where they stand.

What publishers count differs, and is said with each figure: MTP layers, vision towers, the input
embedding and the output head.
"""

from dataclasses import replace

import pytest

from aiconf.model import load_model
from aiconf.model.cache import kv_bytes_per_token, state_bytes
from aiconf.model.embedded import family_file
from aiconf.model.memory import (
    active_parameters,
    checkpoint_bytes,
    checkpoint_parameters,
    parameters,
)
from aiconf.parallel import Parallel
from aiconf.resources import data_dir

WITHIN = 0.01
HUB, GGUF, INDEX, HEADERS = "HUB", "GGUF", "INDEX", "HEADERS"

# The language model without MTP layers and vision tower.
MAIN = [
    ("codellama/CodeLlama-34b-Instruct-hf", 33_743_970_304, "Together AI's list of models"),
    ("meta-llama/Llama-2-7b-hf", 6_738_417_664, HUB),  # with rotary buffers
    ("meta-llama/Llama-2-13b-hf", 13_015_866_880, HUB),
    ("meta-llama/Llama-2-70b-hf", 68_976_648_192, "Together AI's list of models"),
    ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, HUB),
    ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496, HUB),
    ("meta-llama/Llama-3.1-405B-Instruct", 405_853_388_800, HUB),
    ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496, HUB),
    ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552, HUB),
    ("mistralai/Mistral-Small-24B-Instruct-2501", 23_572_403_200, HUB),
    ("microsoft/phi-4", 14_659_507_200, HUB),
    ("microsoft/Phi-4-mini-instruct", 3_836_021_760, HUB),
    ("ibm-granite/granite-3.3-8b-instruct", 8_170_864_640, HUB),
    ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, HUB),
    ("Qwen/Qwen2.5-14B-Instruct", 14_770_033_664, GGUF),
    ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352, HUB),
    ("Qwen/Qwen2.5-72B-Instruct", 72_706_203_648, HUB),
    ("Qwen/Qwen3-0.6B", 596_049_920, HUB),
    ("Qwen/Qwen3-1.7B", 1_720_574_976, GGUF),
    ("Qwen/Qwen3-4B", 4_022_468_096, HUB),
    ("Qwen/Qwen3-8B", 8_190_735_360, HUB),
    ("Qwen/Qwen3-14B", 14_768_307_200, HUB),
    ("Qwen/Qwen3-32B", 32_762_123_264, HUB),
    ("Qwen/Qwen3-30B-A3B", 30_532_122_624, HUB),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", 30_532_122_624, HUB),
    ("Qwen/Qwen3-235B-A22B", 235_093_634_560, HUB),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", 235_093_634_560, HUB),
    ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480_154_875_392, HUB),
    # Qwen3-Coder-Next has the same shapes and no MTP layer
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", 79_674_391_296, HUB),
    ("Qwen/Qwen3.5-397B-A17B", 396_346_350_336, HEADERS),
    ("Qwen/Qwen3.5-122B-A10B", 122_111_526_912, GGUF),
    ("Qwen/Qwen3.5-35B-A3B", 34_660_610_688, GGUF),
    ("Qwen/Qwen3.5-27B", 26_895_998_464, GGUF),
    ("google/gemma-3-27b-it", 27_009_346_304, GGUF),
    ("google/gemma-3-12b-it", 11_766_034_176, GGUF),
    ("google/gemma-3-4b-it", 3_880_263_168, GGUF),
    ("google/gemma-4-26B-A4B", 25_233_142_046, GGUF),
    ("google/gemma-4-31b-it", 30.7e9, "model card: 30.7B"),
    ("openai/gpt-oss-120b", 116_829_156_672, HUB),
    ("openai/gpt-oss-20b", 20_914_757_184, HUB),
    ("MiniMaxAI/MiniMax-M2", 228_689_764_864, HUB),
    ("MiniMaxAI/MiniMax-M2.5", 228_703_644_928, HUB),  # with scales
    ("MiniMaxAI/MiniMax-M2.7", 228_689_764_864, HUB),
    ("deepseek-ai/DeepSeek-V3", 671_026_419_200, "HUB, microsoft/MAI-DS-R1 without MTP layer"),
    ("deepseek-ai/DeepSeek-R1", 671_026_419_200, "HUB, microsoft/MAI-DS-R1 without MTP layer"),
    ("zai-org/GLM-4.5-Air", 106_852_251_264, "HUB, PrimeIntellect/INTELLECT-3, no MTP layer"),
    ("zai-org/GLM-5", 744e9, "model card: 744B"),
    ("moonshotai/Kimi-K2-Instruct", 1_026_408_232_448, HEADERS),
    ("moonshotai/Kimi-K2.5", 1_026_879_376_368, HEADERS),  # with the vision tower
    ("moonshotai/Kimi-K3", 2_779_931_837_184, HEADERS),  # with the vision tower
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31_577_937_344, HUB),
    ("nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4", 31_577_937_344, HUB),  # of BF16
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", 120_668_707_840, GGUF),
    ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", 550e9, "model card: 550B"),
    ("nvidia/Nemotron-H-56B-Base-8K", 56e9, "Nemotron-H report (arXiv 2504.03624): 56B"),
    ("inclusionAI/Ling-mini-2.0", 16_255_643_392, HUB),
    ("XiaomiMiMo/MiMo-V2-Flash", 309e9, "MiMo-V2-Flash report: 309B"),
    ("deepseek-ai/DeepSeek-V4-Flash", 284e9, "model card: 284B"),
    ("MiniMaxAI/MiniMax-M3", 428e9, "model card: 428B with the vision tower and the MTP layer"),
    # with the vision tower
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 108_641_793_536, HUB),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 401_583_781_376, HUB),
]

# All tensors of the language model, MTP layers included (their scales are no parameters).
WITH_MTP = [
    ("deepseek-ai/DeepSeek-V3", 684_531_386_000 - 41_555_600, "HUB less its float32 scales"),
    ("deepseek-ai/DeepSeek-R1", 684_489_845_504, HUB),
    ("deepseek-ai/DeepSeek-V3.1", 684_531_386_000 - 41_555_600, "HUB less its float32 scales"),
    ("deepseek-ai/DeepSeek-V3.2", 685_355_329_792, HUB),
    ("zai-org/GLM-4.5", 358_337_791_296, HUB),
    ("zai-org/GLM-4.5-Air", 110_468_824_832, HUB),
    ("zai-org/GLM-4.6", 356_785_898_816, HUB),  # its MTP layer has no ends of its own
    ("zai-org/GLM-4.7", 358_337_791_296, HUB),
    ("zai-org/GLM-5", 753_864_139_008, HUB),
    ("zai-org/GLM-5.2", 753_329_940_480, HUB),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", 81_324_862_720, HUB),
    ("Qwen/Qwen3.5-397B-A17B", 396_346_350_336 + 6_595_568_128, HEADERS),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", 123_611_012_096, "HUB, of BF16"),
]

# Billions, half of the last digit that is printed, and which ends are counted: none, the output
# head, or both. Not here: Qwen3-Next-80B-A3B, whose name says 3 and whose config 3.6 to 3.9.
ACTIVE = [
    ("deepseek-ai/DeepSeek-V3", 37, 0.5, "head", "DeepSeek-V3 report (arXiv 2412.19437)"),
    ("moonshotai/Kimi-K2-Instruct", 32.6, 0.05, "both", "Kimi K2 report (arXiv 2507.20534)"),
    ("openai/gpt-oss-120b", 5.13, 0.005, "head", "gpt-oss model card (arXiv 2508.10925), table 1"),
    ("openai/gpt-oss-20b", 3.61, 0.005, "head", "gpt-oss model card (arXiv 2508.10925), table 1"),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", 12.9, 0.05, "both",
     "mistral.ai/news/mixtral-of-experts"),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", 39, 0.5, "both", "mistral.ai/news/mixtral-8x22b"),
    ("Qwen/Qwen3-235B-A22B", 22, 0.5, "both", "model card"),
    ("Qwen/Qwen3-30B-A3B", 3.3, 0.1, "both", "model card"),  # 3.35 is cut off, not rounded
    ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 35, 0.5, "both", "model card"),
    ("Qwen/Qwen3.5-397B-A17B", 17, 0.5, "both", "model card"),
    ("Qwen/Qwen3.5-122B-A10B", 10, 0.5, "both", "model card"),
    ("Qwen/Qwen3.5-35B-A3B", 3, 0.5, "both", "model card"),
    # neither word embeddings nor output layer (table 1 of its report, arXiv 2508.06471)
    ("zai-org/GLM-4.5", 32, 0.5, "none", "GLM-4.5 report"),
    ("zai-org/GLM-4.5-Air", 12, 0.5, "none", "GLM-4.5 report"),
    ("zai-org/GLM-5", 40, 0.5, "none", "model card"),
    ("MiniMaxAI/MiniMax-M2", 10, 0.5, "none", "model card"),
    ("deepseek-ai/DeepSeek-V4-Flash", 13, 0.5, "head", "model card"),
    ("deepseek-ai/DeepSeek-V4-Pro", 49, 0.5, "head", "model card"),
    ("inclusionAI/Ling-mini-2.0", 1.43, 0.005, "both", "model card"),
    ("inclusionAI/Ling-mini-2.0", 0.789, 0.0005, "none", "model card"),
    ("google/gemma-4-26B-A4B", 3.8, 0.05, "head", "model card"),
    ("XiaomiMiMo/MiMo-V2-Flash", 15, 0.5, "head", "MiMo-V2-Flash report"),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 3.2, 0.05, "head", "report (arXiv 2512.20848)"),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 3.6, 0.05, "both", "report (arXiv 2512.20848)"),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", 12.7, 0.05, "both",
     "report (arXiv 2604.12374)"),
    ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", 55, 0.5, "head", "model card"),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 17, 0.5, "both", "model card"),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 17, 0.5, "both", "model card"),
]  # fmt: skip

BYTES = [
    ("meta-llama/Llama-3.1-8B-Instruct", 16_060_522_496, INDEX),
    ("meta-llama/Llama-3.1-70B-Instruct", 141_107_412_992, INDEX),
    ("microsoft/phi-4", 29_319_014_400, INDEX),
    ("Qwen/Qwen2.5-14B-Instruct", 29_540_067_328, INDEX),
    ("Qwen/Qwen2.5-32B-Instruct", 65_527_752_704, INDEX),
    ("Qwen/Qwen3-32B", 65_524_246_528, INDEX),
    ("Qwen/Qwen3-235B-A22B", 470_187_269_120, INDEX),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", 93_405_585_408, INDEX),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", 281_241_268_224, HEADERS),
    ("openai/gpt-oss-20b", 13_761_264_768, INDEX),
    ("openai/gpt-oss-120b", 65_248_815_744, INDEX),
    ("deepseek-ai/DeepSeek-V3", 688_586_727_753, INDEX),
    ("moonshotai/Kimi-K2-Instruct", 1_029_173_256_720, HEADERS),
    ("moonshotai/Kimi-K2-Thinking", 594_205_920_512, HEADERS),
    ("moonshotai/Kimi-K2.5", 595_148_192_736, HEADERS),  # with the vision tower
    ("moonshotai/Kimi-K3", 1_560_860_324_864, HEADERS),  # with the vision tower
    ("Qwen/Qwen3.5-397B-A17B", 806_795_875_168, HEADERS),
    ("Qwen/Qwen3-VL-2B-Instruct", 4_255_064_064, INDEX),  # all sizes with the vision tower
    ("Qwen/Qwen3-VL-4B-Instruct", 8_875_631_616, INDEX),
    ("Qwen/Qwen3-VL-8B-Instruct", 17_534_247_392, INDEX),
    ("Qwen/Qwen3-VL-32B-Instruct", 66_714_780_128, INDEX),
    ("google/gemma-3-4b-it", 2 * 4_300_079_472, HUB),
    ("google/gemma-3-12b-it", 2 * 12_187_325_040, HUB),
    # bf16 throughout, so that the hub's count says the bytes
    ("zai-org/GLM-4.6", 2 * 356_785_898_816, HUB),
    ("zai-org/GLM-5", 2 * 753_864_139_008, HUB),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", 2 * 81_324_862_720, HUB),
]

# Bytes of a token in bf16, all layers, and where it is printed.
KV = [
    ("deepseek-ai/DeepSeek-V3", 70_272, "Insights into DeepSeek-V3 (arXiv 2505.09343), table 1"),
    ("Qwen/Qwen2.5-72B-Instruct", 327_680, "Insights into DeepSeek-V3, table 1"),
    ("meta-llama/Llama-3.1-405B-Instruct", 516_096, "Insights into DeepSeek-V3, table 1"),
    # what vLLM asks for one request of the longest context
    ("MiniMaxAI/MiniMax-M2.7", 2 * 23.25 * 2**30 / 196_608,
     "github.com/eugr/spark-vllm-docker/issues/396, two ranks"),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", 24.0 * 2**30 / 262_144,
     "github.com/vllm-project/vllm/issues/34076, Qwen3-Coder-30B-A3B"),
]  # fmt: skip

# vLLM makes a page of attention as large as the state of one layer and says how much it added:
# tokens of a page, added per cent, bytes of a token in one layer, layers with a state.
STATE = [
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4", 4176, 0.19, 2 * 2 * 128, 23,
     "start-up log of vLLM 0.19.0, chankhavu/Nemotron-Cascade-2-30B-A3B-NVFP4, fp8 cache"),
    ("Qwen/Qwen3.5-27B", 1568, 0.13, 2 * 4 * 256, 48,
     "github.com/noonghunna/club-3090/issues/1047, Qwen3.8-27B of the same shapes, fp8 cache"),
    ("Qwen/Qwen3.5-35B-A3B", 1056, 0.76, 2 * 2 * 256 * 2, 30,
     "start-up log of vLLM quoted for Qwen3.5-35B-A3B, bf16 cache"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "published", "source"), MAIN)
def test_parameters(name, published, source):
    spec = replace(load_model(name), vision=None)
    assert parameters(spec) == pytest.approx(published, rel=WITHIN), source


@pytest.mark.parametrize(("name", "published", "source"), WITH_MTP)
def test_parameters_with_mtp_layers(name, published, source):
    spec = replace(load_model(name), vision=None)
    assert checkpoint_parameters(spec) == pytest.approx(published, rel=1e-4), source


@pytest.mark.parametrize(("name", "billions", "half", "ends", "source"), ACTIVE)
def test_active_parameters(name, billions, half, ends, source):
    spec = load_model(name)
    end = spec.vocab * spec.hidden
    counted = {"none": -end, "head": 0, "both": 0 if spec.tied_embeddings else end}[ends]
    found = (active_parameters(spec) + counted) / 1e9
    assert found == pytest.approx(billions, abs=max(half, WITHIN * billions)), source


@pytest.mark.parametrize(("name", "published", "source"), BYTES)
def test_size_of_the_checkpoint(name, published, source):
    assert checkpoint_bytes(load_model(name)) == pytest.approx(published, rel=WITHIN), source


@pytest.mark.parametrize(("name", "published", "source"), KV)
def test_cache_of_a_token(name, published, source):
    found = kv_bytes_per_token(load_model(name), Parallel(), "bf16")
    assert found == pytest.approx(published, rel=WITHIN), source


@pytest.mark.parametrize(("name", "tokens", "added", "each", "layers", "source"), STATE)
def test_state_of_a_sequence(name, tokens, added, each, layers, source):
    page = tokens * each / (1 + added / 100)
    found = state_bytes(load_model(name), Parallel())
    assert found == pytest.approx(layers * page, rel=WITHIN), source


@pytest.mark.parametrize("path", sorted(data_dir("models").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_embedded_model_has_a_published_figure(path):
    """Here, or in its own file, which `test_parameters` holds it to."""
    family = family_file(path)
    listed = {name for name, *_ in (*MAIN, *WITH_MTP, *BYTES)}
    own = {name for c in family["checkpoints"] for name in (c["id"], *c["also"])}
    assert own & listed or family["parameters"], "add its published parameters, with their source"
