"""The text encoder of small models: a CLIP text model with a word-level vocabulary."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from vidrd_core.models.config import TextConfig
from vidrd_core.models.prompt_tokens import Token, chunked, encode_rows, weighted_parts

START, END = 0, 1  # token ids before those of the words; END also pads, as in SD 1.x


class UnknownWordError(ValueError):
    """A prompt has words that are not in the vocabulary of a word-level text encoder."""


class TextEncoder(nn.Module):
    """Encodes prompts through a CLIP text model with a token for each word.

    Args:
        config: Its vocabulary and settings.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.word_ids = {word: i + 2 for i, word in enumerate(config.words)}
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
        """A state_dict with the names of the installed transformers: version 4 has "text_model." in them."""
        first = next(iter(self.state_dict()))
        middle = "text_model." if first.startswith("clip.text_model.") else ""
        plain = {name.replace("clip.text_model.", "clip.", 1): value for name, value in weights.items()}
        return {name.replace("clip.", "clip." + middle, 1): value for name, value in plain.items()}

    def tokenize(self, prompts: list[str]) -> Tensor:
        """Token ids of captions, padded with END; words for which there is no room are cut off.

        Args:
            prompts: B texts of known words; case and punctuation do not count.

        Returns:
            [B, max_length], int64.

        Raises:
            UnknownWordError: A caption has unknown words; the message has them and the known ones.
        """
        rows = [[START, *self.token_ids(prompt)[: self.config.max_length - 2]] for prompt in prompts]
        return torch.tensor([row + [END] * (self.config.max_length - len(row)) for row in rows])

    def rows(self, prompt: str) -> list[list[Token]]:
        """The tokens of a prompt with their weights (`prompt_tokens`), in one row of max_length.

        Raises UnknownWordError, and ValueError if the prompt is too long.
        """
        found = [(token, weight) for text, weight in weighted_parts(prompt) for token in self.token_ids(text)]
        self.check_length(len(found), prompt)
        return chunked([found], self.config.max_length, START, END, END)

    def token_ids(self, text: str) -> list[int]:
        """The token id of each word of a text, without START and END. Raises UnknownWordError."""
        words = re.findall(r"[^\s,.;:!?]+", text.lower())
        unknown = list(dict.fromkeys(word for word in words if word not in self.word_ids))
        if unknown:
            raise UnknownWordError(
                f"this model does not know {', '.join(map(repr, unknown))}; it knows: {', '.join(self.config.words)}"
            )
        return [self.word_ids[word] for word in words]

    def check_length(self, words: int, prompt: str) -> None:
        """Raise ValueError if a prompt has more words than the encoder reads."""
        room = self.config.max_length - 2
        if words > room:
            raise ValueError(f"a prompt has {words} words, this model reads at most {room}: {prompt[:60]!r} ...")

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, L] -> the last layer's output [B, L, hidden_size]."""
        return self.clip(input_ids=tokens).last_hidden_state

    def encode(self, prompts: list[str]) -> Tensor:
        """B prompts -> [B, max_length, hidden_size], on the encoder's device. Raises as `rows`."""
        device = next(self.parameters()).device
        empty = [token for token, _ in self.rows("")[0]]
        return encode_rows(lambda tokens: self(tokens.to(device)), [self.rows(prompt) for prompt in prompts], empty)
