"""Command lines of containers, read without running them."""

from __future__ import annotations

import pytest

from aiconf.deploy.validate.shell import Process, process


def _script(text, **env):
    return process(["/bin/bash", "-lc"], [text], env)


def test_plain_command():
    started = process(["python3", "-m", "dynamo.vllm"], ["--model", "$(NAME)"], {"NAME": "a/b"})
    assert started == Process("dynamo.vllm", ("--model", "a/b"))
    assert process(["python3"], ["-m", "dynamo.vllm", "$$(NAME)"], {}).words == ("$(NAME)",)
    assert process([], []) is None
    assert process(["worker"], []) is None


@pytest.mark.parametrize(
    "text",
    [
        "exec python3 -m dynamo.vllm --a 1 --b '{\"c\": 2}'",
        "ulimit -l x && python3 -m dynamo.vllm \\\n  --a 1 \\\n  --b '{\"c\": 2}' 2>&1 | tee x",
        "# python3 -m dynamo.sglang\nA=1 python3 -m dynamo.vllm --a 1 --b '{\"c\": 2}'; exit",
        'more=(--a 1)\nmore+=(--b \'{"c": 2}\')\npython3 -m dynamo.vllm "${more[@]}"',
        "one=1\npython -m dynamo.vllm --a ${one:-3} --b '{\"c\": 2}'",
    ],
)
def test_scripts(text):
    assert _script(text) == Process("dynamo.vllm", ("--a", "1", "--b", '{"c": 2}'))


def test_what_is_not_known():
    started = _script('python3 -m dynamo.vllm --a "$(date)" --b $HOME')
    assert started.words == ("--a", "$(date)", "--b", "$HOME")
    assert started.certain  # of unknown value, but these are the words
    assert not _script('python3 -m dynamo.vllm "${more[@]}"').certain
    assert _script("if x; then python3 -m dynamo.vllm --a; else python3 -m dynamo.vllm; fi") == (
        Process("dynamo.vllm", (), certain=False)
    )
    assert _script("python3 -m dynamo.vllm 'open").words == ()


@pytest.mark.parametrize(
    "text", ["echo python3 -m dynamo.vllm", "ulimit -l x \\ python3 -m dynamo.vllm", "nothing"]
)
def test_what_starts_nothing(text):
    assert _script(text) is None


def test_nothing_is_run(tmp_path):
    marker = tmp_path / "marker"
    text = f"touch {marker}; python3 -m dynamo.vllm $(touch {marker}) `touch {marker}`"
    _script(text)
    assert not marker.exists()
