"""What a folder or a config.json is when it is not a decoder that engines serve as a whole model.

Each answer is one sentence: what was found, and what would be read instead. Names of classes
follow transformers' auto classes (huggingface/transformers models/auto/modeling_auto.py), files
those of peft, diffusers, sentence-transformers and llama.cpp.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from aiconf.model.families.config import Config, shown

_SUPPORTED = "supported is a decoder's folder with config.json (safetensors checkpoints)"
_MARKERS = (
    ("adapter_config.json", "a LoRA or PEFT adapter, not a model"),
    ("model_index.json", "a diffusion pipeline, which generates no text token by token"),
    ("config_sentence_transformers.json", "an embedding model (sentence-transformers)"),
)
_ENDINGS = (
    (r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice)$",
     "a classifier, which decodes nothing"),
    (r"(RewardModel|ForReward|ForProcessRewardModel|ForSequenceScoring)$",
     "a reward model, which decodes nothing"),
    (r"(ForMaskedLM|ForPreTraining|ForNextSentencePrediction)$", "encoder-only"),
    (r"For(ImageClassification|ObjectDetection|SemanticSegmentation|MaskGeneration|DepthEstimation"
     r"|ImageTextRetrieval)$", "a vision model, which generates no text"),
    (r"(For(CTC|AudioClassification|SpeechSeq2Seq|AudioFrameClassification|XVector"
     r"|TextToSpeech|AudioTokenization)|^Whisper.*)$", "an audio model"),
    (r"(UNet|Transformer2D|Transformer3D|AutoencoderKL|Diffusion|DiT)", "a diffusion model"),
    (r"^(T5|MT5|UMT5|LongT5|Bart|MBart|BartPho|Pegasus|Marian|M2M100|NllbMoe|LED|Blenderbot"
     r"|FSMT|ProphetNet|SwitchTransformers|T5Gemma\w*|EncoderDecoder|FlaxT5)"
     r"(For(ConditionalGeneration|QuestionAnswering)|Model|MTModel|LMHeadModel|WithLMHead\w*)?$",
     "an encoder-decoder"),
    (r"^(Bert|Roberta|XLMRoberta|Albert|Electra|Deberta\w*|DistilBert|ModernBert|MPNet|Nomic\w*"
     r"|NewModel|Gte\w*|Esm|CamemBert|JinaBert\w*|EuroBert)(Model|LMHeadModel|ForCausalLM)?$",
     "encoder-only"),
    (r"^(CLIP|Siglip\w*|ViT|Dinov\w+|SwinTransformer)\w*$", "a vision model"),
    (r"(?<!Chat)(?<!ChatGLM)(?<!LMHead)Model$",
     "a bare model without an output head, as for embeddings"),
    (r"(Eagle|Medusa|MTP|NextN|DraftModel|Assistant)", "a draft model for speculative decoding"),
)  # fmt: skip


def foreign_folder(folder: Path) -> str | None:
    """Say what a folder holds when it holds no served decoder, None otherwise.

    Parameters
    ----------
    folder
        A folder that exists.
    """
    for file, kind in _MARKERS:
        if (folder / file).is_file():
            base = _base(folder / file) if file == "adapter_config.json" else ""
            return f"'{folder}' has {file}: {kind}; {base or _SUPPORTED}"
    if (folder / "config.json").is_file():
        return None
    weights = next(iter(sorted(folder.glob("*.gguf"))), None)
    if weights is not None:
        return f"'{folder}' has {weights.name}: {_GGUF}"
    engine = next(iter(sorted(folder.glob("*.engine"))), None)
    if engine is not None:
        return f"'{folder}' has {engine.name}: a compiled engine, not a checkpoint; {_SUPPORTED}"
    nested = sorted(path.parent.name for path in folder.glob("*/config.json"))
    inside = f"; it is in {', '.join(nested[:3])}" if nested else ""
    return f"no config.json in '{folder}'{inside}"


_GGUF = f"a GGUF file of llama.cpp is not read; {_SUPPORTED}"


def foreign_file(path: Path) -> str | None:
    """Say what a file is when it is no JSON of a model, None otherwise."""
    if path.suffix == ".gguf":
        return f"'{path}': {_GGUF}"
    if path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".engine"):
        return f"'{path}' holds weights: give the folder that has its config.json"
    if path.name == "adapter_config.json":
        return f"'{path}': a LoRA or PEFT adapter, not a model; {_base(path) or _SUPPORTED}"
    if path.name == "model_index.json":
        return f"'{path}': {_MARKERS[1][1]}; {_SUPPORTED}"
    return None


def foreign_architecture(config: Config, architecture: str) -> str | None:
    """Say what an architecture is when it is no decoder, None otherwise."""
    if config.get("_diffusers_version") or config.get("_class_name"):
        return f"'{shown(config.get('_class_name'))}' is a diffusion model; supported are decoders"
    if config.get("peft_type"):
        return "this is a LoRA or PEFT adapter; give its base model"
    for pattern, kind in _ENDINGS:
        if re.search(pattern, architecture):
            return f"'{shown(architecture)}' is {kind}; supported are decoders (...ForCausalLM)"
    if config.flag("is_encoder_decoder"):
        return f"'{shown(architecture)}' is an encoder-decoder; supported are decoders"
    return None


def _base(path: Path) -> str:
    """Return which model an adapter belongs to, as far as its file says."""
    try:
        base = json.loads(path.read_text("utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return ""
    return f"give its base model, '{shown(base)}'" if base else ""
