"""Which parameters a stage trains, by name."""

from __future__ import annotations

from torch import nn

# A parameter is trained if its dotted name contains one of these.
PRESETS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    # The paper's figure 2: ResNets and text encoder frozen; Temp-Conv, self-, cross- and temporal attention trained.
    "paper": ("temp_convs.", "attentions.", "frame_", "transformer_in.", "places."),
    # The VAE's decoder, so that latents stay what they are.
    "decoder": ("decoder.", "post_quant_conv."),
    "temporal": ("temp_convs.", ".temp_", "temp_attentions.", "frame_", "transformer_in.", "places."),
}


def select(model: nn.Module, preset: str) -> dict[str, nn.Parameter]:
    """The parameters of a model that a preset trains."""
    marks = PRESETS[preset]
    return {name: p for name, p in model.named_parameters() if any(mark in name for mark in marks)}
