"""Model families: from the keys of a config.json to layers, one reader per architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiconf.model.families import dense, hybrid, kimi, latent, moe, nemotron, pattern, tower
from aiconf.model.families.config import Config
from aiconf.model.spec import LayerGroup
from aiconf.model.vision import VisionTower


@dataclass(frozen=True)
class Family:
    """Reads the layers of an architecture.

    section: where config.json holds the language model's figures. experts: where a layer holds
    its routed experts, as lists of quantised modules name them. vision: reads the tower from
    the whole config and the language model's part; None: the tower is not known.
    """

    layers: Callable[[Config], tuple[LayerGroup, ...]]
    section: str | None = None
    experts: str = "mlp.experts"
    vision: Callable[[Config, Config], VisionTower] | None = None


FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(dense.llama),
    "GraniteForCausalLM": Family(dense.llama),
    "Phi3ForCausalLM": Family(dense.phi3),
    "MistralForCausalLM": Family(dense.mistral),
    "Mistral3ForConditionalGeneration": Family(dense.mistral, section="text_config"),
    "MiMoForCausalLM": Family(dense.qwen2),
    "Qwen2ForCausalLM": Family(dense.qwen2),
    "Qwen3ForCausalLM": Family(dense.qwen3),
    "Qwen3VLForConditionalGeneration": Family(
        dense.qwen3, section="text_config", vision=tower.qwen
    ),
    "Qwen3VLMoeForConditionalGeneration": Family(
        moe.qwen3_moe, section="text_config", vision=tower.qwen
    ),
    "Qwen3MoeForCausalLM": Family(moe.qwen3_moe),
    "Qwen3NextForCausalLM": Family(hybrid.qwen3_next),
    "Qwen3_5ForConditionalGeneration": Family(
        hybrid.qwen3_next, section="text_config", vision=tower.qwen
    ),
    "Qwen3_5MoeForConditionalGeneration": Family(
        hybrid.qwen3_next, section="text_config", vision=tower.qwen
    ),
    "Llama4ForConditionalGeneration": Family(pattern.llama4, section="text_config"),
    "Gemma3ForCausalLM": Family(pattern.gemma3),
    "Gemma3ForConditionalGeneration": Family(
        pattern.gemma3, section="text_config", vision=tower.siglip
    ),
    "Gemma4ForConditionalGeneration": Family(
        pattern.gemma4, section="text_config", experts="experts"
    ),
    "MiMoV2FlashForCausalLM": Family(pattern.mimo_v2),
    "Step3p7FlashForCausalLM": Family(pattern.step3),
    "NemotronHForCausalLM": Family(nemotron.nemotron_h),
    "MixtralForCausalLM": Family(moe.mixtral),
    "GptOssForCausalLM": Family(moe.gpt_oss),
    "MiniMaxM2ForCausalLM": Family(moe.minimax_m2),
    "Glm4MoeForCausalLM": Family(moe.glm4_moe),
    "DeepseekV2ForCausalLM": Family(latent.deepseek),
    "DeepseekV3ForCausalLM": Family(latent.deepseek),
    "DeepseekV32ForCausalLM": Family(latent.deepseek),
    "GlmMoeDsaForCausalLM": Family(latent.deepseek),
    "KimiK3ForConditionalGeneration": Family(
        kimi.kimi_linear, section="text_config", vision=tower.moonvit
    ),
    "KimiK25ForConditionalGeneration": Family(
        latent.deepseek, section="text_config", vision=tower.moonvit
    ),
}

__all__ = ["FAMILIES", "Config", "Family"]
