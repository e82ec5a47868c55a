"""What the blocks and operators of a model look like, in words."""

from __future__ import annotations

from aiconf.model.operators import (
    Collective,
    Elementwise,
    Gemm,
    GqaAttention,
    HyperConnection,
    LinearScan,
    MlaAttention,
    Moe,
    MoeExchange,
    Operator,
    PipelineSend,
    Quantize,
    SparseBlock,
)
from aiconf.model.spec import Attention, DenseFfn, LinearAttention, MoeFfn

_LINEAR = {"gdn": "gated delta net", "kda": "Kimi delta attention", "mamba2": "Mamba2"}
_SMALL = {
    "norm": "norm", "qk_norm": "norm of q and k", "latent_norm": "norm of latents",
    "rope": "rotary embedding", "kv_write": "write to KV cache", "activation": "activation",
    "topk": "choice of experts", "embedding": "embedding", "gate": "gate",
    "convert": "conversion to float32", "index": "indexer",
}  # fmt: skip


def attention_text(block: Attention | LinearAttention | None) -> str:
    """Name one attention block with its heads, their sizes and what a query sees."""
    if isinstance(block, LinearAttention):
        return (
            f"{_LINEAR[block.kind]}, {block.key_heads} key and {block.value_heads} value heads, "
            f"state {block.key_dim} x {block.value_dim}, convolution of {block.taps}"
        )
    if not isinstance(block, Attention):
        return "none"
    if block.kind == "mla":
        text = f"MLA, {block.heads} heads of {block.head_dim}, "
        text += f"latent {block.kv_lora_rank} + {block.qk_rope_head_dim} rotary"
        if block.q_lora_rank:
            text += f", q latent {block.q_lora_rank}"
    elif block.kind == "compressed":
        text = f"{block.heads} heads over one vector of {block.head_dim} per token"
        if block.compress:
            text += f", and one of every {block.compress} tokens"
        text += f", q latent {block.q_lora_rank}"
    else:
        size = f"{block.head_dim}"
        if block.v_head_dim != block.head_dim:
            size += f" (values {block.v_head_dim})"
        name = "MHA" if block.heads == block.kv_heads else "GQA"
        text = f"{name}, {block.heads} heads over {block.kv_heads} KV heads of {size}"
    if block.index_topk:
        chosen = f"{block.index_heads} index heads of {block.index_dim}"
        text += f", sees {block.index_topk:,} chosen by "
        text += chosen if block.index_heads else "an earlier layer"
    extras = {
        f"window {block.window}": block.window is not None,
        "norm of q and k": block.qk_norm,
        "biases": block.bias,
        "sinks": block.sinks,
        "output gate": block.output_gate,
        "keys serve as values": block.joint_kv,
    }
    return ", ".join([text, *(name for name, there in extras.items() if there)])


def ffn_text(ffn: DenseFfn | MoeFfn | None) -> str:
    """Name one feed-forward block with its widths and experts."""
    if ffn is None:
        return "none"
    if isinstance(ffn, DenseFfn):
        return f"dense {ffn.intermediate:,}{'' if ffn.gated else ', no gate'}"
    text = f"{ffn.topk} of {ffn.experts} experts of {ffn.intermediate:,}"
    if ffn.shared_intermediate:
        text += f", shared {ffn.shared_intermediate:,}"
    if ffn.latent:
        text += f", on a projection to {ffn.latent:,}"
    return text + ("" if ffn.gated else ", no gate")


def operator_text(operator: Operator) -> tuple[str, str, str]:
    """Name an operator of one rank, its shape, and its precision.

    Returns
    -------
    tuple of str
        Name; shape (``k -> n`` of a product with k inputs and n outputs per token); precision.
    """
    return _kernel(operator) or _around(operator) or (type(operator).__name__, "", "")


def _kernel(operator: Operator) -> tuple[str, str, str] | None:
    """Products, attention and experts."""
    found: tuple[str, str, str] | None = None
    match operator:
        case Gemm():
            name = {"lm_head": "output head"}.get(operator.part, f"{operator.part} product")
            found = name, f"{operator.k} -> {operator.n}", operator.dtype
        case GqaAttention():
            shape = f"{operator.heads} / {operator.kv_heads} heads of {operator.head_dim}"
            shape += f", window {operator.window}" if operator.window else ""
            found = "softmax attention", shape, ""
        case MlaAttention():
            shape = f"{operator.heads} heads, latent {operator.kv_lora_rank} + {operator.qk_rope}"
            shape += f", top {operator.index_topk}" if operator.index_topk else ""
            found = "MLA with projections", shape, operator.gemm_dtype
        case SparseBlock():
            shape = f"{operator.heads} / {operator.kv_heads} heads of {operator.head_dim}"
            shape += f", window {operator.window}" if operator.window else ""
            shape += f", top {operator.topk}" if operator.topk else ""
            found = f"{operator.kind.upper()} with projections", shape, operator.gemm_dtype
        case LinearScan():
            shape = f"{operator.key_heads} / {operator.value_heads} heads"
            state = f"state {operator.key_dim} x {operator.value_dim}"
            found = _LINEAR[operator.kind], f"{shape}, {state}", ""
        case Moe():
            split = f"{operator.experts // operator.ep} of {operator.experts} experts here"
            shape = f"{operator.hidden} -> {operator.inter // operator.tp}, top {operator.topk}"
            found = "routed experts", f"{shape}, {split}", operator.dtype
    return found


def _around(operator: Operator) -> tuple[str, str, str] | None:
    """Small kernels, and what joins GPUs."""
    found: tuple[str, str, str] | None = None
    match operator:
        case HyperConnection():
            shape = f"{operator.streams} streams of {operator.hidden}"
            found = "mixing of residual streams", shape, ""
        case Elementwise():
            found = _SMALL[operator.kind], f"{operator.bytes_per_token:,.0f} B/token", ""
        case Quantize():
            found = f"quantise after {operator.after}", f"{operator.k}", operator.dtype
        case Collective():
            name = operator.op.replace("_", "-")
            shape = f"{operator.ranks} GPUs, {operator.bytes_per_token:,.0f} B/token"
            found = f"{name} ({operator.where})", shape, ""
        case MoeExchange():
            shape = f"{operator.ranks} GPUs, {operator.hidden}, top {operator.topk}"
            found = "dispatch and combine", shape, operator.dtype
        case PipelineSend():
            found = "send to next stage", f"{operator.bytes_per_token:,.0f} B/token", ""
    return found
