"""Whole commands against outputs that were looked at and kept.

After a wanted change: ``AICONF_UPDATE_GOLDEN=1 pytest tests/golden``, then read the difference.
Numbers may differ by the last digits that are printed (float noise between machines); the
marks of the Pareto front and of bars, which noise can move by a character, are not compared.
"""

import os
import re
from pathlib import Path

import pytest

from aiconf.cli import main

HERE = Path(__file__).parent
SEARCH = "cli --system h200_sxm --isl 4000 --osl 500 --ttft 300 --tpot 10"
CASES = {
    "search_dense.txt": f"{SEARCH} --model QWEN3_32B --total-gpus 32",
    "search_moe.txt": f"{SEARCH} --model gpt-oss-120b --total-gpus 8 --top 3",
    "search_unmet.txt": f"{SEARCH} --model QWEN3_32B --total-gpus 8 --top 2 --tpot 1",
    "search_rack.txt": "cli --model DeepSeek-R1 --total-gpus 16 --system gb200 --top 3",
    "search_top.csv": f"{SEARCH} --model QWEN3_32B --total-gpus 8 --top 2 --format csv",
    "estimate.txt": "estimate --model qwen3-32b --system h200_sxm --layout tp4 --concurrency 16",
    "estimate.json": "estimate --model qwen3-32b --system h200_sxm --layout tp4 --prefill-layout "
    "tp2 --concurrency 16 --format json",
    "support.txt": "support --model gpt-oss-120b --system h200_sxm",
    "systems.txt": "systems",
    "models.txt": "models",
    "model_show.txt": "model show gpt-oss-20b --system h200_sxm --layout tp2",
}
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?(?![\w.]*[A-Za-z_])")
_TOLERANCE = 2e-3


def comparable(text):
    """Words of ``text``, and its numbers with the size of their last digit; no drawings."""
    lines = []
    for line in text.splitlines():
        if not re.match(r"\s*[\d,.]*\s[│└]", line):
            lines.append(" ".join(re.sub(r"[▏▎▍▌▋▊▉█]+", "", line).split()))
    plain = "\n".join(lines)
    numbers = [
        (float(number.replace(",", "")), 10.0 ** -len(number.partition(".")[2].partition("e")[0]))
        for number in _NUMBER.findall(plain)
    ]
    return _NUMBER.sub("N", plain), numbers


@pytest.mark.parametrize("name", CASES)
def test_command(name, capsys):
    assert main(CASES[name].split()) == (2 if name == "search_unmet.txt" else 0)
    out = capsys.readouterr().out
    path = HERE / name
    if os.environ.get("AICONF_UPDATE_GOLDEN"):
        path.write_text(out, encoding="utf-8", newline="\n")
    words, numbers = comparable(out)
    kept_words, kept = comparable(path.read_text(encoding="utf-8"))
    assert words == kept_words
    for (value, _), (expected, last) in zip(numbers, kept, strict=True):
        assert value == pytest.approx(expected, rel=_TOLERANCE, abs=last)
