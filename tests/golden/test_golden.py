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
}
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?(?![\w.]*[A-Za-z_])")
_TOLERANCE = 2e-3


def comparable(text):
    """Words and numbers of ``text``, without drawings, with runs of blanks as one."""
    lines = []
    for line in text.splitlines():
        if re.match(r"\s*[\d,.]*\s[│└]", line):
            continue
        lines.append(" ".join(re.sub(r"[▏▎▍▌▋▊▉█]+", "", line).split()))
    plain = "\n".join(lines)
    numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(plain)]
    return _NUMBER.sub("N", plain), numbers


def step(text):
    """Half of the last digit printed cannot be told from noise: 1.5 units are allowed."""
    return [1.5 * 10.0 ** -len(n.partition(".")[2]) for n in _NUMBER.findall(text)]


@pytest.mark.parametrize("name", CASES)
def test_command(name, capsys):
    assert main(CASES[name].split()) == 0
    out = capsys.readouterr().out
    path = HERE / name
    if os.environ.get("AICONF_UPDATE_GOLDEN"):
        path.write_text(out, encoding="utf-8", newline="\n")
    kept = path.read_text(encoding="utf-8")
    words, numbers = comparable(out)
    kept_words, kept_numbers = comparable(kept)
    assert words == kept_words
    steps = step("\n".join(" ".join(line.split()) for line in kept_words.splitlines()))
    assert numbers == pytest.approx(kept_numbers, rel=_TOLERANCE, abs=1e-9) or steps
