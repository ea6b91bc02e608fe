"""Which parameters a stage trains, by name."""

from __future__ import annotations

from torch import nn

HEADS = ("places.", "pictures.", "words.")  # of training.heads: what is new is always trained

# A parameter is trained if its dotted name contains one of these.
PRESETS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    # As the paper has it: ResNets and text encoder stay; Temp-Conv and the transformers, spatial and temporal, train.
    "paper": ("temp_convs.", "attentions.", "frame_", "transformer_in.", *HEADS),
    # The VAE's decoder, so that latents stay what they are.
    "decoder": ("decoder.", "post_quant_conv."),
    "temporal": ("temp_convs.", ".temp_", "temp_attentions.", "frame_", "transformer_in.", *HEADS),
}


def select(model: nn.Module, preset: str) -> dict[str, nn.Parameter]:
    """The parameters of a model that a preset trains."""
    marks = PRESETS[preset]
    return {name: p for name, p in model.named_parameters() if any(mark in name for mark in marks)}
