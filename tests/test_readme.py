"""The README's commands: CI runs the test command word for word, and the Python example works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)


def test_ci_runs_the_test_command_and_nothing_that_hides_a_step():
    steps = COMMANDS[1].replace(".venv", ".venv-ci").split(" && ")
    script = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    start = script.index(steps[0])
    assert script[start:] == steps


def test_the_main_command_is_the_one_that_is_shown():
    install, _, main = COMMANDS[0].rpartition(" && ")
    assert install.endswith("pip install -q .")
    program, *arguments = shlex.split(main)
    assert program == ".venv/bin/aiconf"
    done = subprocess.run(
        [sys.executable, "-m", "aiconf", *arguments],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    shown = README.split("```text\n")[1].split("```")[0]
    headings = [line for line in shown.splitlines() if line[:1].isalpha() and line.endswith("d")]
    assert headings
    assert all(line in done.stdout for line in headings)


def test_the_python_example_runs():
    code = README.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_every_link_leads_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
        if not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert not broken
