"""What one rank does: each collective checked as it should be, and with a wrong output."""

import json
import sys
from pathlib import Path

import torch

from profilers import nccl
from profilers.device import detect
from profilers.nccl_kernels import torch_distributed
from profilers.nccl_timing import timer
from profilers.source import Source
from profilers.team import one_device, team
from profilers.timing import method_of


def wrongs(output, rank):
    """Outputs that a broken collective may give: untouched, elsewhere, or on one rank only."""
    yield "zero", torch.zeros_like(output)
    yield "elsewhere", output.roll(1)
    yield "one rank", output + (1 if rank == 1 else 0)


def main(out: Path) -> None:
    found = {}
    with team("cpu") as ranks:
        one_device(detect("cpu"), ranks)
        for op in nccl.OPS:
            for dtype in ("fp16", "bf16", "int8"):
                gpus = 2 if op == "send" else ranks.size
                key = {"op": op, "dtype": dtype, "gpus": gpus, "bytes": 4096 * gpus}
                inputs = nccl.draw(key, Source.of("cpu", 0, f"{op} {dtype}"))
                call = torch_distributed(key, inputs)
                call()
                call.restore()
                output = call()
                limit = nccl.tolerance(key)
                errors = {"right": nccl.error(key, inputs, output)}
                for name, wrong in wrongs(output, ranks.rank):
                    errors[name] = nccl.error(key, inputs, wrong)
                found[f"{op} {dtype}"] = {"limit": limit, **errors}
        inputs = nccl.draw(key, Source.of("cpu", 0, "light"))
        call = torch_distributed(key, inputs)
        call.least = 10.0  # seconds
        try:
            timer([call], False, method_of("cpu"))
        except RuntimeError as refused:
            assert "speed of light" in str(refused)
        else:
            raise AssertionError("faster than light")
        for everyone in ranks.gather(found):
            assert everyone == found, "the ranks disagree"
        if ranks.rank == 0:
            out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
