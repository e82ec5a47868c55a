"""Chunks of one prompt in the stages of a pipeline."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def chunk_share(stages: int, busy: ArrayLike) -> NDArray[np.float64]:
    """Share of a pass after which the next chunk of a prompt starts in a pipeline.

    The chunk follows into the first stage as soon as that is free, while later stages still
    compute the one before it (SGLang and vLLM schedule it so, and TensorRT-LLM keeps only the
    last chunk of a prompt from being scheduled again). busy: share of the time in which each
    of the other micro-batches computes prompts, which then go in between.
    """
    return np.asarray((1.0 + (stages - 1) * np.asarray(busy)) / stages)
