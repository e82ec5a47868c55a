"""One attention rank of an engine under replay."""

from __future__ import annotations

from collections import deque


class Rank:
    """Queues and running batch of one attention rank."""

    __slots__ = (
        "booked", "coming", "ends", "full", "gain", "kv", "order", "prefill", "running", "share",
        "waiting",
    )  # fmt: skip

    def __init__(self, share: float = 0.0) -> None:
        self.waiting: deque[int] = deque()
        self.gain = 0.0  # tokens that the decoding sequences gain per iteration, on average
        self.prefill: list[int] = []  # admitted, prompt not finished; in order
        self.running = 0  # decoding sequences
        self.kv = 0.0  # tokens in the cache of decoding and prefilling sequences
        self.booked = 0.0  # tokens that prompts under way were promised and do not hold yet
        self.coming = 0.0  # output tokens that the decoding sequences have still to compute
        self.full = False  # the first that waits did not fit, and no request has left since
        self.share = share  # of these, for which the cache keeps room (``reserve.Reserve``)
        self.ends: list[tuple[int, int, int]] = []  # (decode step of the end, order, request)
        self.order = 0

    @property
    def has_prompts(self) -> bool:
        """Whether a prompt waits or is under way."""
        return bool(self.waiting or self.prefill)
