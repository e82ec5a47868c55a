"""Names of the source and what they are called here."""

from __future__ import annotations

# Precisions. A name that is not listed is kept as it is.
PRECISIONS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp8_e4m3": "fp8",
    "int4_wo": "int4",
    "sq": "int8_sq",  # SmoothQuant
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4_fp8",
}

# Bytes of one element, by the source's name: collectives count elements.
ELEMENT_BYTES = {"half": 2, "float16": 2, "bfloat16": 2, "float32": 4, "float": 4, "int8": 1}

COLLECTIVES = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}

# Kernels of collectives and of MoE communication, by the source's name.
COLLECTIVE_KERNELS = {
    "NCCL": "nccl",
    "TRTLLM": "trtllm",
    "TRTLLM_MNNVL_oneshot": "trtllm_mnnvl_oneshot",
    "TRTLLM_MNNVL_twoshot": "trtllm_mnnvl_twoshot",
    "vLLM_custom_graph": "custom_graph",
    "vLLM_custom_eager": "custom_eager",
    "SGLang_CustomAllReduce_graph": "custom_graph",
    "SGLang_CustomAllReduce_eager": "custom_eager",
}
MOE_COMMUNICATION_KERNELS = {
    "trtllm_deepep_ht": "deepep_ht",
    "trtllm_deepep_ll": "deepep_ll",
    "NVLinkOneSided": "nvlink_one_sided",
    "NVLinkTwoSided": "nvlink_two_sided",
}

# The model whose MLA block the source measures unless it says otherwise.
DEFAULT_MLA_MODEL = "deepseek-ai/DeepSeek-V3"

# Hidden size of the models whose sparse block the source measures (config.json of each).
DSA_HIDDEN = {"DeepseekV32ForCausalLM": 7168, "GlmMoeDsaForCausalLM": 6144}

SPARSE_HIDDEN = {
    "DeepSeek-V4-Flash": 4096,
    "DeepSeek-V4-Flash-FP8": 4096,
    "DeepSeek-V4-Pro": 7168,
    "DeepSeek-V4-Pro-FP8": 7168,
    "MiniMax-M3": 6144,
}


def precision(name: str) -> str:
    """Return our name of a precision of the source."""
    return PRECISIONS.get(name, name)


def mla_scope(model: str) -> str:
    """Return the ``scope`` of a whole MLA block of ``model`` (a Hugging Face id)."""
    if model == DEFAULT_MLA_MODEL:
        return "module"
    slug = model.rsplit("/", maxsplit=1)[-1].lower()
    return "module_" + "".join(c if c.isalnum() else "_" for c in slug)
