"""Our text encoder of whole words as the host's CLIP."""

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
from vidrd_core.models.load_parts import CLIP_TEXT, find_clip_text, load_text_encoder
from vidrd_core.models.word_text_encoder import END, START, TextEncoder

Row = list[tuple[Any, ...]]


class Tokenizer:
    """Prompts with weights, as in "a (red:1.2) circle", to numbers of words."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> list[Row]:
        """One row of (number, weight), or (number, weight, which word). Raises UnknownWordError, ValueError."""
        row: Row = []
        for part, weight in token_weights(escape_important(text), 1.0):
            row += [(number, weight, len(row) + 1) for number in self.encoder.token_ids(unescape_important(part))]
        self.encoder.check_length(len(row), text)
        padding = [(END, 1.0, 0)] * (self.encoder.config.max_length - 1 - len(row))
        row = [(START, 1.0, 0), *row, *padding]
        return [row if return_word_ids else [entry[:2] for entry in row]]

    def untokenize(self, row: Row) -> list[tuple[Any, str]]:
        """Each entry of a row with its word."""
        words = {number: word for word, number in self.encoder.word_ids.items()}
        return [(entry, words.get(entry[0], "")) for entry in row]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class HostTextEncoder(nn.Module, ClipTokenWeightEncoder):
    """TextEncoder under the host's calling convention, always in float32: it is small."""

    dtypes: ClassVar = {torch.float32}
    special_tokens: ClassVar = {"start": START, "end": END, "pad": END}

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def encode(self, tokens: list[list[int]]) -> tuple[Tensor, None]:
        """Rows of numbers -> [B, L, D] and no pooled vector."""
        device = next(self.parameters()).device
        with torch.no_grad():
            return self.encoder(torch.tensor(tokens, device=device)), None

    def gen_empty_tokens(self, special_tokens: dict[str, int], length: int) -> list[int]:
        """The row of an empty prompt, from which weights lead away."""
        return [START] + [END] * (length - 1)

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """CLIP skip and the like: this encoder has nothing to choose."""

    def reset_clip_options(self) -> None:
        """See `set_clip_options`."""


def load_clip(path: Path) -> comfy.sd.CLIP:
    """A CLIP from a text encoder file: ours, or one that the host knows. Raises FileNotFoundError, FormatError."""
    if safetensors.is_ours(path) and safetensors.has_kind(path, CLIP_TEXT):  # the host has a tokenizer of its own
        _, tensors, _ = find_clip_text(path)
        return _stock_clip({f"text_model.{key}": tensor for key, tensor in tensors.items()})
    if not safetensors.is_ours(path):
        tensors, _ = read_part(path, "text_encoder")
        # In whole checkpoints of Stable Diffusion 1.x and 2.x the host's names stand after these.
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
    return comfy.sd.load_text_encoder_state_dicts([tensors], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)


def encode(clip: comfy.sd.CLIP, prompt: str) -> Any:
    """A prompt as CONDITIONING, as CLIP Text Encode has it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
