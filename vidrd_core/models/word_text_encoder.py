"""The text encoder of small models: a CLIP text model with a word-level vocabulary.

The network is written out here: to import transformers takes longer than a small model needs for its first steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

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
        self.clip = CLIPTextNetwork(config, len(config.words) + 2)

    def match_transformers(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights under our names: files that were saved with transformers 4 have "text_model." in them."""
        return {name.replace("clip.text_model.", "clip.", 1): value for name, value in weights.items()}

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
        return self.clip(tokens)

    def encode(self, prompts: list[str]) -> Tensor:
        """B prompts -> [B, max_length, hidden_size], on the encoder's device. Raises as `rows`."""
        device = next(self.parameters()).device
        empty = [token for token, _ in self.rows("")[0]]
        return encode_rows(lambda tokens: self(tokens.to(device)), [self.rows(prompt) for prompt in prompts], empty)


class CLIPTextNetwork(nn.Module):
    """CLIP's text model with the defaults of transformers, whose names of weights it has.

    Args:
        config: Its sizes.
        vocabulary: Number of tokens.

    Source:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).
    """

    def __init__(self, config: TextConfig, vocabulary: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": nn.Embedding(vocabulary, config.hidden_size),
                "position_embedding": nn.Embedding(config.max_length, config.hidden_size),
            }
        )
        layers = nn.ModuleList([CLIPLayer(config.hidden_size, config.heads) for _ in range(config.layers)])
        self.encoder = nn.ModuleDict({"layers": layers})
        self.final_layer_norm = nn.LayerNorm(config.hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random weights with CLIP's standard deviations, but for the words', and no biases.

        With CLIP's 0.02 words that are rarely needed come out alike: after 80,000 clips of the drawn world "left" and
        "right" differed by 0.5 where "red" and "green" differed by 13, and no direction was learned.
        """
        layers = cast("nn.ModuleList", self.encoder["layers"])
        for name, weight in self.named_parameters():
            width, layer = self.final_layer_norm.normalized_shape[0], name.split(".")[-2]
            inner = width**-0.5 * (2 * max(1, len(layers))) ** -0.5
            spread = {"out_proj": width**-0.5, "fc1": (2 * width) ** -0.5, "fc2": inner}
            spread |= dict.fromkeys(("q_proj", "k_proj", "v_proj"), inner)
            spread |= {"token_embedding": 1.0, "position_embedding": 0.02}
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif layer in spread:
                nn.init.normal_(weight, std=spread[layer])

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, L] -> [B, L, C]."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embeddings["token_embedding"](tokens) + self.embeddings["position_embedding"](positions)
        for layer in cast("Iterable[CLIPLayer]", self.encoder["layers"]):
            x = layer(x)
        return self.final_layer_norm(x)


class CLIPLayer(nn.Module):
    """A transformer layer: each token attends to those before it; an MLP with a sigmoid in place of GELU."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(dim, dim) for name in ("k", "v", "q", "out")})
        self.layer_norm1 = nn.LayerNorm(dim)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
        self.layer_norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, C] -> like x."""
        h = self.layer_norm1(x)
        q, k, v = (
            rearrange(self.self_attn[f"{name}_proj"](h), "b l (h d) -> b h l d", h=self.heads) for name in "qkv"
        )
        h = rearrange(F.scaled_dot_product_attention(q, k, v, is_causal=True), "b h l d -> b l (h d)")
        x = x + self.self_attn["out_proj"](h)
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))
