"""Which parameters a stage trains: presets of parameter names."""

from __future__ import annotations

from torch import nn

HEADS = ("places.", "pictures.", "words.")  # of training.auxiliary_heads, which are always trained
TEMPORAL = ("temp_convs.", ".temp_", "temp_attentions.", "frame_", "transformer_in.", *HEADS)
LORA = "lora_"

PRESETS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    # The whole UNet; the text encoder is frozen.
    "unet": ("unet.", *HEADS),
    # The paper's: Temp-Conv, Temp-Attn, self- and cross-attention; ResNets and text encoder are frozen.
    "paper": (*TEMPORAL, ".attn1.", ".attn2."),
    # The temporal layers alone: an image model's own layers are frozen.
    "temporal": TEMPORAL,
    # LoRA layers of self-, cross- and temporal attention.
    "lora": (LORA,),
    # The VAE's decoder, so that latents keep their meaning.
    "decoder": ("decoder.", "post_quant_conv."),
}
"""For each preset parts of names: a parameter whose dotted name contains one of them is trained."""


def select(model: nn.Module, preset: str) -> dict[str, nn.Parameter]:
    """The parameters of a model, by name, that a preset trains."""
    parts = PRESETS[preset]
    return {name: p for name, p in model.named_parameters() if any(part in name for part in parts)}


def trains_text(preset: str) -> bool:
    """Whether a preset trains the text encoder."""
    return preset == "all"
