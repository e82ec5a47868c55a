"""The public reference files, where they are at hand: Dynamo's definitions and engines' flags."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import pytest
import yaml

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "dynamo"


def needs(path: Path) -> Path:
    """Return ``path``; skip the test where it is not here."""
    if not path.exists():
        pytest.skip(f"reference file {path.name} is not here")
    return path


@cache
def crd_schema(release: str, kind: str = "dynamographdeployments") -> dict:
    """Return the schemas of a definition of a release, by API version."""
    name = f"{release}-nvidia.com_{kind}.yaml.gz"
    text = gzip.decompress(needs(REFERENCE / "crds" / name).read_bytes())
    versions = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    return {v["name"]: v["schema"]["openAPIV3Schema"] for v in versions}
