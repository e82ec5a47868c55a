"""NAME of the model: what is particular about its layers, in a line. Copy to model/families."""

from __future__ import annotations

from aiconf.model.families.config import Config
from aiconf.model.families.family import Family
from aiconf.model.spec import Attention, DenseFfn, LayerGroup, MoeFfn


def name(config: Config) -> tuple[LayerGroup, ...]:
    """Read NameForCausalLM (its modeling file or report, with section or function)."""
    heads, kv_heads, size = config.head_counts()  # num_attention_heads, num_key_value_heads, …
    attention = Attention("gqa", heads, kv_heads, size, size, qk_norm=config.flag("use_qk_norm"))
    experts, topk = config.experts("num_experts", "n_routed_experts")  # and num_experts_per_tok
    width = config.whole("moe_intermediate_size")
    shared = config.whole("n_shared_experts", default=0, least=0)
    ffn = MoeFfn(experts, topk, width, shared_intermediate=shared * width)
    layers = config.whole("num_hidden_layers")
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    if dense >= layers:
        raise config.problem(f"{dense} dense layers leave no layer with experts")
    behind = LayerGroup(layers - dense, attention, ffn)
    if not dense:
        return (behind,)
    return LayerGroup(dense, attention, DenseFfn(config.whole("intermediate_size"))), behind


ARCHITECTURES = {
    "NameForCausalLM": Family(
        name,
        # section="text_config",    where config.json nests the language model
        # experts="mlp.experts",    where a layer holds its routed experts, in names of modules
        # notes=("what this reading leaves out, shown with every answer",),
    ),
}
