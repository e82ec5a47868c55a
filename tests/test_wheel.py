"""The package as people get it: one wheel with all its data, that answers from any folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAIN = ("cli --model QWEN3_32B --total-gpus 32 --system h200_sxm "
        "--isl 4000 --osl 500 --ttft 300 --tpot 10")  # fmt: skip


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}:\n{(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as pip builds it; skipped where the build backend cannot be fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-q", "-w", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution found" in done.stderr:
        pytest.skip("the build backend cannot be fetched: no network")
    assert done.returncode == 0, done.stderr[-1500:]
    (found,) = folder.glob("*.whl")
    return found


def test_it_is_pure_python_small_and_holds_the_data(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 40e6
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("perf_db", "systems", "models", "backends", "templates"):
        own = {str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*") if p.is_file()}
        packed = {name.removeprefix("aiconf/_data/") for name in names}
        assert own <= packed, folder
    assert {"profilers/gemm.py", "profilers/kernels/block_scaled.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    licences = [name for name in names if name.endswith(("licenses/LICENSE", "licenses/NOTICE"))]
    assert len(licences) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [(MAIN, "tok/s"), ("profile plan --system h200_sxm --quick --backend torch", "gemm torch")],
)
def test_unpacked_elsewhere_it_answers(wheel, tmp_path, words, says):
    """From the wheel alone, with this environment's dependencies and another working folder."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv[0] = 'aiconf'\n"
        "import aiconf\n"
        f"assert aiconf.__file__.startswith({str(site)!r}), aiconf.__file__\n"
        "from aiconf.cli import main\n"
        "main()\n"
    )
    shown = run(sys.executable, "-c", code, *words.split(), cwd=elsewhere)
    assert says in shown
    assert not list(elsewhere.iterdir())  # nothing is written unless it is asked for
