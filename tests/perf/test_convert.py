import json

import pandas as pd
import pytest

from aiconf.errors import UserError
from aiconf.perf.convert import find_package, import_tables
from aiconf.perf.convert.names import mla_scope, precision
from aiconf.perf.convert.source import SourceFile, choose_versions
from aiconf.perf.manifest import read_entries
from aiconf.perf.store import Folder, PerfDb

YAML = "node:\n  num_gpus_per_node: {}\n"


@pytest.fixture
def package(tmp_path):
    """An empty source package; the returned function adds a table to it."""
    root = tmp_path / "site" / "aiconfigurator_core"
    (root / "systems" / "data").mkdir(parents=True)
    (tmp_path / "site" / "aiconfigurator_core-0.12.0.dist-info").mkdir()

    def add(place, rows, device="NVIDIA H200"):
        path = root / "systems" / "data" / f"{place}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        system, version = place.split("/")[0], place.split("/")[3]
        (root / "systems" / f"{system}.yaml").write_text(YAML.format(4 if "gb" in system else 8))
        frame = pd.DataFrame(rows)
        frame["version"] = version
        if "device" not in frame:
            frame["device"] = device
        frame.to_parquet(path)

    add.site = tmp_path / "site"
    return add


def convert(package, tmp_path, *systems):
    out = tmp_path / "perf_db"
    summary = import_tables(find_package(package.site), out, systems or ["h200_sxm"], "2026-01-02")
    entries = json.loads((out / "manifest.json").read_text())["tables"]
    return PerfDb([Folder(out, read_entries(out))]), entries, summary


def gemm(latency, kernel="k", m=1, **more):
    row = {"kernel_source": kernel, "gemm_dtype": "bfloat16", "m": m, "n": 7, "k": 7}
    return row | {"latency": latency} | more


def test_milliseconds_become_seconds_and_repeats_their_median(package, tmp_path):
    rows = [gemm(1.0), gemm(2.0), gemm(9.0), gemm(4.0, kernel="other"), gemm(5.0, m=2)]
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", rows)
    db, (entry,), summary = convert(package, tmp_path)
    found = db.read("h200_sxm", "vllm", "gemm", {"n": 7, "k": 7})
    assert found["seconds"].tolist() == pytest.approx([2e-3, 5e-3, 4e-3], rel=2e-4)
    assert found["kernel"].tolist() == ["k", "k", "other"]
    assert (entry["rows"], entry["duplicates_merged"], summary.duplicates) == (3, 2, 2)
    assert entry["licence"] == "Apache-2.0"
    assert entry["date"] == "2026-01-02"
    assert entry["origin"]["version"] == "0.12.0"
    assert entry["origin"]["files"][0]["path"].startswith("h200_sxm/gemm/vllm/0.24.0")


def test_nccl_counts_elements_and_only_its_newest_version_is_taken(package, tmp_path):
    row = {"kernel_source": "NCCL", "op_name": "alltoall", "num_gpus": 8, "message_size": 1024}
    rows = [row | {"nccl_dtype": d, "latency": 1.0} for d in ("half", "int8")]
    package("h200_sxm/comm/nccl/2.29.2/nccl_perf", rows)
    package("h200_sxm/comm/nccl/2.23/nccl_perf", [r | {"message_size": 2048} for r in rows])
    db, (entry,), _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "nccl", "collective")
    sizes = dict(zip(found["dtype"], found["bytes"].tolist(), strict=True))
    assert sizes == {"fp16": 2048, "int8": 1024}
    assert set(found["op"]) == {"all_to_all"}
    assert entry["versions"] == ["2.29.2"]


def test_custom_all_reduce_counts_elements_too(package, tmp_path):
    row = {"op_name": "all_reduce", "allreduce_dtype": "bfloat16", "num_gpus": 2}
    row |= {"message_size": 2**30, "latency": 1.0, "kernel_source": "vLLM_custom_graph"}
    package("h200_sxm/comm/vllm/0.24.0/custom_allreduce_perf", [row])
    db, _, _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "vllm", "collective")
    assert (found["bytes"].tolist(), found["kernel"].tolist()) == ([2**31], ["custom_graph"])


def test_an_unknown_element_size_is_an_error(package, tmp_path):
    row = {"op_name": "all_reduce", "nccl_dtype": "fp6", "num_gpus": 2, "message_size": 1}
    row |= {"latency": 1.0, "kernel_source": "NCCL"}
    package("h200_sxm/comm/nccl/2.29.2/nccl_perf", [row])
    with pytest.raises(UserError, match="fp6"):
        convert(package, tmp_path)
    assert not list(tmp_path.glob("**/*.new")) + list(tmp_path.glob(".perf_db*"))


def test_a_newer_version_with_a_few_shapes_wins_where_it_measured(package, tmp_path):
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", [gemm(1.0, m=m) for m in range(1, 9)])
    package("h200_sxm/gemm/vllm/0.24.0rc1/gemm_perf", [gemm(7.0, m=m) for m in range(2, 10)])
    package("h200_sxm/gemm/vllm/0.25.0/gemm_perf", [gemm(3.0, m=2), gemm(3.0, m=20)])
    db, (entry,), _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "vllm", "gemm")
    times = dict(zip(found["m"].tolist(), (found["seconds"] * 1e3).round().tolist(), strict=True))
    assert times == {1: 1, 2: 3, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 20: 3}
    assert (entry["version"], entry["versions"]) == ("0.24.0", ["0.24.0", "0.25.0"])
    assert entry["superseded"] == 1


def test_rows_of_another_gpu_are_dropped(package, tmp_path):
    rows = [gemm(1.0) | {"device": "NVIDIA H200"}, gemm(2.0, m=2) | {"device": "NVIDIA H100"}]
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", rows)
    db, (entry,), _ = convert(package, tmp_path)
    assert db.read("h200_sxm", "vllm", "gemm")["m"].tolist() == [1]
    assert entry["dropped"] == 1


DEEPEP = {
    "node_num": 1,
    "hidden_size": 7168,
    "num_token": 128,
    "num_topk": 8,
    "num_experts": 256,
    "dispatch_sms": 20,
    "combine_sms": 24,
    "dispatch_transmit_us": 100.0,
    "dispatch_notify_us": 10.0,
    "combine_transmit_us": 200.0,
    "combine_notify_us": 0.0,
}


def test_deepep_micros_and_copies_of_h100(package, tmp_path):
    """H200's old DeepEP table is a copy of H100's; H100's own adds its rows on several nodes."""
    old = [DEEPEP | {"dispatch_transmit_us": 1.0}, DEEPEP | {"node_num": 2}]
    for system, gpu in (("h200_sxm", "NVIDIA H200"), ("h100_sxm", "NVIDIA H100 80GB HBM3")):
        place = f"{system}/comm/sglang/{{}}/wideep_deepep_normal_perf"
        package(place.format("0.5.6.post2"), old, gpu)
        package(place.format("0.5.12"), [DEEPEP], gpu)
    db, _, _ = convert(package, tmp_path, "h200_sxm", "h100_sxm")
    found = db.read("h200_sxm", "sglang", "moe_all_to_all")
    assert found["phase"].tolist() == ["combine", "dispatch"]
    assert found["seconds"].tolist() == pytest.approx([200e-6, 110e-6], rel=2e-4)
    assert found["sms"].tolist() == [24, 20]
    assert set(found["ep"]) == {8}
    more = db.read("h100_sxm", "sglang", "moe_all_to_all", {"phase": "dispatch"})
    assert more["ep"].tolist() == [8, 16]
    assert more["seconds"].tolist() == pytest.approx([110e-6, 110e-6], rel=2e-4)


def test_contexts_of_mla_decode_come_from_step_or_isl(package, tmp_path):
    row = {"kernel_source": "k", "mla_dtype": "bfloat16", "kv_cache_dtype": "fp8"}
    row |= {"num_heads": 16, "batch_size": 2, "latency": 1.0}
    kimi = {"model": "moonshotai/Kimi-K3", "gemm_type": "nvfp4", "isl": 1, "step": 4}
    place = "h200_sxm/mla/sglang/0.5.14/"
    package(place + "generation_mla_perf", [row | {"isl": 1, "step": 3}])
    package(place + "mla_generation_module_perf", [row | kimi])
    package(place + "wideep_generation_mla_perf", [row | {"isl": 64, "step": 0}])
    db, _, _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "sglang", "mla_decode")
    rows = zip(found["scope"], found["gemm_dtype"], found["past"].tolist(), strict=True)
    expected = [
        ("kernel", "", 3),
        ("module_kimi_k3", "nvfp4", 4),
        ("module_wide", "fp8_block", 64),
    ]
    assert list(rows) == expected


GDN = {
    "kernel_source": "chunk_gated_delta_rule",
    "op_name": "gdn",
    "phase": "context",
    "batch_size": 2,
    "seq_len": 64,
    "num_k_heads": 4,
    "num_v_heads": 16,
    "head_k_dim": 128,
    "head_v_dim": 128,
}


def test_gated_delta_net_of_models_with_equal_heads_is_merged(package, tmp_path):
    rows = [
        GDN | {"d_model": 4096, "latency": 2.0},
        GDN | {"d_model": 3072, "latency": 4.0},
        GDN | {"kernel_source": "causal_conv1d_update", "phase": "generation", "latency": 1.0},
    ]
    package("h200_sxm/linear_attention/vllm/0.24.0/gdn_perf", rows)
    db, _, _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "vllm", "linear_attention")
    places = [found[name].tolist() for name in ("stage", "phase", "batch", "isl")]
    assert places == [["conv", "scan"], ["decode", "prefill"], [2, 2], [64, 64]]
    assert found["seconds"].tolist() == pytest.approx([1e-3, 3e-3], rel=2e-4)


DSA = {
    "kernel_source": "k",
    "op_name": "dsa_context_module",
    "architecture": "GlmMoeDsaForCausalLM",
    "gemm_type": "fp8_block",
    "mla_dtype": "bfloat16",
    "kv_cache_dtype": "fp8",
    "num_heads": 8,
    "batch_size": 1,
    "isl": 1024,
    "step": 0,
    "latency": 1.0,
}


def test_sparse_blocks_without_a_past_and_with_or_without_an_indexer(package, tmp_path):
    rows = [DSA, DSA | {"step": 4096}, DSA | {"op_name": "dsa_context_module_skip_indexer"}]
    package("h200_sxm/sparse_attention/vllm/0.24.0/dsa_context_module_perf", rows)
    db, _, _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "vllm", "dsa_prefill")
    assert found["indexer"].tolist() == [False, True]
    assert found["hidden"].tolist() == [6144, 6144]
    package(
        "h200_sxm/sparse_attention/vllm/0.24.0/dsa_context_module_perf",
        [DSA | {"architecture": "Other"}],
    )
    with pytest.raises(UserError, match="Other"):
        convert(package, tmp_path)


def test_wide_moe_splits_the_balancer_from_the_distribution(package, tmp_path):
    row = {"kernel_source": "k", "moe_dtype": "w4a8_mxfp4_mxfp8", "num_tokens": 64, "topk": 8}
    row |= {"hidden_size": 1, "inter_size": 2, "num_experts": 256, "num_slots": 288}
    row |= {"moe_tp_size": 1, "moe_ep_size": 8, "latency": 1.0}
    rows = [row | {"distribution": d} for d in ("power_law_1.2", "power_law_1.2_eplb")]
    package("h200_sxm/moe/trtllm/1.3.0/wideep_moe_perf", rows)
    db, _, _ = convert(package, tmp_path)
    found = db.read("h200_sxm", "trtllm", "moe_wide")
    assert found["eplb"].tolist() == [False, True]
    assert set(found["distribution"]) == {"power_law_1.2"}
    assert set(found["dtype"]) == {"mxfp4_fp8"}
    assert set(found["slots"].tolist()) == {288}


def test_import_keeps_other_systems_and_removes_what_is_gone(package, tmp_path):
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", [gemm(1.0)])
    package("h200_sxm/gemm/sglang/0.5.14/gemm_perf", [gemm(1.0)])
    package("gb200/gemm/vllm/0.24.0/gemm_perf", [gemm(1.0)], "NVIDIA GB200")
    convert(package, tmp_path, "h200_sxm", "gb200")
    data = package.site / "aiconfigurator_core/systems/data"
    (data / "h200_sxm/gemm/sglang/0.5.14/gemm_perf.parquet").unlink()
    _, entries, _ = convert(package, tmp_path, "h200_sxm")
    places = [(e["system"], e["backend"]) for e in entries]
    assert places == [("gb200", "vllm"), ("h200_sxm", "vllm")]
    assert not (tmp_path / "perf_db/h200_sxm/sglang/gemm.parquet").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["perf_db", "site"]


def test_encoder_attention_and_an_import_of_one_table_alone(package, tmp_path):
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", [gemm(1.0)])
    row = {"kernel_source": "fa3", "attn_dtype": "bfloat16", "num_heads": 16, "head_dim": 72}
    rows = [row | {"batch_size": 2, "isl": 4096, "latency": 0.5}]
    package("h200_sxm/encoder_attention/vllm/0.24.0/encoder_attention_perf", rows)
    _, (_, before), _ = convert(package, tmp_path)
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", [gemm(7.0)])
    out = tmp_path / "perf_db"
    found = find_package(package.site)
    import_tables(found, out, ["h200_sxm"], "2026-03-04", only=["encoder_attention"])
    db = PerfDb([Folder(out, read_entries(out))])
    entries = json.loads((out / "manifest.json").read_text())["tables"]
    assert [e["date"] for e in entries] == ["2026-03-04", "2026-01-02"]
    assert entries[1] == before
    kept = db.read("h200_sxm", "vllm", "gemm")["seconds"]
    assert kept.tolist() == pytest.approx([1e-3], rel=2e-4)
    columns = db.read("h200_sxm", "vllm", "encoder_attention")
    assert {name: values.tolist() for name, values in columns.items()} == {
        "dtype": ["bf16"], "head_dim": [72], "heads": [16], "kernel": ["fa3"], "batch": [2],
        "isl": [4096], "seconds": pytest.approx([0.5e-3], rel=2e-4),
    }  # fmt: skip
    with pytest.raises(UserError, match="unknown table 'encoder_atention'"):
        import_tables(found, out, ["h200_sxm"], only=["encoder_atention"])


def test_mistakes_are_one_line(package, tmp_path):
    with pytest.raises(UserError, match=r"holds no aiconfigurator_core"):
        find_package(tmp_path / "elsewhere")
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", [gemm(1.0)])
    with pytest.raises(UserError, match="did you mean h200_sxm"):
        convert(package, tmp_path, "h200")
    package("h200_sxm/gemm/vllm/0.24.0/gemm_perf", [{"latency": 1.0}])
    with pytest.raises(UserError, match=r"cannot convert .*gemm_perf"):
        convert(package, tmp_path)
    mine = tmp_path / "mine" / "a" / "b"
    mine.mkdir(parents=True)
    (mine / "gemm.parquet").write_text("")
    with pytest.raises(UserError, match=r"no manifest\.json"):
        import_tables(find_package(package.site), tmp_path / "mine", ["h200_sxm"])


def test_names():
    assert precision("bfloat16") == "bf16"
    assert precision("something_new") == "something_new"
    assert mla_scope("deepseek-ai/DeepSeek-V3") == "module"


def test_copies_alone_leave_nothing(tmp_path):
    file = SourceFile(
        tmp_path, "h200_sxm", "sglang", "0.5.6.post2", "wideep_deepep_ll_perf", rows=9
    )
    assert choose_versions([file]) == []
