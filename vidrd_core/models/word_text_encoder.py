"""Text encoders: CLIP through transformers, over a vocabulary of whole words for small models."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from vidrd_core.models.config import TextConfig

START, END = 0, 1  # before the words' own numbers; END also pads, as in SD 1.x


class UnknownWordError(ValueError):
    """A prompt has words that a whole-word text encoder was not trained on."""


class TextEncoder(nn.Module):
    """Prompts to [B, max_length, hidden_size] through a CLIP text model whose tokens are whole words."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.numbers = {word: i + 2 for i, word in enumerate(config.words)}
        self.clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(config.words) + 2,
                hidden_size=config.hidden_size,
                intermediate_size=4 * config.hidden_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.max_length,
                bos_token_id=START,
                eos_token_id=END,
                pad_token_id=END,
            )
        )

    def match_transformers(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights under the names that the installed transformers gives them: its version 4 says text_model, too."""
        here = next(iter(self.state_dict()))
        middle = "text_model." if here.startswith("clip.text_model.") else ""
        plain = {name.replace("clip.text_model.", "clip.", 1): value for name, value in weights.items()}
        return {name.replace("clip.", "clip." + middle, 1): value for name, value in plain.items()}

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token numbers [B, max_length].

        Raises UnknownWordError naming the words it does not know and those it does, ValueError if a prompt is too
        long.
        """
        rows = []
        for prompt in prompts:
            numbers = self.numbers_of(prompt)
            self.check_length(len(numbers), prompt)
            row = [START, *numbers]
            rows.append(row + [END] * (self.config.max_length - len(row)))
        return torch.tensor(rows)

    def numbers_of(self, text: str) -> list[int]:
        """The number of each word. Raises UnknownWordError."""
        words = re.findall(r"[^\s,.;:!?]+", text.lower())
        unknown = list(dict.fromkeys(word for word in words if word not in self.numbers))
        if unknown:
            raise UnknownWordError(
                f"this model does not know {', '.join(map(repr, unknown))}; it knows: {', '.join(self.config.words)}"
            )
        return [self.numbers[word] for word in words]

    def check_length(self, words: int, prompt: str) -> None:
        """Raise ValueError if a prompt has more words than are read."""
        room = self.config.max_length - 2
        if words > room:
            raise ValueError(f"a prompt has {words} words, this model reads at most {room}: {prompt[:60]!r} ...")

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers [B, L] -> the last layer's output [B, L, hidden_size]."""
        return self.clip(input_ids=tokens).last_hidden_state

    def encode(self, prompts: list[str]) -> Tensor:
        """Prompts -> [B, max_length, hidden_size]."""
        device = next(self.parameters()).device
        return self(self.tokenize(prompts).to(device))
