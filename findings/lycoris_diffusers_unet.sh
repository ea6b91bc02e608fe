#!/usr/bin/env bash
# LyCORIS's network for trainers refuses the UNets of diffusers (lycoris-lora 4.1.3, diffusers 0.41.0; observed
# 2026-11-29).
#
# lycoris.kohya.create_network() takes the time embedding of a UNet twice: its default targets name both the class
# TimestepEmbedding, which was added for another model, and the layers time_embedding.linear_1 and linear_2 inside it.
# Both get one name, and an assertion stops the training, for images and videos alike. lycoris.create_lycoris() on the
# same UNet works.
# Expected: an adapter for the UNet that the defaults were written for, in which each layer is taken once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 diffusers==0.41.0 lycoris-lora==4.1.3 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import logging

logging.disable(logging.WARNING)
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from lycoris import create_lycoris, kohya

small = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 8}
image = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
video = {
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}
for kind, blocks in ((UNet2DConditionModel, image), (UNet3DConditionModel, video)):
    unet = kind(**small, **blocks, attention_head_dim=4)
    wrapper = create_lycoris(unet, 1.0, linear_dim=4, linear_alpha=4, algo="loha")
    print(f"{kind.__name__}: create_lycoris() makes {len(wrapper.loras)} modules")
    assert wrapper.loras
    for algo in ("lora", "loha"):
        try:
            kohya.create_network(1.0, 4, 4, None, [], unet, algo=algo)
        except AssertionError as error:
            print(f"{kind.__name__}: kohya.create_network(algo={algo!r}) fails: {error}")
            assert "duplicated lora name: lora_unet_time_embedding_linear_1" in str(error)
        else:
            raise SystemExit("create_network() works")
PYTHON
echo "As described."
