"""A small recipe of every kind of stage."""

import yaml

STAGE = {"batch_size": 1, "learning_rate": 1e-3, "warmup": 1, "log_every": 1, "sample_every": 100}
RECIPE = {
    "data": {
        "frames": 4, "size": 32, "sources": [
            {"shapes": {"clips": 20, "seed": 3}}, {"stills": {"clips": 6}, "weight": 0.5},
            {"name": "pictures", "stills": {"clips": 6, "frames": 1}, "weight": 0.5},
        ],
    },
    "vae": {
        "block_out_channels": [4, 8], "layers_per_block": 1, "norm_groups": 2, "patch_size": 2, "temp_conv_depth": 1,
    },
    "unet": {
        "block_out_channels": [8, 16], "attention_levels": [False, True], "heads": [2, 2], "layers_per_block": 1,
        "cross_attention_dim": 12, "norm_groups": 4, "temp_conv_depth": 2, "text_pooling": True,
        "position_features": True, "frame_embedding": 16, "frame_pictures": 2,
    },
    "text": {"hidden_size": 12, "heads": 2},
    "diffusion": {"prediction": "v", "frames": 4, "size": 32},
    "samples": {"prompts": ["a red circle moving right", "a blue star growing"], "steps": 2, "clips": 2},
    "stages": [
        {"name": "vae", "task": "vae", "steps": 3, **STAGE},
        {"name": "captions", "task": "captions", "steps": 2, "places_weight": 1.0, "pictures_weight": 1.0, **STAGE},
        {"name": "image", "task": "image", "steps": 3, "words_weight": 0.1, "places_weight": 1.0, **STAGE},
        {"name": "clip", "task": "clip", "steps": 4, "train": "paper", "image_share": 0.3, **STAGE},
        {"name": "decoder", "task": "vae_temporal", "steps": 3, "train": "decoder", **STAGE},
    ],
}  # fmt: skip


def write_recipe(path, **changes):
    path.write_text(yaml.safe_dump({"out": str(path.parent / "run"), **RECIPE, **changes}))
    return path
