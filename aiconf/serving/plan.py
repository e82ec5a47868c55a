"""What is deployed: the workers of a chosen configuration, with every engine setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiconf.model.spec import ModelSpec
from aiconf.parallel import Parallel
from aiconf.system.spec import System
from aiconf.workload import Workload

Role = Literal["agg", "prefill", "decode"]


@dataclass(frozen=True)
class Worker:
    """One kind of engine instance and how many of it run.

    max_sequences: running sequences of the whole worker (all attention-DP ranks together).
    token_budget: tokens that one attention-DP rank computes in one iteration (vLLM
        max-num-batched-tokens, SGLang chunked-prefill-size, TensorRT-LLM max_num_tokens).
    graph_sizes: batch sizes captured as CUDA graphs, ascending; empty: no graphs (prefill only).
    moe_backend: the engine's MoE backend setting; empty: its default.
    exchange: how tokens reach experts on other ranks (see ``Traits.exchange``).
    memory_fraction: the engine's own memory setting (its meaning differs per backend).
    """

    role: Role
    replicas: int
    system: System
    parallel: Parallel
    max_sequences: int
    token_budget: int
    max_model_len: int
    kv_dtype: str  # bf16 or fp8
    kv_block_size: int
    memory_fraction: float
    graph_sizes: tuple[int, ...]
    prefix_caching: bool
    exchange: str = "none"
    moe_backend: str = ""


@dataclass(frozen=True)
class Plan:
    """A whole deployment: one kind of worker when aggregated, two when disaggregated.

    drafts: tokens drafted per iteration by speculative decoding; 0: none. draft_model: the
    checkpoint that drafts them (EAGLE-3); empty: the model's own layers (MTP).
    """

    model: ModelSpec
    backend: str  # vllm, sglang, trtllm
    backend_version: str  # engine version the prediction was made for
    workload: Workload
    workers: tuple[Worker, ...]
    concurrency: int  # requests in flight over the whole deployment at the predicted point
    drafts: int = 0
    draft_model: str = ""

    @property
    def disaggregated(self) -> bool:
        """Whether prefill and decode run on separate workers."""
        return any(worker.role == "prefill" for worker in self.workers)

    @property
    def gpus(self) -> int:
        """GPUs of all workers."""
        return sum(worker.replicas * worker.parallel.gpus for worker in self.workers)
