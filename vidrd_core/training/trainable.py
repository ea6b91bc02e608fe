"""Which parameters a stage trains, by name."""

from __future__ import annotations

from torch import nn

HEADS = ("places.", "pictures.", "words.")  # of training.heads: what is new is always trained
TEMPORAL = ("temp_convs.", ".temp_", "temp_attentions.", "frame_", "transformer_in.", *HEADS)
LORA = "lora_"

# A parameter is trained if its dotted name contains one of these.
PRESETS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    # As the paper has it: ResNets and text encoder stay; Temp-Conv, Temp-Attn, self- and cross-attention train.
    "paper": (*TEMPORAL, ".attn1.", ".attn2."),
    # What is new in time alone: an image model's own layers stay as they are.
    "temporal": TEMPORAL,
    # Low-rank changes (PEFT) of self-, cross- and temporal attention.
    "lora": (LORA,),
    # The VAE's decoder, so that latents stay what they are.
    "decoder": ("decoder.", "post_quant_conv."),
}


def select(model: nn.Module, preset: str) -> dict[str, nn.Parameter]:
    """The parameters of a model that a preset trains."""
    marks = PRESETS[preset]
    return {name: p for name, p in model.named_parameters() if any(mark in name for mark in marks)}


def trains_text(preset: str) -> bool:
    """Whether a preset trains the text encoder."""
    return preset == "all"
