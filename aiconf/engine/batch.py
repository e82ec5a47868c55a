"""What one iteration computes, on one attention rank; every field is an array of points."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Batch:
    """Iterations to be timed, as equally long float64 arrays.

    prefill_tokens: prompt tokens of this iteration on the busiest rank. prefill_sequences:
    prompts they belong to. prefill_past: mean tokens of those prompts already in the cache.
    prefill_ranks: attention-DP ranks that prefill in this iteration. decode: sequences that
    decode on each rank. context: mean cached tokens of those. drafted: tokens that each
    decoding sequence computes (1, or 1 + draft length when verifying speculation). images:
    images encoded on the busiest rank, of ``patches`` each.
    """

    prefill_tokens: Array
    prefill_sequences: Array
    prefill_past: Array
    prefill_ranks: Array
    decode: Array
    context: Array
    drafted: Array
    images: Array
    patches: Array

    @classmethod
    def of(
        cls,
        *,
        prefill_tokens: ArrayLike = 0.0,
        prefill_sequences: ArrayLike = 1.0,
        prefill_past: ArrayLike = 0.0,
        prefill_ranks: ArrayLike = 1.0,
        decode: ArrayLike = 0.0,
        context: ArrayLike = 1.0,
        drafted: ArrayLike = 1.0,
        images: ArrayLike = 0.0,
        patches: ArrayLike = 0.0,
    ) -> Batch:
        """Broadcast the given fields against each other."""
        given = (
            prefill_tokens, prefill_sequences, prefill_past, prefill_ranks,
            decode, context, drafted, images, patches,
        )  # fmt: skip
        arrays = [np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in given]
        # np.broadcast_arrays, which takes longer than timing a small batch, only where needed.
        sizes = {a.shape for a in arrays if a.size != 1}
        if len(sizes) > 1 or any(len(shape) > 1 for shape in sizes):
            arrays = [a.reshape(-1) for a in np.broadcast_arrays(*arrays)]
        size = max(len(a) for a in arrays)
        return cls(*(a if len(a) == size else np.full(size, a.flat[0]) for a in arrays))

    @classmethod
    def joined(cls, *batches: Batch) -> Batch:
        """Put the iterations of several batches after one another."""
        return cls(*(np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.decode)

    def __getitem__(self, index: NDArray[np.intp] | slice) -> Batch:
        return Batch(*(getattr(self, field.name)[index] for field in fields(self)))
