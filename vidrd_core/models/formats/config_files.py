"""config.json of diffusers and transformers beside weights: which part it is of, and what in it is not supported."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.naming import PART_NAMES, Part
from vidrd_core.models.formats.weight_files import read_json

CLASSES: dict[Part, tuple[str, ...]] = {  # how the names of the classes begin
    "unet": ("UNet2DConditionModel", "UNet3DConditionModel", "UNetSpatioTemporal"),
    "vae": ("Autoencoder", "AsymmetricAutoencoder", "VQModel"),
    "text_encoder": ("CLIP",),
}
READ: dict[Part, tuple[str, ...]] = {  # keys whose values are used, or compared with the tensors
    "unet": (
        "in_channels", "out_channels", "block_out_channels", "layers_per_block", "cross_attention_dim",
        "attention_head_dim", "num_attention_heads", "norm_num_groups", "use_linear_projection", "sample_size",
    ),
    "vae": (
        "in_channels", "out_channels", "block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups",
        "scaling_factor", "shift_factor", "latents_mean", "latents_std", "sample_size", "force_upcast",
        "use_quant_conv", "use_post_quant_conv", "up_block_types", "down_block_types",
    ),
    "text_encoder": (
        "num_attention_heads", "hidden_act", "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
        "max_position_embeddings", "text_config", "vision_config", "projection_dim", "model_type",
    ),
}  # fmt: skip
SERVED: dict[Part, dict[str, tuple[Any, ...]]] = {  # keys that change what is computed, and values served
    "unet": {
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "center_input_sample": (False,),
        "act_fn": ("silu", "swish"),
        "norm_eps": (1e-5,),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock3D", "DownBlock3D"),
        "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock3DCrossAttn"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock3D", "UpBlock3D"),
        "only_cross_attention": (False,),
        "mid_block_only_cross_attention": (None, False),
        "dual_cross_attention": (False,),
        "downsample_padding": (1,),
        "mid_block_scale_factor": (1,),
        "transformer_layers_per_block": (1,),
        "reverse_transformer_layers_per_block": (None, 1),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "class_embed_type": (None,),
        "addition_embed_type": (None,),
        "num_class_embeds": (None,),
        "class_embeddings_concat": (False,),
        "projection_class_embeddings_input_dim": (None,),
        # diffusers' attention in PyTorch ignores it: the product of keys and queries is summed in float32 anyway.
        "upcast_attention": (False, True),
        "resnet_time_scale_shift": ("default",),
        "resnet_skip_time_act": (False,),
        "resnet_out_scale_factor": (1,),
        "time_embedding_type": ("positional",),
        "time_embedding_dim": (None,),
        "time_embedding_act_fn": (None,),
        "timestep_post_act": (None,),
        "time_cond_proj_dim": (None,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "attention_type": ("default",),
        "cross_attention_norm": (None,),
    },
    "vae": {"act_fn": ("silu", "swish"), "mid_block_add_attention": (True,)},
    "text_encoder": {"layer_norm_eps": (1e-5,), "hidden_act": ("quick_gelu", "gelu")},
}


def config_beside(file: Path, part: Part) -> dict[str, Any]:
    """The config.json beside a weight file, if it is one of this part.

    It is that by the class that it names, or, if it names none, by its keys. One that is of no part is reported by a
    warning.

    Args:
        file: The weight file.
        part: The part of a model that is read from it.

    Returns:
        Its values by key; {} if there is none of this part.

    Raises:
        FormatError: It is no JSON.
    """
    path = file.with_name("config.json")
    config = read_json(path)
    if not config:
        return {}
    named = [str(config.get("_class_name", "")), *map(str, config.get("architectures") or [])]
    if named != [""]:
        return config if any(name.startswith(CLASSES[part]) for name in named) else {}
    keys = [key for key in config if not key.startswith("_")]
    unknown = {each: [key for key in keys if key not in READ[each] and key not in SERVED[each]] for each in CLASSES}
    if keys and not unknown[part]:
        return config
    if all(unknown.values()):
        fewest = min(unknown, key=lambda each: len(unknown[each]))
        warnings.warn(
            f"{path} is not used: it names no class, and {', '.join(map(repr, unknown[fewest][:3]))} is no setting "
            f"of a {PART_NAMES[fewest]}; give it a _class_name, or only the settings of one part",
            stacklevel=2,
        )
    return {}


def check_config(config: Mapping[str, Any], part: Part) -> None:
    """Check that a config.json asks for nothing that this package's networks do not compute.

    Args:
        config: Its values by key.
        part: The part of a model that it is of.

    Raises:
        FormatError: A value is not served; the message names the key and the values that are.
    """
    for key, served in SERVED[part].items():
        value = served[0] if config.get(key) is None else config[key]
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if not any(_equal(each, one) for one in served):
                raise FormatError(
                    f"config.json says {key} {each!r}, expected {' or '.join(map(repr, served))}: such a "
                    f"{PART_NAMES[part]} is another network"
                )


def check_shapes(config: Mapping[str, Any], shown: Mapping[str, Any]) -> None:
    """Check that a config.json is of the weights that it lies beside.

    Args:
        config: Its values by key.
        shown: What the tensors show of the same keys.

    Raises:
        FormatError: A value differs.
    """
    for key, value in shown.items():
        told = config.get(key)
        if isinstance(told, (list, tuple)):
            told, value = list(told), list(value) if isinstance(value, (list, tuple)) else [value] * len(told)
        if told is not None and told != value:
            raise FormatError(f"config.json says {key} {told}, the tensors have {value}: it is of other weights")


def _equal(value: Any, other: Any) -> bool:
    numbers = [isinstance(each, (int, float)) and not isinstance(each, bool) for each in (value, other)]
    return math.isclose(value, other, rel_tol=1e-6) if all(numbers) else value == other
