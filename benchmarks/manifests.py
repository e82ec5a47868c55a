"""Manifests: what ``aiconf estimate --from`` says to each in a folder, as a table.

    python benchmarks/manifests.py FOLDER [--system NAME] [--isl N] [--osl N]

FOLDER is searched for DynamoGraphDeployments, such as a clone of github.com/ai-dynamo/dynamo.
``--system`` stands for manifests that do not say on which GPUs they run.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from aiconf.deploy.validate.documents import files, read
from aiconf.deploy.validate.graph import KIND
from aiconf.errors import UserError
from aiconf.manifests import estimate_manifest


def main() -> None:
    """Print one line per manifest, and how many were answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system")
    parser.add_argument("--isl", type=int, default=1000)
    parser.add_argument("--osl", type=int, default=200)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    for path in files([given.folder]):
        try:
            kinds = [document.kind for document in read(path)]
        except UserError:
            continue  # templates that are no YAML before they are filled in
        if KIND not in kinds:
            continue
        answer = _answered(path, given)
        counts["answered" if answer.startswith("TTFT") else "named reason"] += 1
        print(f"{path.relative_to(given.folder)}: {answer}")
    seconds = time.perf_counter() - started
    print(f"{sum(counts.values())} manifests in {seconds:.1f} s: {dict(counts)}")


def _answered(path: Path, given: argparse.Namespace) -> str:
    try:
        found = _estimate(path, given, None)
    except UserError as error:
        if given.system is None or "give --system" not in str(error):
            return str(error).removeprefix(f"{path}: ")
        try:
            found = _estimate(path, given, given.system)
        except UserError as later:
            return str(later).removeprefix(f"{path}: ")
    return found


def _estimate(path: Path, given: argparse.Namespace, system: str | None) -> str:
    best = estimate_manifest(path, given.isl, given.osl, system=system).best
    tpot = best["tpot_ms"]
    return (
        f"TTFT {best['ttft_ms']:,.0f} ms, TPOT {tpot:.1f} ms, "
        f"{best['output_tok_per_s_per_gpu']:,.0f} output tok/s/GPU with "
        f"{best['concurrency']:,} in flight on {best['gpus']} {best['system']}"
    )


if __name__ == "__main__":
    main()
