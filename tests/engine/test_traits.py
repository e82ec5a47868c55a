"""Engine traits: the data loads, matches what the engines' own code gives, and rejects mistakes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import pytest
from pydantic import TypeAdapter, ValidationError

from aiconf.engine.served import unserved
from aiconf.engine.traits import Traits, backend_names, load_traits
from aiconf.errors import UserError
from aiconf.model.library import load_model
from aiconf.parallel import Parallel
from aiconf.system.catalog import load_system

MIB, GIB = 1 << 20, 1 << 30
H200, H100, B200 = 143771 * MIB, 81559 * MIB, 183359 * MIB


def test_every_backend_loads_and_cites_sources() -> None:
    assert backend_names() == ("sglang", "trtllm", "vllm")
    for name in backend_names():
        traits = load_traits(name)
        fields = {field.name for field in dataclasses.fields(Traits)}
        assert traits.name == name
        assert all(key.split(".")[0] in fields for key in traits.sources)
        for key in traits.sources:
            value: object = traits
            for part in key.split("."):
                value = getattr(value, part)
        cited = {key.split(".")[0] for key in traits.sources}
        sections = {"scheduler", "kv", "memory", "activation", "graphs", "layouts", "host"}
        assert sections | {"communication", "kernels"} <= cited


@pytest.mark.parametrize("alias", ["tensorrt-llm", "trt-llm", "TensorRT-LLM", "trtllm"])
def test_aliases(alias: str) -> None:
    assert load_traits(alias) is load_traits("trtllm")


def test_unknown_backend_names_the_choices() -> None:
    with pytest.raises(UserError, match="unknown backend 'lmdeploy': known: sglang, trtllm, vllm"):
        load_traits("lmdeploy")
    with pytest.raises(UserError, match="did you mean vllm"):
        load_traits("vlm")


def test_extra_keys_are_refused() -> None:
    adapter = TypeAdapter(Traits)
    data = adapter.dump_python(load_traits("vllm"))
    adapter.validate_python(data)
    data["kv"]["watermrk"] = 0.1
    with pytest.raises(ValidationError, match="watermrk"):
        adapter.validate_python(data)


def test_defaults_follow_the_gpu() -> None:
    vllm, sglang, trtllm = (load_traits(name) for name in ("vllm", "sglang", "trtllm"))
    assert (vllm.token_budget(H200, 90), vllm.max_sequences(H200, 90)) == (8192, 1024)
    assert (vllm.token_budget(80 * GIB, 80), vllm.max_sequences(40 * GIB, 80)) == (2048, 256)
    assert sglang.token_budget(H200, 90) == 8192
    assert sglang.token_budget(B200, 100) == 16384
    assert sglang.token_budget(H200, 90, dp=8) == 1024
    assert vllm.token_budget(H200, 90, dp=8) == 8192
    assert sglang.largest_graph(H200, 90, 2) == 256
    assert sglang.largest_graph(H200, 90, 8) == 512
    assert (trtllm.token_budget(H200, 90), trtllm.max_sequences(H200, 90)) == (8192, 2048)
    assert [t.block_tokens(90, "gqa") for t in (vllm, sglang, trtllm)] == [16, 1, 32]
    assert [t.block_tokens(103, "mla") for t in (vllm, sglang, trtllm)] == [32, 64, 32]
    assert [t.block_tokens(90, "compressed") for t in (vllm, sglang, trtllm)] == [256, 256, 128]
    assert [t.block_tokens(90, "indexed") for t in (vllm, sglang, trtllm)] == [64, 64, 32]
    assert [t.block_tokens(103, "indexed") for t in (vllm, sglang, trtllm)] == [64, 64, 32]
    assert [t.block_tokens(90, "chosen") for t in (vllm, sglang, trtllm)] == [128, 128, 128]


def test_kernels_for_caches() -> None:
    vllm, sglang, trtllm = (load_traits(name) for name in ("vllm", "sglang", "trtllm"))
    v4, m3, plain = (load_model(n) for n in ("DeepSeek-V4-Pro", "MiniMax-M3", "Qwen3-32B"))
    hopper, blackwell = load_system("h200_sxm").gpu, load_system("b200_sxm").gpu
    assert "compute capability 10.0 and later, not 9.0" in str(unserved(trtllm, v4, hopper))
    assert unserved(trtllm, v4, blackwell) is None
    assert unserved(trtllm, m3, hopper) is None
    assert "in fp8 only" in str(unserved(vllm, v4, blackwell, "bf16"))
    assert unserved(vllm, v4, hopper) is None
    assert unserved(sglang, v4, hopper, "bf16") is None
    for traits in (vllm, sglang, trtllm):
        assert unserved(traits, plain, hopper, "bf16") is None
    assert trtllm.sparse_setting("chosen", 90) == {"algorithm": "minimax_m3"}
    assert trtllm.sparse_setting("chosen", 103)["implementation"] == "msa"
    assert "implementation" not in trtllm.sparse_setting("chosen", 120)
    assert not trtllm.sparse_setting("gqa", 100)


def test_vllm_graph_sizes() -> None:
    vllm = load_traits("vllm")
    # a public log of a server with 256 sequences counts 51 sizes, the largest 512
    assert len(vllm.graph_sizes(256)) == 51
    assert vllm.graph_sizes(256)[-3:] == (480, 496, 512)
    assert vllm.graph_sizes(1024) == vllm.graph_sizes(256)
    assert vllm.graph_sizes(8) == (1, 2, 4, 8, 16)
    assert vllm.graph_sizes(1) == (1, 2)


def test_sglang_graph_sizes() -> None:
    sglang = load_traits("sglang")
    # a public log of a server with tp 8 lists 52 sizes up to 512
    sizes = sglang.graph_sizes(2048, largest=512)
    assert sizes[:7] == (1, 2, 4, 8, 12, 16, 24) and len(sizes) == 52
    assert sizes[sizes.index(256) : sizes.index(256) + 3] == (256, 272, 288)
    assert sglang.graph_sizes(2048, largest=256)[-1] == 256
    assert sglang.graph_sizes(100)[-2:] == (96, 100)


def test_trtllm_graph_sizes() -> None:
    trtllm = load_traits("trtllm")
    assert trtllm.graph_sizes(2048) == (1, 2, 4, *range(8, 129, 8))
    assert trtllm.graph_sizes(2048, largest=300) == (1, 2, 4, *range(8, 129, 8), 192, 256, 300)
    assert trtllm.graph_sizes(3) == (1, 2, 3)


def test_no_graph_exceeds_the_bound() -> None:
    for name in backend_names():
        traits = load_traits(name)
        for sequences in range(1, 600, 7):
            sizes = traits.graph_sizes(sequences, largest=333)
            assert list(sizes) == sorted(set(sizes)) and sizes[0] >= 1 and sizes[-1] <= 333


def test_prefill_graphs() -> None:
    vllm, sglang, trtllm = (load_traits(name) for name in ("vllm", "sglang", "trtllm"))
    sizes = (1, 2, 4, 512)
    one, group = Parallel(tp=8), Parallel(tp=1, dp=8, ep=8)

    def tokens(traits: Traits, parallel: Parallel, mla: bool = False, split: bool = False) -> int:
        return traits.prefill_graph_tokens(sizes, 8192, parallel, mla=mla, disaggregated=split)

    assert tokens(vllm, one) == 512 and tokens(vllm, group) == 512
    assert tokens(sglang, one) == 8192 and tokens(sglang, one, mla=True) == 2048
    assert tokens(sglang, group) == 0 and tokens(sglang, one, split=True) == 0
    assert tokens(trtllm, one) == 0
    assert vllm.prefill_graph_tokens((), 8192, one, mla=False, disaggregated=False) == 0


def test_sglang_memory_fraction_follows_its_formula() -> None:
    sglang = load_traits("sglang")
    prefill = 8 + 14 + 8 + 8 + 12 + 8  # capture sizes up to 8192 tokens
    reserved = 512 + 8192 * 1.5 + 512 * 2 + 8 / 8 * 1024 + prefill * 8
    want = round((143771 - reserved) / 143771, 3)
    assert sglang.memory_fraction(H200, 90, Parallel(tp=8)) == pytest.approx(want)
    reserved = 512 + 8192 * 1.5 + 512 * 2 + 1024 + 512 * 8 * 4.5
    want = round((143771 - reserved) / 143771, 3)
    assert sglang.memory_fraction(H200, 90, Parallel(dp=8, ep=8)) == pytest.approx(want)
    small = sglang.memory_fraction(H200, 90, Parallel(), token_budget=2048)
    assert small == pytest.approx(round((143771 - 10240) / 143771, 3))  # the 10 GiB floor
    assert load_traits("vllm").memory_fraction(H200, 90, Parallel()) == 0.92


def test_kv_bytes_differ_in_meaning() -> None:
    parts = {"total": 100.0, "reserved": 2.0, "weights": 40.0, "activations": 5.0, "graphs": 1.0}
    values = {name: load_traits(name).kv_bytes(0.9, **parts) for name in backend_names()}
    assert values == pytest.approx(
        {
            "vllm": 90 - 48,  # everything inside the fraction
            "sglang": 0.9 * 98 - 40,  # activations and graphs live outside
            "trtllm": 0.9 * (100 - 48),  # a fraction of what is left
        }
    )


def test_activation_bytes() -> None:
    vllm = load_traits("vllm")

    def peak(tp: int, rows: int) -> float:
        return vllm.activation_bytes(
            tokens=8192, hidden=8192, width=28672 / tp, rows=rows, vocab=128256
        )

    assert 0.5 * GIB < peak(4, 64) < 1.5 * GIB  # the feed-forward block is the peak
    assert 1.5 * GIB < peak(4, 1024) < 2.5 * GIB  # the sampler is
    assert peak(1, 64) > peak(4, 64)


def test_layout_rules() -> None:
    vllm, sglang, trtllm = (load_traits(name) for name in ("vllm", "sglang", "trtllm"))
    for traits in (vllm, sglang, trtllm):
        assert traits.allows(Parallel(tp=8, pp=2)) is None
        assert traits.allows(Parallel(dp=8, ep=8)) is None
        assert traits.allows(Parallel(tp=8, ep=8)) is None
        assert "dense" in (traits.allows(Parallel(dp=2), moe=False) or "")
    assert vllm.allows(Parallel(tp=8, ep=4)) == (
        "vLLM splits experts over all 8 ranks or none: ep 1 or 8"
    )
    assert sglang.allows(Parallel(tp=8, ep=4)) is None
    assert sglang.allows(Parallel(tp=2, dp=4, ep=8)) is None
    assert "spans every rank" in (trtllm.allows(Parallel(tp=2, dp=4, ep=8)) or "")
    assert sglang.asynchronous(Parallel()) and not sglang.asynchronous(Parallel(pp=2))


def test_communication() -> None:
    vllm, sglang, trtllm = (load_traits(name) for name in ("vllm", "sglang", "trtllm"))
    assert vllm.all_reduce_limit(90, 4) == 8 * MIB
    assert vllm.all_reduce_limit(90, 8) == 256 * 1024
    assert vllm.all_reduce_limit(100, 8) == MIB
    assert vllm.all_reduce_limit(103, 6) == 8 * MIB
    assert vllm.all_reduce_limit(90, 16) == 0
    assert sglang.all_reduce_limit(90, 8) == 8 * MIB
    wide, held = Parallel(dp=16, ep=16), frozenset({"nvlink_one_sided", "deepep_ht"})
    assert trtllm.exchange(wide, 72, held) == "nvlink_one_sided"
    assert trtllm.exchange(wide, 8, held) == "deepep_ht"
    assert trtllm.exchange(Parallel(dp=16, ep=4), 72, held) == "allgather_reducescatter"
    assert vllm.exchange(wide, 72, held) == "allgather_reducescatter"
    assert vllm.exchange(Parallel(tp=8, ep=8), 72, held) == "all_reduce"
    assert vllm.exchange(Parallel(), 72, held) == "none"
    assert trtllm.workspace_bytes(Parallel(tp=8)) > trtllm.workspace_bytes(Parallel(dp=8)) == 0


def test_kernel_order() -> None:
    sglang, trtllm = load_traits("sglang"), load_traits("trtllm")
    assert sglang.kernel_order("decode_attention", 90)[0] == "fa3"
    assert sglang.kernel_order("decode_attention", 103)[0] == "trtllm_mha"
    assert trtllm.kernel_order("moe.nvfp4", 100)[0] == "moe_torch_flow_cutlass"
    assert trtllm.kernel_order("moe.nvfp4", 90) == ()
    assert trtllm.kernel_order("no_such_table", 90) == ()


def test_loading_is_quick_and_pydantic_lazy() -> None:
    code = "import sys, aiconf.engine.traits; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    from aiconf.engine import traits as module

    module._load.cache_clear()
    start = time.perf_counter()
    load_traits("vllm")
    assert time.perf_counter() - start < 0.02  # 1 to 2 ms alone; margin for a busy machine
