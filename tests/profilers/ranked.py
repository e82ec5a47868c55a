"""What one rank does: a run of an operator over ranks into the folder given, as the CLI does it."""

import sys
from pathlib import Path

from profilers import journal
from profilers.device import detect
from profilers.plan import Job, plan
from profilers.run import run
from profilers.tables import finish
from profilers.team import one_device, team
from profilers.timing import method_of


def main(out: Path, budget: float, operator: str) -> None:
    with team("cpu") as ranks:
        device = one_device(detect("cpu"), ranks)
        known = journal.exists(out)
        new = Job((operator,), device="cpu")
        job = Job.of(journal.read(out).records[0]) if known else new
        method = method_of("cpu")
        found = plan(job, device, method)
        say = print if ranks.rank == 0 else lambda _line: None
        run(job, found, device, method, out, say, team=ranks, budget=budget)
        if ranks.rank == 0:
            print(finish(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
