"""Text encoders as ComfyUI's CLIP: VidRD's word-level encoder, and the CLIP of Stable Diffusion."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import comfy.sd
import torch
from comfy.sd1_clip import ClipTokenWeightEncoder, escape_important, token_weights, unescape_important
from torch import Tensor, nn

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.clip_text_encoder import CLIPTextSettings
from vidrd_core.models.formats.detect import read_part
from vidrd_core.models.load_parts import CLIP_TEXT, clip_settings, described_text, find_clip_text, load_text_encoder
from vidrd_core.models.word_text_encoder import END, START, TextEncoder

DEPTHS = {768: 12, 1024: 24}  # layers of ComfyUI's CLIP-L and CLIP-H, by width
STOCK = {  # what it computes with them by default: CLIP-H up to the layer before the last
    768: CLIPTextSettings(),
    1024: CLIPTextSettings(hidden_size=1024, inner_size=4096, layers=23, heads=16, activation="gelu"),
}
Row = list[tuple[Any, ...]]
"""A tokenized prompt: (token, weight), or (token, weight, number of the word)."""


class Tokenizer:
    """ComfyUI's tokenizer interface for VidRD's word-level encoder.

    Args:
        encoder: The text encoder, with its vocabulary.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> list[Row]:
        """Tokenize a prompt that may have weights, as in "a (red:1.2) circle".

        Args:
            text: The prompt.
            return_word_ids: Whether to add each word's number, from 1; 0 for special tokens.

        Returns:
            One row of (token, weight) or (token, weight, number), of the encoder's full length.

        Raises:
            UnknownWordError: A word is not in the vocabulary.
            ValueError: The prompt is too long.
        """
        row: Row = []
        for part, weight in token_weights(escape_important(text), 1.0):
            row += [(number, weight, len(row) + 1) for number in self.encoder.token_ids(unescape_important(part))]
        self.encoder.check_length(len(row), text)
        padding = [(END, 1.0, 0)] * (self.encoder.config.max_length - 1 - len(row))
        row = [(START, 1.0, 0), *row, *padding]
        return [row if return_word_ids else [entry[:2] for entry in row]]

    def untokenize(self, row: Row) -> list[tuple[Any, str]]:
        """Each entry of a row, with its word or ""."""
        words = {number: word for word, number in self.encoder.word_ids.items()}
        return [(entry, words.get(entry[0], "")) for entry in row]

    def state_dict(self) -> dict[str, Tensor]:
        """The encoder's description, which ComfyUI saves beside its tensors, and by which this pack loads them."""
        return {f"encoder.{safetensors.DESCRIPTION}": safetensors.description(described_text(self.encoder)[1])}


class HostTextEncoder(nn.Module, ClipTokenWeightEncoder):
    """VidRD's word-level encoder with the interface of ComfyUI's CLIP models, always in float32: it is small.

    Args:
        encoder: The text encoder.
    """

    dtypes: ClassVar = {torch.float32}
    special_tokens: ClassVar = {"start": START, "end": END, "pad": END}

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def encode(self, tokens: list[list[int]]) -> tuple[Tensor, None]:
        """Features [B, L, D] of B rows of L tokens; there is no pooled vector."""
        device = next(self.parameters()).device
        with torch.no_grad():
            return self.encoder(torch.tensor(tokens, device=device)), None

    def gen_empty_tokens(self, special_tokens: dict[str, int], length: int) -> list[int]:
        """The tokens of an empty prompt, from which ComfyUI interpolates weighted words."""
        return [START] + [END] * (length - 1)

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Ignore CLIP skip and the like: this encoder has no options."""

    def reset_clip_options(self) -> None:
        """Do nothing; see `set_clip_options`."""


def load_clip(path: Path) -> comfy.sd.CLIP:
    """Load a CLIP from a text encoder's file.

    Args:
        path: A text encoder of VidRD, or the CLIP of Stable Diffusion, alone or in a checkpoint.

    Returns:
        A CLIP with its tokenizer.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: The file holds no text encoder of a known format, or one that ComfyUI's CLIP is not.
    """
    if safetensors.is_ours(path) and safetensors.has_kind(path, CLIP_TEXT):  # ComfyUI has its tokenizer
        settings, tensors, _ = find_clip_text(path)
        tensors |= _unread_layers(tensors, settings)
        return _stock_clip({f"text_model.{key}": tensor for key, tensor in tensors.items()}, settings, path)
    if not safetensors.is_ours(path):
        tensors, config = read_part(path, "text_encoder")
        settings = clip_settings(path, tensors, config)
        # Checkpoints of Stable Diffusion 1.x and 2.x have these prefixes before the names that ComfyUI expects.
        plain = {re.sub(r"^(model\.|transformer\.(?=text_model))", "", key): t for key, t in tensors.items()}
        # transformers 5 names its tensors without the prefix.
        plain = {
            re.sub(r"^(?=(embeddings|encoder|final_layer_norm)\.)", "text_model.", k): t for k, t in plain.items()
        }
        return _stock_clip(plain, settings, path)
    encoder = load_text_encoder(path).requires_grad_(False)
    target = SimpleNamespace(
        params={},
        clip=lambda device, **_: HostTextEncoder(encoder).to(device),
        tokenizer=lambda **_: Tokenizer(encoder),
    )
    return comfy.sd.CLIP(target, parameters=sum(p.numel() for p in encoder.parameters()))


def _unread_layers(tensors: dict[str, torch.Tensor], settings: CLIPTextSettings) -> dict[str, torch.Tensor]:
    """The layers that ComfyUI's CLIP has after those of the settings, and does not read: the last one again."""
    layers = STOCK.get(settings.hidden_size, settings).layers
    last = f"encoder.layers.{settings.layers - 1}."
    return {
        f"encoder.layers.{layer}.{key.removeprefix(last)}": tensor
        for layer in range(settings.layers, layers)
        for key, tensor in tensors.items()
        if key.startswith(last)
    }


def _stock_clip(tensors: dict[str, torch.Tensor], settings: CLIPTextSettings, path: Path) -> comfy.sd.CLIP:
    """ComfyUI's own CLIP, from weights by its names, that ends at the layer that the settings say.

    Raises FormatError if ComfyUI's differs from the settings: it has one for each width.
    """
    stock = STOCK.get(settings.hidden_size)
    if stock is not None:
        for name in ("heads", "activation"):
            told, expected = getattr(settings, name), getattr(stock, name)
            if told != expected:
                raise FormatError(
                    f"{path}: its settings or config.json say {name} {told}, expected {expected}: ComfyUI's CLIP of "
                    f"width {settings.hidden_size} has no other; sample it by vidrd generate"
                )
    clip = comfy.sd.load_text_encoder_state_dicts([tensors], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)
    if stock is not None and settings.layers != stock.layers:
        clip.clip_layer(settings.layers - DEPTHS[settings.hidden_size] - 1)
    return clip


def encode_prompt(clip: comfy.sd.CLIP, prompt: str) -> Any:
    """The CONDITIONING of a prompt, as from CLIP Text Encode."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
