"""Figures of a model against memory.py and against sums done by hand."""

import pytest

from aiconf.model import load_model, model_names
from aiconf.model.cache import kv_bytes_per_token
from aiconf.model.figures import (
    cache_read_bytes,
    decode_bytes,
    embedding_parameters,
    parts,
    token_flops,
)
from aiconf.model.memory import active_parameters, parameters
from aiconf.parallel import Parallel


@pytest.mark.parametrize("name", model_names())
def test_parts_add_up(name):
    spec = load_model(name)
    found = parts(spec)
    assert sum(part.count for part in found) == pytest.approx(parameters(spec))
    assert sum(part.active for part in found) == pytest.approx(active_parameters(spec))
    assert len({(part.name, part.precision) for part in found}) == len(found)


def test_parts_of_experts():
    by_name = {part.name: part for part in parts(load_model("Mixtral-8x7B"))}
    routed = by_name["routed experts"]
    assert routed.count == 32 * 8 * 3 * 4096 * 14336
    assert routed.active == routed.count / 4
    assert by_name["embedding"].active == 0
    assert embedding_parameters(load_model("Mixtral-8x7B")) == 32000 * 4096


def test_flops_of_a_dense_model():
    spec = load_model("Llama-3.1-8B")
    attention = 32 * 4 * 32 * 128 * 1000  # layers x 2 products x 2 FLOP x heads x size x keys
    assert token_flops(spec, 1000) == pytest.approx(2 * active_parameters(spec) + attention)
    prompt = token_flops(spec, 1000, prompt=True)
    assert token_flops(spec, 500) == pytest.approx(prompt)


def test_flops_of_latent_attention():
    spec = load_model("DeepSeek-V3")
    weights = 2 * active_parameters(spec)
    # absorbed: 512 + 64 to score and 512 to sum; in prompts 192 to score and 128 to sum
    assert token_flops(spec, 1000) - weights == pytest.approx(61 * 2 * 128 * 1088 * 1000)
    assert token_flops(spec, 1000, prompt=True) - weights == pytest.approx(61 * 2 * 128 * 320 * 500)


def test_work_of_windows_and_choices_ends():
    windowed = load_model("gpt-oss-20b")  # 128 tokens in 12 of 24 layers
    more = token_flops(windowed, 8192) - token_flops(windowed, 4096)
    assert more == pytest.approx(12 * 4 * 64 * 64 * 4096)
    more = cache_read_bytes(windowed, 8192, "bf16") - cache_read_bytes(windowed, 4096, "bf16")
    assert more == pytest.approx(12 * 2 * 8 * 64 * 2 * 4096)
    sparse = load_model("DeepSeek-V3.2")
    more = token_flops(sparse, 8192) - token_flops(sparse, 4096)
    assert more == pytest.approx(61 * 2 * 64 * 128 * 4096)  # the indexer alone
    more = cache_read_bytes(sparse, 8192, "fp8") - cache_read_bytes(sparse, 4096, "fp8")
    assert more == pytest.approx(61 * 132 * 4096)
    assert cache_read_bytes(sparse, 2048, "fp8") == pytest.approx(
        2048 * kv_bytes_per_token(sparse, Parallel(), "fp8")
    )


def test_compressed_attention():
    # 43 windows of 128; 21 layers choose 512 of C / 4 entries, 20 see all C / 128
    spec = load_model("DeepSeek-V4-Flash")
    more = token_flops(spec, 16384) - token_flops(spec, 8192)
    index, rest = 21 * 64 * 128 * 8192 / 4, 20 * 2 * 64 * 512 * 8192 / 128
    assert more == pytest.approx(2 * (index + rest))
    more = cache_read_bytes(spec, 16384, "fp8") - cache_read_bytes(spec, 8192, "fp8")
    assert more == pytest.approx(21 * 132 * 8192 / 4 + 20 * 584 * 8192 / 128)


def test_text_does_not_read_the_tower():
    spec = load_model("Qwen3-VL-2B")
    text = sum(part.size for part in parts(spec) if part.name != "vision tower")
    assert decode_bytes(spec, 1, 0, "bf16") == pytest.approx(text)


def test_linear_attention_does_not_grow_with_the_past():
    spec = load_model("Nemotron-3-Nano-30B-A3B")
    attention = 6 * 2 * 32 * 256 * 1000
    assert token_flops(spec, 2000) - token_flops(spec, 1000) == pytest.approx(attention)


def test_bytes_of_a_batch():
    spec = load_model("Mixtral-8x7B")
    by_name = {part.name: part.size for part in parts(spec)}
    routed, embedding = by_name["routed experts"], by_name["embedding"]
    rest = sum(by_name.values()) - routed - embedding
    cache = 1000 * kv_bytes_per_token(spec, Parallel(), "bf16")
    assert decode_bytes(spec, 1, 1000, "bf16") == pytest.approx(rest + routed / 4 + cache)
    # two tokens hit 1 - (3/4)^2 of the experts
    expected = rest + routed * 7 / 16 + 2 * cache
    assert decode_bytes(spec, 2, 1000, "bf16") == pytest.approx(expected)
