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
from vidrd_core.models.formats.detect import read_part
from vidrd_core.models.load_parts import CLIP_TEXT, described_text, find_clip_text, load_text_encoder
from vidrd_core.models.word_text_encoder import END, START, TextEncoder

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
        FormatError: The file holds no text encoder of a known format.
    """
    if safetensors.is_ours(path) and safetensors.has_kind(path, CLIP_TEXT):  # ComfyUI has its tokenizer
        _, tensors, _ = find_clip_text(path)
        return _stock_clip({f"text_model.{key}": tensor for key, tensor in tensors.items()})
    if not safetensors.is_ours(path):
        tensors, _ = read_part(path, "text_encoder")
        # Checkpoints of Stable Diffusion 1.x and 2.x have these prefixes before the names that ComfyUI expects.
        plain = {re.sub(r"^(model\.|transformer\.(?=text_model))", "", key): t for key, t in tensors.items()}
        return _stock_clip(plain)
    encoder = load_text_encoder(path).requires_grad_(False)
    target = SimpleNamespace(
        params={},
        clip=lambda device, **_: HostTextEncoder(encoder).to(device),
        tokenizer=lambda **_: Tokenizer(encoder),
    )
    return comfy.sd.CLIP(target, parameters=sum(p.numel() for p in encoder.parameters()))


def _stock_clip(tensors: dict[str, torch.Tensor]) -> comfy.sd.CLIP:
    """ComfyUI's own CLIP, from weights by its names."""
    return comfy.sd.load_text_encoder_state_dicts([tensors], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)


def encode_prompt(clip: comfy.sd.CLIP, prompt: str) -> Any:
    """The CONDITIONING of a prompt, as from CLIP Text Encode."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
