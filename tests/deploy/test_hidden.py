"""What a manifest leaves to the cluster or a shell: each value alone is unknown, and it is said."""

from __future__ import annotations

import pytest
from manifests import config_map, found, graph, main

from aiconf.deploy.validate.shell import process


def _with(engine, *words, index=1, roles=("worker",)):
    body = graph(engine, *roles)
    main(body, index)["args"] += words
    return body


@pytest.mark.parametrize("unknown", ["$(X)", "${X}", "$X", "{{ x }}"])
def test_one_unknown_value_hides_no_other(unknown):
    body = graph()
    main(body)["args"][1] = unknown
    assert found(body) == []
    main(body)["args"][3] = "16"
    (line,) = found(body)
    assert line.startswith("error") and "needs 16 GPUs" in line


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_unknown_layout_is_said(engine):
    flag = "--tp-size" if engine == "sglang" else "--pipeline-parallel-size"
    lines = found(_with(engine, flag, "$(N)"), config_map())
    (line,) = [one for one in lines if "unchecked" in one]
    assert line.startswith("warning") and flag in line and "GPUs" in line
    assert not any("layout needs" in one for one in lines)


def test_divisors_of_an_unknown_size():
    lines = found(_with("sglang", "--tp", "$X", "--ep-size", "3"))
    assert not any("divide" in one for one in lines)


def test_words_that_may_be_flags():
    body = _with("vllm", "$(EXTRA)", "--pipeline-parallel-size", "16")
    (line,) = found(body)
    assert line.startswith("warning") and "$(EXTRA): may be any flags" in line
    body = graph()
    main(body)["command"] = ["sh", "-c"]
    main(body)["args"] = ['python3 -m dynamo.vllm -tp 16 "${MORE[@]}"']
    (line,) = found(body)
    assert line.startswith("warning") and "its script" in line


@pytest.mark.parametrize("place", [1, 2])
def test_unknown_settings_of_the_cache_are_not_compared(place):
    body = _with("vllm", "--block-size", "32", index=1, roles=("prefill", "decode"))
    main(body, 2)["args"] += ["--block-size", "32"]
    main(body, place)["args"][-1] = "$(SIZE)"
    (line,) = found(body)
    assert line.startswith("warning") and "KV block size: not known here" in line


def test_unknown_blocks_of_a_router():
    body = _with("vllm", "--block-size", "$(SIZE)")
    main(body, 0)["command"] = ["python3", "-m", "dynamo.frontend"]
    main(body, 0)["args"] = ["--router-mode", "kv", "--kv-cache-block-size", "16"]
    (line,) = found(body)
    assert line.startswith("warning") and "router and workers are not compared" in line


def test_page_size_in_the_file_of_sglang():
    body = graph("sglang")
    args = main(body)["args"]
    del args[args.index("--page-size") :][:2]
    args[-2:] = ["--config", "/engine/engine.yaml"]
    main(body)["volumeMounts"] = [{"name": "engine", "mountPath": "/engine"}]
    body["spec"]["components"][1]["podTemplate"]["spec"]["volumes"] = [
        {"name": "engine", "configMap": {"name": "engine"}}
    ]
    main(body, 0)["command"] = ["python3", "-m", "dynamo.frontend"]
    main(body, 0)["args"] = ["--router-mode", "kv", "--kv-cache-block-size", "16"]
    text = "tp-size: 4\npage-size: 64\n"
    (line,) = [one for one in found(body, config_map(text)) if "block" in one]
    assert "--kv-cache-block-size 16 is none of the workers' block sizes (64)" in line
    assert found(body, config_map(text.replace("64", "16"))) == []


@pytest.mark.parametrize(
    "words", [["-O3"], ["-O", "2"], ["-O=1"], ["--config", "/x.yaml"], ["-cc.mode", "3"]]
)
def test_what_the_parser_of_vllm_translates(words):
    assert found(_with("vllm", *words)) == []


def test_what_it_no_longer_translates():
    lines = found(_with("vllm", "-O.mode", "3"))
    assert any("-O.mode: no flag" in one and "did you mean -cc.mode?" in one for one in lines)
    assert any("-O3: no flag" in one for one in found(_with("sglang", "-O3")))


def test_file_of_vllm():
    body = _with("vllm", "--config", "/engine/engine.yaml")
    main(body)["volumeMounts"] = [{"name": "engine", "mountPath": "/engine"}]
    body["spec"]["components"][1]["podTemplate"]["spec"]["volumes"] = [
        {"name": "engine", "configMap": {"name": "engine"}}
    ]
    assert found(body, config_map("data-parallel-size: 1")) == []
    lines = found(body, config_map("pipeline-parallel-size: 2"))
    assert any("needs 8 GPUs" in one for one in lines)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("python3 -m a --b 1  # don't", ("--b", "1")),
        ("# it is \\\npython3 -m a --b", ("--b",)),
        ("python3 -m a --b x#1 '# c' \"#d\" ", ("--b", "x#1", "# c", "#d")),
        ("x='a # b'; python3 -m a $#", ("$#",)),
    ],
)
def test_comments_of_scripts(script, words):
    assert process(["sh", "-c"], [script]).words == words
