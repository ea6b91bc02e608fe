"""CLIP text encoders of Stable Diffusion under transformers' names, whatever naming they come in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.clip_text_encoder import CLIPTextSettings

_OPEN_CLIP = re.compile(r"(?:model\.)?transformer\.resblocks\.(\d+)\.(.+)")
_OPEN_CLIP_ENDS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
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
_IGNORED = re.compile(r".*(position_ids|text_projection(\.weight)?|logit_scale|attn_mask)")
HEAD_DIM = 64  # of all CLIP text encoders that Stable Diffusion uses


def looks_like_text(keys: list[str]) -> bool:
    """Whether these are the keys of a CLIP text encoder."""
    return any("token_embedding.weight" in key for key in keys)


def read_text(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> tuple[
    CLIPTextSettings, dict[str, Tensor]
]:  # fmt: skip
    """Settings and tensors of a text encoder; `config` is transformers' config.json where there is one.

    Raises FormatError for what is none.
    """
    config = config or {}
    open_clip = any(_OPEN_CLIP.fullmatch(key) for key in tensors)
    named = _from_open_clip(tensors) if open_clip else _from_transformers(tensors)
    try:
        width = named["embeddings.token_embedding.weight"].shape[1]
        vocabulary = named["embeddings.token_embedding.weight"].shape[0]
        length = named["embeddings.position_embedding.weight"].shape[0]
        inner = named["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise FormatError(f"the text encoder is no CLIP, or not whole: it lacks {error}") from error
    layers = 1 + max(int(m[1]) for key in named if (m := re.match(r"encoder\.layers\.(\d+)\.", key)))
    settings = CLIPTextSettings(
        vocabulary=vocabulary,
        hidden_size=width,
        inner_size=inner,
        layers=layers,
        heads=config.get("num_attention_heads", max(1, width // HEAD_DIM)),
        max_length=length,
        # OpenAI's CLIP has a fast approximation of GELU, OpenCLIP the real one.
        activation=config.get("hidden_act", "gelu" if open_clip or width == 1024 else "quick_gelu"),
    )
    return settings, named


def _from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix("transformer.").removeprefix("text_model."): tensor
        for key, tensor in tensors.items()
        if not _IGNORED.fullmatch(key)
    }


def _from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's names; its last layer goes, as Stable Diffusion 2.x reads the one before it."""
    depth = 1 + max(int(m[1]) for key in tensors if (m := _OPEN_CLIP.fullmatch(key)))
    named = {}
    for key, tensor in tensors.items():
        if _IGNORED.fullmatch(key):
            continue
        if not (found := _OPEN_CLIP.fullmatch(key)):
            plain = key.removeprefix("model.")
            named[_OPEN_CLIP_ENDS.get(plain, plain)] = tensor
            continue
        layer, rest = f"encoder.layers.{found[1]}", found[2]
        if int(found[1]) == depth - 1:
            continue
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for name, part in zip("qkv", torch.chunk(tensor, 3), strict=True):
                named[f"{layer}.self_attn.{name}_proj.{kind}"] = part
            continue
        stem, _, last = rest.rpartition(".")
        named[f"{layer}.{_OPEN_CLIP_LAYER.get(stem, stem)}.{last}"] = tensor
    return named
