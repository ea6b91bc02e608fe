"""CLIP text encoders of Stable Diffusion, through transformers."""

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

CLIP = "openai/clip-vit-large-patch14"  # whose tokenizer all of them share, where none is beside the weights

TOKENIZER = "tokenizer/"  # before the names of a tokenizer's files, kept as tensors of bytes beside the weights


@dataclass(frozen=True)
class CLIPTextSettings:
    """A CLIP text encoder; the defaults are those of Stable Diffusion 1.x (ViT-L/14)."""

    vocabulary: int = 49408
    hidden_size: int = 768
    inner_size: int = 3072
    layers: int = 12
    heads: int = 12
    max_length: int = 77
    activation: str = "quick_gelu"


class CLIPText(nn.Module):
    """Prompts to [B, max_length, hidden_size]: the last layer's output, normalised."""

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
                # Only the pooled output, which is not used, depends on these.
                bos_token_id=0,
                eos_token_id=min(49407, config.vocabulary - 1),
            )
        )

    def match_transformers(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the names that the installed transformers gives them: its version 4 says text_model, too."""
        here = next(key for key in self.state_dict() if key.endswith("token_embedding.weight"))
        middle = here.removesuffix("embeddings.token_embedding.weight")
        return {middle + name: value for name, value in weights.items()}

    def file_state_dict(self) -> dict[str, Tensor]:
        """The way back: names that depend on no version of transformers."""
        return {
            key.removeprefix("clip.").removeprefix("text_model."): value for key, value in self.state_dict().items()
        }

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token numbers [B, max_length]. Raises ValueError if a prompt is too long."""
        room = self.config.max_length - 2
        for prompt in prompts:
            count = len(self.tokenizer(prompt).input_ids) - 2
            if count > room:
                raise ValueError(f"a prompt has {count} tokens, CLIP reads at most {room}: {prompt[:60]!r} ...")
        told = self.tokenizer(prompts, padding="max_length", max_length=self.config.max_length, return_tensors="pt")
        return told.input_ids

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers [B, L] -> [B, L, hidden_size]."""
        return self.clip(input_ids=tokens).last_hidden_state

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """Prompts -> [B, max_length, hidden_size]."""
        return self(self.tokenize(prompts).to(next(self.parameters()).device))


def load_tokenizer(name_or_folder: str | Path, width: int) -> Any:
    """CLIP's tokenizer from a folder with its tokenizer, or by a name that transformers knows.

    `width` is the text encoder's: Stable Diffusion 2.x pads with "!", 1.x with the end token.
    Raises FileNotFoundError saying where one comes from.
    """
    folder = Path(name_or_folder)
    places = [place for place in (folder / "tokenizer", folder) if _has_tokenizer(place)]
    told = FileNotFoundError(
        f"there is no CLIP tokenizer in {name_or_folder}: name a diffusers folder of Stable Diffusion, or its "
        f"tokenizer folder (with tokenizer.json, or vocab.json and merges.txt), as the text encoder"
    )
    if folder.is_dir() and not places:  # transformers would make one that knows no word
        raise told
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(places[0] if places else name_or_folder))
    except (OSError, ValueError, TypeError) as error:
        raise told from error
    if width == 1024:
        tokenizer.pad_token = "!"
    return tokenizer


def tokenizer_tensors(tokenizer: Any) -> dict[str, Tensor]:
    """A tokenizer's files, each as its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return {
        f"{TOKENIZER}{name}": torch.frombuffer(bytearray(data), dtype=torch.uint8)
        for name, data in files.items()
        if data
    }


def tokenizer_from_tensors(tensors: Mapping[str, Tensor], width: int, path: Path) -> Any:
    """The tokenizer whose files `tokenizer_tensors` made tensors of. Raises FormatError if they are none."""
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
