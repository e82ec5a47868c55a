"""A parallel layout of one worker: one type, one spelling (``tp2pp1dp4ep8``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiconf.errors import UserError

_SPELLING = re.compile(r"tp(\d+)(?:pp(\d+))?(?:dp(\d+))?(?:ep(\d+))?")


@dataclass(frozen=True, order=True)
class Parallel:
    """How one worker (one engine instance) is spread over GPUs.

    tp: ranks that share one attention block (tensor parallel).
    pp: pipeline stages.
    dp: attention replicas inside the worker that share the expert layers (DP attention);
        dense models always have 1, since their replicas are simply more workers.
    ep: ranks that experts are divided over; the rest of ``tp * dp`` splits each expert
        (``moe_tp``). Dense models have 1.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        if min(self.tp, self.pp, self.dp, self.ep) < 1:
            raise UserError(f"parallel sizes must be at least 1: {self}")
        if (self.tp * self.dp) % self.ep:
            raise UserError(f"{self}: ep {self.ep} does not divide tp x dp = {self.tp * self.dp}")

    @property
    def gpus(self) -> int:
        """GPUs of the worker."""
        return self.tp * self.pp * self.dp

    @property
    def stage_gpus(self) -> int:
        """GPUs of one pipeline stage: the ranks that exchange activations in every layer."""
        return self.tp * self.dp

    @property
    def moe_tp(self) -> int:
        """Ranks that each expert is split over."""
        return self.tp * self.dp // self.ep

    def __str__(self) -> str:
        return f"tp{self.tp}pp{self.pp}dp{self.dp}ep{self.ep}"

    @classmethod
    def parse(cls, text: str) -> Parallel:
        """Read ``tp2pp1dp4ep8``; sizes after ``tp`` may be left out (then 1)."""
        match = _SPELLING.fullmatch(text.strip().lower())
        if not match:
            whole = f"tp1{text.strip().lower()}"
            missing = whole[3:5] in ("pp", "dp", "ep") and _SPELLING.fullmatch(whole)
            like = whole if missing else "tp2pp1dp4ep8"
            raise UserError(f"'{text}' is not a parallel layout; write it like {like}")
        return cls(*(int(size or 1) for size in match.groups()))


def pod_gpus(gpus: int, per_node: int) -> int:
    """GPUs of each of the equal pods that ``gpus`` spread over: as few nodes as hold them.

    0 where no cut leaves a pod more than half a node.
    """
    count = -(-gpus // per_node)
    while gpus % count:
        count += 1
    return 0 if count > 1 and gpus // count * 2 <= per_node else gpus // count
