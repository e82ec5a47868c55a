"""Collectives over the ranks of a torchrun: all-reduce, all-gather, reduce-scatter and others.

``bytes`` is the whole buffer, the larger one of input and output (``aiconf.perf.collective``); of
a send, the message. Groups are the first ranks: 2, 4, ... of one node, then whole nodes, since
the table says how many GPUs there are and not where (``team.group_sizes``). All ranks, members or
not, go through the same steps; the slowest member counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profilers import nccl_kernels, team
from profilers.operator import Inputs, Key, Line, Operator, Work

if TYPE_CHECKING:
    from torch import Tensor

    from profilers.device import Device
    from profilers.source import Source

OPS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")
ITEM_BYTES = {"bf16": 2, "fp16": 2, "int8": 1}
# From one row of a small model to the largest prefill; the imported tables hold the powers of 2.
_BYTES = tuple(1 << power for power in range(9, 31))
_BYTES_CPU = tuple(1 << power for power in range(9, 23))
_SAMPLED = 1024  # positions of a shard that are compared


def lines(device: Device, quick: bool) -> tuple[Line, ...]:
    """Every collective for every group; powers of two of bytes, rounded to whole shards."""
    sizes = team.group_sizes(device)
    dtypes = ("fp16", "bf16") if quick else ("fp16", "bf16", "int8")
    found = []
    for dtype in dtypes:
        for gpus in reversed(sizes):
            for op in OPS:
                if (op == "send" and gpus != 2) or (dtype == "bf16" and op != "all_reduce"):
                    continue  # 16 bits move alike; engines' own all-reduces take bf16
                step = gpus * ITEM_BYTES[dtype] * 16  # whole 16-byte words of every shard
                least = (value for value in (_BYTES if device.kind == "cuda" else _BYTES_CPU))
                values = dict.fromkeys(-(-value // step) * step for value in least)
                found.append(Line({"op": op, "dtype": dtype, "gpus": gpus}, tuple(values)))
    return tuple(found)


def about(device: Device) -> str:
    """Which groups are measured, and why none over nodes where there are several."""
    local, sizes = team.per_node(), team.group_sizes(device)
    inside = ", ".join(str(size) for size in sizes if size <= local)
    across = ", ".join(str(size) for size in sizes if size > local)
    told = [f"groups of {inside} ranks of one node"] * bool(inside)
    told += [f"groups of {across} over whole nodes"] * bool(across)
    if team.launched() > local and not across:
        told.append(f"none over nodes: {team.unfilled(device)}")
    return "; ".join(told)


def work(key: Key) -> Work:
    """Each rank reads its input and writes its output once."""
    whole, part = float(key["bytes"]), key["bytes"] / key["gpus"]
    read, written = {
        "all_gather": (part, whole), "reduce_scatter": (whole, part),
    }.get(key["op"], (whole, whole))  # fmt: skip
    return Work("", 0.0, read, written)


def draw(key: Key, source: Source) -> Inputs:
    """``x``, flat: another one on each rank, so that a sum or an exchange shows whose it is."""
    import torch

    ranks = team.ranks()
    source.generator.manual_seed(source.generator.initial_seed() + 7919 * ranks.rank)
    count = key["bytes"] // ITEM_BYTES[key["dtype"]]
    count //= key["gpus"] if key["op"] == "all_gather" else 1
    if key["dtype"] == "int8":
        most = max(127 // key["gpus"], 1)  # sums stay within int8
        return {"x": source.integers(-most, most + 1, count, dtype=torch.int8)}
    dtype = torch.float16 if key["dtype"] == "fp16" else torch.bfloat16
    return {"x": source.normal(count, dtype=dtype)}


def error(key: Key, inputs: Inputs, output: Tensor) -> float:
    """Largest relative error of all members, from samples of every rank's input, over gloo."""
    ranks, gpus, op = team.ranks(), key["gpus"], key["op"]
    pieces = 1 if op in ("all_gather", "send") else gpus
    places = _places(inputs["x"].numel() // pieces)
    sent = np.array(ranks.gather(_sampled(inputs["x"], pieces, places))[:gpus])
    own = 0.0
    if ranks.rank < gpus:
        expected = _expected(op, sent, ranks.rank)  # [pieces of the output, places]
        seen = _sampled(output, len(expected), places)
        own = float(np.linalg.norm(seen - expected) / np.linalg.norm(expected))
    found = ranks.gather(own)
    return float("nan") if np.isnan(found).any() else max(found)


def _places(count: int) -> Any:
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).astype(np.int64))


def _sampled(flat: Tensor, pieces: int, places: Any) -> Any:
    """Values [piece, place] in float64 on the host."""
    import torch

    chosen = torch.from_numpy(places).to(flat.device)
    return flat.reshape(pieces, -1).index_select(1, chosen).double().cpu().numpy()


def _expected(op: str, sent: Any, rank: int) -> Any:
    """Samples [piece, place] of this rank's output; sent: [rank, piece, place]."""
    if op == "all_reduce":
        return sent.sum(axis=0)
    if op == "reduce_scatter":
        return sent[:, rank].sum(axis=0, keepdims=True)
    if op == "send":
        return sent[0]
    return sent[:, 0] if op == "all_gather" else sent[:, rank]


def tolerance(key: Key) -> float:
    """Copies and sums of whole numbers are exact; a sum of floats rounds once per rank."""
    sums = key["op"] in ("all_reduce", "reduce_scatter") and key["dtype"] != "int8"
    return {"fp16": 2e-3, "bf16": 1.6e-2}[key["dtype"]] if sums else 0.0


OPERATORS = (
    Operator(
        "nccl", "collective", "bytes", lines, work, draw, error, tolerance, nccl_kernels.KERNELS,
        about=about,
    ),
)  # fmt: skip
