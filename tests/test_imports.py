"""The shape of the house: imports run downward, modules stay small, start-up stays light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiconf

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aiconf"
PROFILERS = sorted((ROOT / "profilers").rglob("*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
RANKS = {
    "__main__": 10,
    "cli": 9,
    "api": 8, "manifests": 8,
    "report": 7,
    "deploy": 6, "runs": 6,
    "search": 5,
    "simulate": 4, "serving": 4,
    "engine": 3,
    "perf": 2, "model": 2,
    "system": 1,
    "workload": 0, "parallel": 0, "errors": 0, "units": 0, "resources": 0,
}  # fmt: skip
MOST_LINES = 400


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def named(path):
    """Rooms of aiconf that a module imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
            if node.module == "aiconf":
                names = [f"aiconf.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("aiconf."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    if path == PACKAGE / "__init__.py":
        return  # it only hands on the public names, when they are asked for
    own = room(path)
    for other in named(path):
        if other == "__version__":
            continue
        assert other in RANKS, f"room {other} has no rank"
        below = RANKS[other] < RANKS[own]
        same_room = other == own
        beside = RANKS[own] == RANKS[other] == 0
        # Above the ground floor, rooms of one rank do not know each other.
        assert below or same_room or beside, f"{own} imports {other}"


@pytest.mark.parametrize("path", PROFILERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_profilers_import_nothing_above_perf(path):
    others = {other for other in named(path) if other != "__version__"}
    assert all(RANKS[other] <= RANKS["perf"] for other in others), others
    assert "model" not in others or path.parent.name == "engine"  # which serves a whole model


def test_profilers_import_libraries_of_kernels_only_where_one_is_run():
    libraries = {"torch", "triton", "vllm", "sglang", "sgl_kernel", "flashinfer", "pandas"}
    names = [p.relative_to(ROOT).with_suffix("").as_posix() for p in PROFILERS]
    modules = [n.replace("/", ".") for n in names if "/kernels/" not in n and "__init__" not in n]
    assert not libraries & loaded_by(f"import {', '.join(modules)}")


@pytest.mark.parametrize("path", [*MODULES, *PROFILERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_small_and_documented(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(ast.parse(text)), "a sentence that says what it holds"


def test_functions_are_short():
    long = [
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in [*MODULES, *PROFILERS]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _body_lines(node) > 80
    ]
    assert not long


def _body_lines(node):
    """Lines of a function without its signature and docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = first.end_lineno if documented else first.lineno - 1
    return node.end_lineno - start


def test_no_absolute_machine_paths():
    pattern = re.compile(r"(?<![\w.$/])/(?:home|root|work|tmp|Users|mnt)/\w")
    kinds = {".py", ".md", ".yaml", ".yml", ".toml", ".j2", ".json", ".ipynb"}
    folders = ["aiconf", "backends", "benchmarks", "docs", "models", "notebooks", "profilers",
               "systems", "templates", "tests"]  # fmt: skip
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in kinds]
    files += [ROOT / name for name in ("README.md", "pyproject.toml", ".ci/run")]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:80]}"
        for path in files
        if path.is_file() and path != Path(__file__).resolve()
        for line in path.read_text("utf-8").splitlines()
        if pattern.search(line)
    ]
    assert not found


def loaded_by(code):
    script = f"{code}\nimport sys\nprint(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_heavy_modules_are_not_imported_before_they_are_needed():
    heavy = {"pandas", "matplotlib", "scipy", "jinja2", "pyarrow", "IPython", "torch"}
    assert not heavy & loaded_by("import aiconf.api")


def test_the_package_itself_imports_nothing():
    assert not {"numpy", "pydantic", "yaml"} & loaded_by("import aiconf")


def test_a_search_needs_neither_pandas_nor_plots():
    code = "import aiconf.api as api; api.search('QWEN3_32B', 'h200_sxm', 4).best"
    assert not {"pandas", "matplotlib", "scipy", "jinja2", "IPython"} & loaded_by(code)


def test_the_version_is_the_projects():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{aiconf.__version__}"' in text
