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
MODEL_TYPES = {"clip": "CLIPModel", "clip_text_model": "CLIPTextModel"}  # transformers' names of classes
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
UNUSED: dict[Part, tuple[str, ...]] = {  # keys of the same classes that change nothing, or not without one in SERVED
    "unet": ("dropout", "addition_time_embed_dim", "addition_embed_type_num_heads"),
    "vae": (),
    "text_encoder": (
        "attention_dropout", "dropout", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_factor",
        "initializer_range", "logit_scale_init_value", "transformers_version", "architectures", "dtype",
        "torch_dtype", "output_hidden_states", "output_attentions", "return_dict", "chunk_size_feed_forward",
        "is_encoder_decoder", "id2label", "label2id", "problem_type",
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


CONFIG = "config.json"
SCHEDULER = "scheduler/scheduler_config.json"


def config_path(weights: Path) -> Path:
    """Where the config.json of a weight file, or of a folder with one, is looked for."""
    return weights / CONFIG if weights.is_dir() else weights.with_name(CONFIG)


def scheduler_paths(weights: Path) -> list[Path]:
    """Where the scheduler_config.json of a diffusers folder is looked for, of which `weights` is or is in."""
    return [folder / SCHEDULER for folder in (weights, weights.parent, weights.parent.parent)]


def files_beside(weights: Path) -> list[Path]:
    """The files of settings that are read with the weights of a UNet, VAE or text encoder.

    Args:
        weights: The weight file, or a folder with one.

    Returns:
        Those that exist. The tokenizer beside a text encoder is not among them.
    """
    return [path for path in (config_path(weights), *scheduler_paths(weights)) if path.is_file()]


class OtherWeightsError(FormatError):
    """A config.json is of other weights than those that it lies beside."""


def class_of(config: Mapping[str, Any]) -> str:
    """The class that a config.json of diffusers or transformers names, "" if none."""
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    kind = config.get("model_type")
    return str(config.get("_class_name") or first or MODEL_TYPES.get(str(kind), kind) or "")


def config_beside(file: Path, part: Part) -> tuple[dict[str, Any], set[Part]]:
    """The config.json beside a weight file, if it may be one of this part.

    It is that by the class that it names, or, if it names none, by its keys. One that is of no part is reported by a
    warning.

    Args:
        file: The weight file.
        part: The part of a model that is read from it.

    Returns:
        Its values by key, {} if there is none of this part; and the parts that it may be of.

    Raises:
        FormatError: It is no JSON.
    """
    path = config_path(file)
    config = read_json(path)
    if not config:
        return {}, set()
    if named := class_of(config):
        parts = {each for each, classes in CLASSES.items() if named.startswith(classes)}
        why = f"its class is {named}, which is none of a {', a '.join(PART_NAMES.values())}"
        why += " that can be loaded; name its class"
    else:
        keys = [key for key in config if not key.startswith("_")]
        foreign = {part: [key for key in keys if not _is_known(key, part)] for part in CLASSES}
        parts = {each for each in CLASSES if keys and not foreign[each]}
        fewest = min(foreign, key=lambda each: len(foreign[each]))
        why = f"it names no class, and {', '.join(map(repr, foreign[fewest][:3]))} is no setting of a "
        why += f"{PART_NAMES[fewest]}; give it a _class_name, or only the settings of one part"
        if not keys:
            return {}, set()
    if not parts:
        warnings.warn(f"{path} is not used: {why}", stacklevel=2)
    return (config if part in parts else {}), parts


def _is_known(key: str, part: Part) -> bool:
    return key in READ[part] or key in SERVED[part] or key in UNUSED[part]


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
        OtherWeightsError: A value differs.
    """
    for key, value in shown.items():
        told = config.get(key)
        if isinstance(told, (list, tuple)):
            told, value = list(told), list(value) if isinstance(value, (list, tuple)) else [value] * len(told)
        if told is not None and told != value:
            raise OtherWeightsError(
                f"config.json says {key} {told}, the tensors have {value}: it is of other weights"
            )


def _equal(value: Any, other: Any) -> bool:
    numbers = [isinstance(each, (int, float)) and not isinstance(each, bool) for each in (value, other)]
    return math.isclose(value, other, rel_tol=1e-6) if all(numbers) else value == other
