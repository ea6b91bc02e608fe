"""LoRA (Hu et al., 2021) for the UNet and the text encoder: low-rank adapters, merged into their weights."""
