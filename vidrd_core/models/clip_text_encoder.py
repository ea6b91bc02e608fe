"""Stable Diffusion's CLIP text encoders, through transformers, and their tokenizers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vidrd_core.io.safetensors import FormatError

CLIP = "openai/clip-vit-large-patch14"  # the tokenizer of all of them, where none is beside the weights
TOKENIZER = "tokenizer/"  # prefix of a tokenizer's files, which are tensors of bytes beside the weights


@dataclass(frozen=True)
class CLIPTextSettings:
    """A CLIP text encoder; the defaults are those of Stable Diffusion 1.x (ViT-L/14).

    Args:
        vocabulary: Number of tokens.
        hidden_size: Width of the encoded prompts: 768 in Stable Diffusion 1.x, 1024 in 2.x.
        inner_size: Width of the MLPs.
        layers: Transformer layers.
        heads: Attention heads.
        max_length: Tokens of a prompt, with start and end.
        activation: transformers' name of the MLPs' activation function: "quick_gelu" or "gelu".
    """

    vocabulary: int = 49408
    hidden_size: int = 768
    inner_size: int = 3072
    layers: int = 12
    heads: int = 12
    max_length: int = 77
    activation: str = "quick_gelu"


class CLIPText(nn.Module):
    """Encodes prompts: the output of the last layer that Stable Diffusion reads, after the final norm.

    Args:
        config: Its settings.
        tokenizer: A CLIPTokenizer of transformers.
    """

    def __init__(self, config: CLIPTextSettings, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.hidden_size,
                intermediate_size=config.inner_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.max_length,
                hidden_act=config.activation,
                # Only the pooled output depends on these, which is not used.
                bos_token_id=0,
                eos_token_id=min(49407, config.vocabulary - 1),
            )
        )

    def match_transformers(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights under our names with those of the installed transformers: version 4 has "text_model." in them."""
        known = next(key for key in self.state_dict() if key.endswith("token_embedding.weight"))
        middle = known.removesuffix("embeddings.token_embedding.weight")
        return {middle + name: value for name, value in weights.items()}

    def file_state_dict(self) -> dict[str, Tensor]:
        """The weights under our names, which do not depend on the version of transformers."""
        return {
            key.removeprefix("clip.").removeprefix("text_model."): value for key, value in self.state_dict().items()
        }

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token ids of prompts, padded.

        Args:
            prompts: B texts.

        Returns:
            [B, max_length], int64.

        Raises:
            ValueError: A prompt is too long.
        """
        room = self.config.max_length - 2
        for prompt in prompts:
            count = len(self.tokenizer(prompt).input_ids) - 2
            if count > room:
                raise ValueError(f"a prompt has {count} tokens, CLIP reads at most {room}: {prompt[:60]!r} ...")
        return self.tokenizer(
            prompts, padding="max_length", max_length=self.config.max_length, return_tensors="pt"
        ).input_ids

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, L] -> [B, L, hidden_size]."""
        return self.clip(input_ids=tokens).last_hidden_state

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """B prompts -> [B, max_length, hidden_size], on the encoder's device. Raises ValueError."""
        return self(self.tokenize(prompts).to(next(self.parameters()).device))


def load_tokenizer(name_or_folder: str | Path, width: int) -> Any:
    """Load CLIP's tokenizer.

    Args:
        name_or_folder: A diffusers folder, a tokenizer's folder, or a name that transformers knows.
        width: Of the text encoder: Stable Diffusion 2.x (1024) pads with "!", 1.x with the end token.

    Returns:
        A CLIPTokenizer of transformers.

    Raises:
        FileNotFoundError: There is none; the message says where one comes from.
    """
    folder = Path(name_or_folder)
    places = [place for place in (folder / "tokenizer", folder) if _has_tokenizer(place)]
    missing = FileNotFoundError(
        f"there is no CLIP tokenizer in {name_or_folder}: name a diffusers folder of Stable Diffusion, or its "
        f"tokenizer folder (with tokenizer.json, or vocab.json and merges.txt), as the text encoder"
    )
    if folder.is_dir() and not places:  # transformers would make one without any word
        raise missing
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(places[0] if places else name_or_folder))
    except (OSError, ValueError, TypeError) as error:
        raise missing from error
    if width == 1024:
        tokenizer.pad_token = "!"
    return tokenizer


def tokenizer_tensors(tokenizer: Any) -> dict[str, Tensor]:
    """A tokenizer's files as tensors of bytes (uint8), by TOKENIZER and their names."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return {
        f"{TOKENIZER}{name}": torch.frombuffer(bytearray(data), dtype=torch.uint8)
        for name, data in files.items()
        if data
    }


def tokenizer_from_tensors(tensors: Mapping[str, Tensor], width: int, path: Path) -> Any:
    """Restore a tokenizer from the tensors of `tokenizer_tensors`.

    Args:
        tensors: The files' bytes, by TOKENIZER and their names.
        width: Of the text encoder, as in `load_tokenizer`.
        path: The file that they come from, for messages.

    Returns:
        A CLIPTokenizer of transformers.

    Raises:
        FormatError: The files are not a tokenizer, or one has a folder in its name.
    """
    with tempfile.TemporaryDirectory() as folder:
        for key, tensor in tensors.items():
            name = key.removeprefix(TOKENIZER)
            if Path(name).name != name:
                raise FormatError(f"{path} has a tokenizer's file with a folder in its name: {name}")
            (Path(folder) / name).write_bytes(tensor.numpy().tobytes())
        try:
            return load_tokenizer(folder, width)
        except FileNotFoundError as error:
            raise FormatError(f"the tokenizer in {path} cannot be read by this version of transformers") from error


def _has_tokenizer(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in names)
               for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]))  # fmt: skip
