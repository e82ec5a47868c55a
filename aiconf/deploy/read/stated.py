"""What a worker's manifest states about its engine; None where it leaves the engine's default."""

from __future__ import annotations

from dataclasses import dataclass

from aiconf.deploy.read.flags import Flags
from aiconf.errors import UserError
from aiconf.serving.plan import Role

# What the engines call a KV cache type, in the words of the model of memory; auto follows the
# checkpoint.
_KV_DTYPES = {
    "auto": None, "bfloat16": "bf16", "bf16": "bf16", "float16": "bf16", "half": "bf16",
    "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8",
}  # fmt: skip


@dataclass(frozen=True)
class Stated:
    """Settings of one kind of worker.

    tp, pp, dp, ep: as in ``Parallel``. apart: data-parallel ranks that share nothing, so each
    is an engine of its own. sequences: running sequences of the whole worker. token_budget: of
    one attention rank. graphs: captured decode batch sizes; empty: none are captured.
    largest_graph: bound of the engine's own list of them. prompt_graphs: False where iterations
    with prompts use none. overlap: False where host and GPU take turns. exchange: how tokens
    reach experts.
    drafts: tokens that ``drafter`` proposes per iteration, ``draft_model`` its checkpoint where it
    is one of its own. whole_prompts: the engine computes a
    prompt in one iteration or not at all. quantization: of the weights, made at start-up where
    the checkpoint is not quantised. loose: what is set but not modelled.
    """

    model: str
    served: str | None
    role: Role | None
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    apart: int = 1
    sequences: int | None = None
    token_budget: int | None = None
    max_model_len: int | None = None
    kv_dtype: str | None = None
    kv_block_size: int | None = None
    memory_fraction: float | None = None
    graphs: tuple[int, ...] | None = None
    largest_graph: int | None = None
    prompt_graphs: bool | None = None
    overlap: bool | None = None
    prefix_caching: bool | None = None
    exchange: str | None = None
    moe_backend: str | None = None
    drafts: int = 0
    drafter: str = ""
    draft_model: str = ""
    whole_prompts: bool = False
    quantization: str | None = None
    loose: tuple[str, ...] = ()


def kv_dtype(flags: Flags, value: str | None) -> str | None:
    """Return a KV cache type as the model of memory names it; None: the checkpoint's.

    Raises
    ------
    UserError
        A type that is not modelled.
    """
    if value is None:
        return None
    if value.lower() not in _KV_DTYPES:
        raise UserError(
            f"{flags.where}: a KV cache of {value} is not modelled; known: "
            f"{', '.join(_KV_DTYPES)}"
        )
    return _KV_DTYPES[value.lower()]


def role_of(flags: Flags, mode: str | None) -> Role | None:
    """Return the role that ``--disaggregation-mode`` states; None where it states none.

    Raises
    ------
    UserError
        A role that is not modelled, such as an encoder of images.
    """
    roles: dict[str | None, Role | None] = {
        None: None, "null": None, "agg": None, "pd": None, "prefill_and_decode": None,
        "prefill": "prefill", "decode": "decode",
    }  # fmt: skip
    if mode not in roles:
        raise UserError(f"{flags.where}: workers of mode {mode} are not modelled")
    return roles[mode]


