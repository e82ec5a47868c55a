"""``estimate --from``, ``cli --baseline`` and ``deploy diff`` with Dynamo manifests."""

from __future__ import annotations

import json

import pytest
import yaml

SEARCH = ("cli", "--model", "Qwen/Qwen3-32B-FP8", "--total-gpus", "8", "--system", "h200_sxm",
          "--isl", "2000", "--osl", "200", "--tpot", "40")  # fmt: skip


def manifest(path, *args, replicas=4, gpus=2, image="1.6.1", model="Qwen/Qwen3-32B-FP8", env=()):
    """Write a deployment of aggregated vLLM workers of two GPUs."""
    container = {
        "name": "main",
        "image": f"nvcr.io/nvidia/ai-dynamo/vllm-runtime:{image}",
        "command": ["python3", "-m", "dynamo.vllm"],
        "args": ["--model", model, "--tensor-parallel-size", str(gpus), *args],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    front = {"name": "main", "image": container["image"], "env": list(env)}
    graph = {
        "apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment",
        "metadata": {"name": "today"},
        "spec": {"components": [
            {"name": "front", "type": "frontend", "replicas": 1,
             "podTemplate": {"spec": {"containers": [front]}}},
            {"name": "worker", "type": "worker", "replicas": replicas,
             "podTemplate": {"spec": {"containers": [container]}}},
        ]},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(graph))
    return path


def test_estimate_from_a_manifest(aiconf, tmp_path):
    path = manifest(tmp_path / "a.yaml", "--max-num-seqs", "32", "--enable-dbo")
    code, out, _ = aiconf("estimate", "--from", path, "--system", "h200", "--isl", "2000")
    assert code == 0
    assert "4 x tp2pp1dp1ep1 on 8 GPUs" in out
    assert "128 in flight" in out
    assert "not modelled of component worker: enable-dbo" in out
    line = ("estimate", "--from", path, "--system", "h200", "--isl", "2000", "--format", "json")
    full = json.loads(aiconf(*line)[1])["best"]
    same = json.loads(aiconf(*line, "--concurrency", "32")[1])["best"]
    assert full["concurrency"] == same["concurrency"] == 128
    less = json.loads(aiconf(*line, "--concurrency", "8")[1])["best"]
    assert less["concurrency"] == 32 and less["tpot_ms"] < full["tpot_ms"]
    direct = json.loads(
        aiconf("estimate", "--model", "Qwen/Qwen3-32B-FP8", "--system", "h200", "--layout", "tp2",
               "--workers", "4", "--concurrency", "8", "--isl", "2000", "--format", "json")[1]
    )["best"]  # fmt: skip
    assert less["tpot_ms"] == pytest.approx(direct["tpot_ms"], rel=0.02)
    assert less["ttft_ms"] == pytest.approx(direct["ttft_ms"], rel=0.02)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--isl", "2000"), "nothing says on which GPUs component worker runs"),
        (("--system", "h200", "--layout", "tp4"), "--layout is read from the manifest"),
        (("--system", "h200", "--backend", "vllm"), "--backend is read from the manifest"),
        (("--system", "h200", "--out", "x.csv"), "--out is for a CSV"),
        (("--system", "h200", "--concurrency", "0"), "concurrency must be"),
        (("--system", "h300"), "unknown system"),
        (("--system", "h200", "--isl", "60000"), "serves 40,960 tokens at most"),
    ],
)
def test_estimate_that_cannot_be_answered(aiconf, tmp_path, words, says):
    path = manifest(tmp_path / "a.yaml")
    code, out, err = aiconf("estimate", "--from", path, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_missing_manifest(aiconf, tmp_path):
    for command in (("estimate", "--from"), (*SEARCH, "--baseline")):
        code, out, err = aiconf(*command, tmp_path / "none.yaml")
        assert (code, out) == (2, "")
        assert "none.yaml: No such file" in err


def test_baseline(aiconf, tmp_path):
    path = manifest(tmp_path / "a.yaml", "--max-num-seqs", "8", "--enable-dbo")
    code, out, _ = aiconf(*SEARCH, "--baseline", path)
    assert code == 0
    block = out[out.index(f"Against {path}") :].split("\n\n")[0].splitlines()
    assert len(block) <= 6
    assert block[1].strip().startswith("today") and "(4 x tp2pp1dp1ep1)" in block[1]
    assert "more output tok/s/GPU" in block[3]
    assert "not modelled" in block[4]
    document = json.loads(aiconf(*SEARCH, "--baseline", path, "--format", "json")[1])
    found, best = document["baseline"], document["best"]
    today = found["today"]
    assert found["meets_targets"] and today["tpot_ms"] <= 40
    assert today["concurrency"] <= 32
    assert found["throughput_ratio"] == pytest.approx(
        best["output_tok_per_s_per_gpu"] / today["output_tok_per_s_per_gpu"]
    )
    assert found["throughput_ratio"] > 1.2
    assert found["tpot_ratio"] == pytest.approx(best["tpot_ms"] / today["tpot_ms"])
    assert "baseline" not in json.loads(aiconf(*SEARCH, "--format", "json")[1])


def test_the_best_is_no_better_than_itself(aiconf, tmp_path):
    """The winner, deployed, is its own baseline."""
    folder = tmp_path / "out"
    line = (*SEARCH, "--mode", "agg")
    assert aiconf(*line, "--save-dir", folder)[0] == 0
    path = folder / "agg" / "deploy.yaml"
    found = json.loads(aiconf(*line, "--baseline", path, "--format", "json")[1])["baseline"]
    assert found["throughput_ratio"] == pytest.approx(1.0, abs=0.05)
    assert found["meets_targets"]


def test_baseline_that_meets_no_target(aiconf, tmp_path):
    path = manifest(tmp_path / "a.yaml", model="Qwen/Qwen3-32B")
    line = (*SEARCH, "--tpot", "8", "--baseline", path)
    out = aiconf(*line)[1]
    assert "meets the targets at no number of requests in flight" in out
    assert "another model: Qwen/Qwen3-32B runs today" in out


def test_diff_of_settings_and_effect(aiconf, tmp_path):
    old = manifest(tmp_path / "a.yaml", "--max-num-seqs", "64", "--enable-dbo")
    new = manifest(tmp_path / "b.yaml", "--max-num-seqs", "64", "--kv-cache-dtype", "fp8",
                   replicas=8, gpus=1, image="1.3.1",
                   env=[{"name": "DYN_ROUTER_MODE", "value": "kv"}])  # fmt: skip
    line = ("deploy", "diff", old, new, "--system", "h200", "--isl", "2000", "--osl", "200")
    code, out, _ = aiconf(*line)
    assert code == 1
    assert "Predicted effect" in out
    code, out, _ = aiconf(*line, "--format", "json")
    assert code == 1
    found = json.loads(out)
    told = {one["what"]: (one["before"], one["after"]) for one in found["differences"]}
    assert told == {
        "engine": ("vllm 0.31.0", "vllm 0.23.0"),
        "Dynamo": ("1.6.1", "1.3.1"),
        "router": ("round-robin", "kv"),
        "workers": ("4", "8"),
        "layout": ("tp2pp1dp1ep1", "tp1pp1dp1ep1"),
        "KV cache type": ("bf16", "fp8"),
        "enable-dbo (not modelled)": ("True", "not set"),
    }
    seen = found["predicted"]
    assert seen["a"]["concurrency"] == seen["b"]["concurrency"] == 256
    assert seen["a"]["tpot_ms"] != seen["b"]["tpot_ms"]
    few = json.loads(aiconf(*line, "--concurrency", "16", "--format", "json")[1])["predicted"]
    assert few["a"]["concurrency"] == few["b"]["concurrency"] == 16


def test_our_own_files_need_no_options(aiconf, tmp_path):
    one = ("estimate", "--model", "Qwen/Qwen3-32B-FP8", "--system", "h200_sxm", "--isl", "2000",
           "--osl", "300", "--concurrency", "16")  # fmt: skip
    paths = []
    for layout in ("tp1", "tp2"):
        assert aiconf(*one, "--layout", layout, "--save-dir", tmp_path / layout)[0] == 0
        paths.append(tmp_path / layout / "agg" / "deploy.yaml")
    code, out, err = aiconf("estimate", "--from", paths[0])
    assert (code, err) == (0, "")
    assert "2000 input + 300 output" in out and "h200_sxm" in out
    assert "500 input + 300 output" in aiconf("estimate", "--from", paths[0], "--isl", "500")[1]
    assert "b200_sxm" in aiconf("estimate", "--from", paths[0], "--system", "b200_sxm")[1]
    line = ("deploy", "diff", *paths)
    plain = aiconf(*line)
    assert plain[0] == 1
    assert plain == aiconf(*line, "--system", "h200_sxm", "--isl", "2000", "--osl", "300")
    assert plain[1] != aiconf(*line, "--isl", "1000", "--osl", "300")[1]


def test_what_is_no_text_is_said(aiconf, tmp_path):
    for name in ("a.csv", "a.yaml", "program"):
        (tmp_path / name).write_bytes(b"\x7fELF\x02\x01\xff\xfe" * 9)
        code, out, err = aiconf("estimate", "--from", tmp_path / name)
        assert (code, out, err) == (2, "", f"error: {tmp_path / name}: not UTF-8 text\n")


def test_diff_exit_codes(aiconf, tmp_path):
    one = manifest(tmp_path / "a.yaml")
    same = tmp_path / "b.yaml"
    same.write_text("# another text\n" + one.read_text())
    code, out, _ = aiconf("deploy", "diff", one, same, "--system", "h200")
    assert code == 0
    assert "serve alike" in out
    assert aiconf("deploy", "diff", one, tmp_path / "c.yaml", "--system", "h200")[0] == 2
    assert aiconf("deploy", "diff", one, same)[0] == 2


def test_a_manifest_is_not_written_again(aiconf, tmp_path):
    """A new plan would lose settings that were read, such as drafts and the context."""
    path = manifest(tmp_path / "a.yaml", "--max-model-len", "20000")
    folder = tmp_path / "out"
    code, out, err = aiconf("estimate", "--from", path, "--system", "h200", "--save-dir", folder)
    assert code == 2
    assert "--save-dir" in err and str(path) in err and err.count("\n") == 1
    assert not out and not folder.exists()


@pytest.mark.parametrize(
    "flags",
    [("--async-scheduling", "--no-async-scheduling"),
     ('--compilation-config={"level":3}', '--compilation-config={"level":0}')],
)  # fmt: skip
def test_diff_says_same_only_of_what_is_the_same(aiconf, tmp_path, flags):
    one, other = (manifest(tmp_path / f"{i}.yaml", flag) for i, flag in enumerate(flags))
    code, out, _ = aiconf("deploy", "diff", one, other, "--system", "h200", "--format", "json")
    assert code == 1
    found = json.loads(out)
    assert not found["same"] and len(found["differences"]) == 1


def test_diff_of_other_figures_is_never_the_same(aiconf, tmp_path, monkeypatch):
    """Even where no setting that differs has a name."""
    monkeypatch.setattr("aiconf.deploy.difference.differences", lambda before, after: [])
    one = manifest(tmp_path / "a.yaml")
    other = manifest(tmp_path / "b.yaml", "--no-async-scheduling")
    line = ("deploy", "diff", one, other, "--system", "h200")
    code, out, _ = aiconf(*line)
    assert code == 1 and "predicted figures" in out and "serve alike" not in out
    found = json.loads(aiconf(*line, "--format", "json")[1])
    assert not found["same"]


def test_diff_prints_no_escapes(aiconf, tmp_path):
    one = manifest(tmp_path / "a.yaml")
    evil = "\x1b]0;title\x07"
    other = manifest(tmp_path / "b.yaml", f"--evil{evil}", evil,
                     env=[{"name": "DYN_ROUTER_MODE", "value": evil}])  # fmt: skip
    code, out, _ = aiconf("deploy", "diff", one, other, "--system", "h200")
    assert code == 1 and "evil?]0;title?" in out
    assert "\x1b" not in out and "\x07" not in out


def test_a_baseline_is_as_sure_as_the_best(aiconf, tmp_path):
    path = manifest(tmp_path / "a.yaml")
    line = (*SEARCH, "--baseline", path, "--format", "json")
    plain = json.loads(aiconf(*line)[1])["baseline"]["today"]
    document = json.loads(aiconf(*line, "--confidence", "0.9")[1])
    sure = document["baseline"]["today"]
    assert document["best"]["probability"] >= 0.9
    assert plain["probability"] < 0.9 <= sure["probability"]
    assert sure["concurrency"] < plain["concurrency"]
    hopeless = json.loads(aiconf(*line, "--confidence", "0.9", "--tpot", "5")[1])["baseline"]
    assert not hopeless["meets_targets"]
    assert hopeless["today"]["batch"] == 1  # nothing is closer


def drafted(path, method="mtp", count=3, **more):
    config = json.dumps({"method": method, "num_speculative_tokens": count, **more})
    words = ["--max-num-seqs", "8", *(["--speculative-config", config] if method else [])]
    return manifest(path, *words, model="deepseek-ai/DeepSeek-R1", gpus=8, replicas=1)


@pytest.mark.parametrize("method", ["mtp", "deepseek_mtp", "eagle3"])
def test_drafts_of_a_manifest_count(aiconf, tmp_path, method):
    def estimated(**changes):
        path = drafted(tmp_path / "a.yaml", **changes)
        line = ("estimate", "--from", path, "--system", "b200", "--isl", "2000", "--osl", "400")
        document = json.loads(aiconf(*line, "--concurrency", "4", "--format", "json")[1])
        return document["best"]["tpot_ms"], [
            one for one in document["notes"] if "speculative decoding" in one
        ]

    plain, none = estimated(method="")
    some, (note,) = estimated(method=method)
    assert none == []
    assert plain / 2.4 < some < plain / 1.5
    # DeepSeek's published acceptance, with what was fitted to measured runs.
    assert f"speculative decoding ({method}, 3 drafts): assumed that" in note
    assert "and 0.77 times as many of each further one" in note and "tokens per iteration" in note
    more, _ = estimated(method=method, count=1)
    assert some < more < plain


@pytest.mark.parametrize(
    ("method", "more"),
    [("ngram", {}), ("dflash", {}), ("draft_model", {"model": "Qwen/Qwen3-8B"})],
)
def test_drafts_that_no_layer_makes_are_said_and_not_counted(aiconf, tmp_path, method, more):
    line = ("--system", "b200", "--isl", "2000", "--concurrency", "4", "--format", "json")
    found = [
        json.loads(aiconf("estimate", "--from", drafted(tmp_path / f"{i}.yaml", one, **own),
                          *line)[1])
        for i, (one, own) in enumerate((("", {}), (method, more)))
    ]  # fmt: skip
    assert found[0]["best"]["tpot_ms"] == found[1]["best"]["tpot_ms"]
    assert any("not modelled" in one and method in one for one in found[1]["notes"])


def test_the_baseline_and_the_difference_count_drafts(aiconf, tmp_path):
    paths = [drafted(tmp_path / f"{m or 'none'}.yaml", m) for m in ("", "mtp")]
    line = ("cli", "--model", "deepseek-ai/DeepSeek-R1", "--total-gpus", "8", "--system", "b200",
            "--isl", "2000", "--osl", "200", "--mode", "agg", "--format", "json")  # fmt: skip
    ratios = [
        json.loads(aiconf(*line, "--baseline", path)[1])["baseline"]["throughput_ratio"]
        for path in paths
    ]
    assert ratios[1] < ratios[0]
    code, out, _ = aiconf("deploy", "diff", *paths, "--system", "b200", "--format", "json")
    assert code == 1
    assert "drafts per iteration" in out
