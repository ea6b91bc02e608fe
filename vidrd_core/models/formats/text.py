"""CLIP text encoders of Stable Diffusion in any format: their settings, and their tensors under our names.

Our names are those of transformers' CLIPTextModel, without "text_model.".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.clip_text_encoder import CLIPTextSettings
from vidrd_core.models.formats.config_files import OtherWeightsError, check_config, check_shapes, class_of
from vidrd_core.models.formats.naming import Naming, Tensors, detect_naming

HEAD_DIM = 64  # channels of an attention head in all CLIP text encoders of Stable Diffusion

# By the width of the encoder: the layers that Stable Diffusion reads, where these are not all, and the activation.
# OpenAI's CLIP (768) has a fast approximation of GELU; OpenCLIP's ViT-H and bigG (1024, 1280) have the real one.
LAYERS_READ = {1024: 23}
ACTIVATIONS = {768: "quick_gelu", 1024: "gelu", 1280: "gelu"}

DEFAULTS = {"num_hidden_layers": 12, "num_attention_heads": 8, "hidden_act": "quick_gelu"}  # of CLIPTextConfig

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_UNUSED = re.compile(r".*(position_ids|text_projection(\.weight)?|logit_scale|attn_mask)")
_FIRST = "embeddings.token_embedding.weight"
_OPEN_CLIP = re.compile(r"(?:model\.)?transformer\.resblocks\.(\d+)\.(.+)")
_OPEN_CLIP_ENDS = {
    "token_embedding.weight": _FIRST,
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def identify_text(
    tensors: Tensors, config: Mapping[str, Any] | None = None
) -> tuple[CLIPTextSettings, dict[str, Tensor]]:
    """Identify a CLIP text encoder by its tensors, in any format.

    Args:
        tensors: All of its tensors, by their names in the file without the text encoder's prefix.
        config: transformers' config.json beside the file, for what tensors do not show: num_attention_heads (64
            channels a head without a config), hidden_act, and num_hidden_layers if only the first ones are used.

    Returns:
        The encoder's settings, and its tensors under our names.

    Raises:
        FormatError: The tensors are not a complete CLIP text encoder, or the config does not fit.
    """
    config = _text_config(config or {})
    check_config(config, "text_encoder")
    naming = detect_naming(NAMINGS, tensors) or TRANSFORMERS
    named = naming.to_ours(tensors)
    try:
        width = named["embeddings.token_embedding.weight"].shape[1]
        vocabulary = named["embeddings.token_embedding.weight"].shape[0]
        length = named["embeddings.position_embedding.weight"].shape[0]
        inner = named["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except IndexError as error:
        raise FormatError("the text encoder has weights of other shapes than CLIP's") from error
    except KeyError as error:
        raise FormatError(f"the text encoder is no CLIP, or not whole: it lacks {error}") from error
    in_file = 1 + max(int(m[1]) for key in named if (m := _LAYER.match(key)))
    wanted = config.get("num_hidden_layers", in_file)
    if type(wanted) is not int or not 1 <= wanted <= in_file:
        raise OtherWeightsError(f"config.json says num_hidden_layers {wanted}, the tensors have {in_file}: it is of "
                                "other weights")  # fmt: skip
    layers = min(wanted, _layers_read(naming, width, in_file, has_config="num_hidden_layers" in config))
    named = {key: tensor for key, tensor in named.items() if not (m := _LAYER.match(key)) or int(m[1]) < layers}
    activation = ACTIVATIONS.get(width, naming.settings.get("activation", "quick_gelu"))
    shown = {"vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner}
    check_shapes(config, {**shown, "max_position_embeddings": length})
    settings = CLIPTextSettings(
        vocabulary=vocabulary,
        hidden_size=width,
        inner_size=inner,
        layers=layers,
        heads=config.get("num_attention_heads", max(1, width // HEAD_DIM)),
        max_length=length,
        activation=config.get("hidden_act", activation),
    )
    return settings, named


def _layers_read(naming: Naming, width: int, in_file: int, has_config: bool) -> int:
    """How many layers Stable Diffusion reads: of OpenCLIP's all but the last, which files may lack already."""
    if naming is TRANSFORMERS and has_config:  # a folder that was made for diffusers
        return in_file
    is_whole = naming is CLIP_MODEL or width not in ACTIVATIONS
    if is_whole and (width in LAYERS_READ or naming is OPEN_CLIP):
        return max(1, in_file - 1)
    return min(in_file, LAYERS_READ.get(width, in_file))


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The text encoder's settings of a config.json, with transformers' own for missing ones if it is of its class."""
    defaults = DEFAULTS if class_of(config) else {}
    found = config.get("text_config") or config  # in the config of a CLIPModel
    if not isinstance(found, Mapping):
        raise FormatError(f"config.json has text_config {str(found)[:60]!r}, expected names with values")
    return {**defaults, **{key: value for key, value in found.items() if value is not None}}


def _is_open_clip(keys: Collection[str]) -> bool:
    return any(_OPEN_CLIP.fullmatch(key) for key in keys)


def _from_open_clip(tensors: Tensors) -> dict[str, Tensor]:
    named = {}
    for key, tensor in tensors.items():
        if _UNUSED.fullmatch(key) or key.removeprefix("model.").startswith("visual."):
            continue
        if not (found := _OPEN_CLIP.fullmatch(key)):
            plain = key.removeprefix("model.")
            named[_OPEN_CLIP_ENDS.get(plain, plain)] = tensor
            continue
        layer, rest = f"encoder.layers.{found[1]}", found[2]
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for name, part in zip("qkv", torch.chunk(tensor, 3), strict=True):
                named[f"{layer}.self_attn.{name}_proj.{kind}"] = part
            continue
        stem, _, last = rest.rpartition(".")
        named[f"{layer}.{_OPEN_CLIP_LAYER.get(stem, stem)}.{last}"] = tensor
    return named


def _is_transformers(keys: Collection[str]) -> bool:
    return any("token_embedding.weight" in key for key in keys)


def _from_transformers(tensors: Tensors) -> dict[str, Tensor]:
    """Without what programs put before the names, such as "transformer.text_model." or "clip_l.transformer."."""
    before = [key.removesuffix(_FIRST) for key in tensors if key.endswith(_FIRST)]
    if len(before) > 1:
        raise FormatError(
            f"the file has several text encoders ({', '.join(map(repr, before))}): expected one, as Stable Diffusion "
            "1.x and 2.x have"
        )
    return {
        key.removeprefix(before[0] if before else ""): tensor
        for key, tensor in tensors.items()
        if not _UNUSED.fullmatch(key)
    }


def _is_clip_model(keys: Collection[str]) -> bool:
    return any(key.startswith("text_model.") for key in keys) and any(key.startswith("vision_model.") for key in keys)


def _from_clip_model(tensors: Tensors) -> dict[str, Tensor]:
    """The text model alone."""
    return _from_transformers({key: tensor for key, tensor in tensors.items() if key.startswith("text_model.")})


OPEN_CLIP = Naming(
    part="text_encoder",
    name="OpenCLIP",
    used_by="Stable Diffusion 2.x checkpoints, and the whole CLIP of ModelScope's and LAION's own releases",
    detect=_is_open_clip,
    to_ours=_from_open_clip,
    settings={"activation": "gelu"},
)
TRANSFORMERS = Naming(
    part="text_encoder",
    name="transformers",
    used_by="CLIPTextModel folders and Stable Diffusion 1.x checkpoints",
    detect=_is_transformers,
    to_ours=_from_transformers,
)
CLIP_MODEL = Naming(
    part="text_encoder",
    name="transformers' CLIPModel",
    used_by="whole CLIPs of OpenAI and LAION on Hugging Face",
    detect=_is_clip_model,
    to_ours=_from_clip_model,
)
NAMINGS = (OPEN_CLIP, CLIP_MODEL, TRANSFORMERS)
