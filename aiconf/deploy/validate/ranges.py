"""Numbers on command lines that are outside of what the engine's own configuration takes.

Bounds after vllm/config/{cache,scheduler,parallel}.py of vLLM 0.31.0. SGLang's fraction has no
bound in its parser: 1 or more leaves no memory for activations, and its start-up fails. That of
TensorRT-LLM is the bound of ``KvCacheConfig.free_gpu_memory_fraction``.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiconf.deploy.validate.problem import Problem, spelled
from aiconf.deploy.validate.workers import Launched

_COUNT = (1.0, float("inf"), "at least 1")
_Range = tuple[float, float, str]  # smallest, largest, in words
_TINY = 1e-9
_RANGES: dict[str, dict[str, _Range]] = {
    "vllm": {
        "--gpu-memory-utilization": (_TINY, 1.0, "more than 0, at most 1"),
        "--max-num-seqs": _COUNT,
        "--block-size": _COUNT,
        "--tensor-parallel-size": _COUNT,
        "--pipeline-parallel-size": _COUNT,
        "--prefill-context-parallel-size": _COUNT,
        "--data-parallel-size": _COUNT,
    },
    "sglang": {
        "--mem-fraction-static": (_TINY, 1 - _TINY, "more than 0, less than 1"),
        "--tp-size": _COUNT,
        "--pp-size": _COUNT,
        "--dp-size": _COUNT,
        "--page-size": _COUNT,
    },
    "trtllm": {
        "--free-gpu-memory-fraction": (_TINY, 1.0, "more than 0, at most 1"),
        "--tensor-parallel-size": _COUNT,
        "--pipeline-parallel-size": _COUNT,
    },
}


def problems(one: Launched) -> Iterator[Problem]:
    """Yield the numbers of a worker that its engine would refuse."""
    if not one.is_plain_engine:
        return
    for flag, (least, most, told) in _RANGES[one.engine or ""].items():
        text = one.line.text(flag)
        try:
            number = float(text) if text is not None else least
        except ValueError:
            continue  # said where the command line is read
        if not least <= number <= most:
            yield Problem(
                one.graph.source, spelled((*one.component.container, "args")),
                f"{flag} {text} is out of range", told,
            )  # fmt: skip
