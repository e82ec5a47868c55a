"""Write backends/flags: what the command lines of each engine and of Dynamo's wrappers accept.

    python -m venv flags-venv && flags-venv/bin/pip install pydantic msgspec regex pyyaml
    flags-venv/bin/python tools/engine_flags.py --wheels wheels

Takes every engine version of templates/dynamo_versions.yaml: vLLM, SGLang and ai-dynamo as wheels
from PyPI, whose parsers run for real (parsers.py). TensorRT-LLM has no wheel there;
``--trtllm FILE`` takes the fields of its ``LlmArgs`` model from a JSON file of name to type.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ROOT / "backends" / "flags"
NOTE = "printed by the package's own parser; stand-ins took the place of packages that need a GPU"


def wanted() -> list[tuple[str, str, str]]:
    """Return (engine, package, version) of all releases."""
    matrix = yaml.safe_load((ROOT / "templates" / "dynamo_versions.yaml").read_text("utf-8"))
    found = []
    for release in matrix["releases"]:
        engines = release["engines"]
        found.append(("dynamo", "ai-dynamo", release["dynamo"]))
        found += [(name, name, engines[name]) for name in ("vllm", "sglang")]
    return found


def wheel(package: str, version: str, folder: Path) -> Path:
    """Return the wheel, downloaded unless it is there."""
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(folder), f"{package}=={version}"]
        subprocess.run(command, check=True)
    return next(folder.glob(pattern))


def parsed(engine: str, path: Path) -> dict[str, Any]:
    """Return the flags that the parser inside a wheel has."""
    script = Path(__file__).with_name("parsers.py")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder, [n for n in archive.namelist() if n.endswith(".py")])
        done = subprocess.run(
            [sys.executable, str(script), engine, folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{path.name}: {done.stderr.strip().splitlines()[-1]}")
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def write(engine: str, version: str, content: dict[str, Any]) -> None:
    """Write one file, a flag per line."""
    FLAGS.mkdir(exist_ok=True)
    path = FLAGS / f"{engine}-{version}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Write all files, or those of ``--only``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True, help="folder of wheels")
    parser.add_argument("--only", help="vllm, sglang or dynamo")
    parser.add_argument("--trtllm", type=Path, help="JSON of the fields of LlmArgs")
    parser.add_argument("--trtllm-version", help="the version they are of")
    options = parser.parse_args()
    options.wheels.mkdir(parents=True, exist_ok=True)
    for engine, package, version in wanted():
        if options.only in (None, engine):
            path = wheel(package, version, options.wheels)
            content = {
                "source": f"https://pypi.org/project/{package}/{version}/",
                "wheel": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "note": NOTE,
                "flags": parsed(engine, path),
            }
            write(engine, version, content)
    if options.trtllm:
        fields = json.loads(options.trtllm.read_text("utf-8"))
        source = fields.pop("_source")
        write("trtllm", options.trtllm_version, {"source": source, "fields": fields})


if __name__ == "__main__":
    main()
