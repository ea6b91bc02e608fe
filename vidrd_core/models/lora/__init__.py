"""LoRA (Hu et al., 2021) for the UNet and the text encoder: low-rank changes, merged into their weights."""
