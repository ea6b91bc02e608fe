"""Stable Diffusion's CLIP text encoders, through transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidrd_core.io.configs import check_types
from vidrd_core.models.clip_tokenizer import pad_id, token_ids
from vidrd_core.models.prompt_tokens import Token, chunked, encode_rows, weighted_parts, without_embeddings


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

    def __post_init__(self) -> None:
        check_types(self)


class CLIPText(nn.Module):
    """Encodes prompts: the output of the last layer that Stable Diffusion reads, after the final norm.

    Args:
        config: Its settings.
        tokenizer: A CLIPTokenizer of transformers.
    """

    def __init__(self, config: CLIPTextSettings, tokenizer: Any) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel  # takes long

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
        """Token ids of captions, padded; what a row has no room for is cut off, and brackets are text.

        Args:
            prompts: B texts.

        Returns:
            [B, max_length], int64.
        """
        return torch.tensor([[token for token, _ in self._rows([(prompt, 1.0)])[0]] for prompt in prompts])

    def rows(self, prompt: str) -> list[list[Token]]:
        """The tokens of a prompt with their weights, in one or more rows of max_length (`prompt_tokens`).

        Raises ValueError for too many brackets. Warns of embeddings, which are left out.
        """
        parts = weighted_parts(prompt)
        return self._rows([(text, weight) for part, weight in parts for text in without_embeddings(part)])

    def _rows(self, parts: list[tuple[str, float]]) -> list[list[Token]]:
        found = [[(token, weight) for token in token_ids(self.tokenizer, text)] for text, weight in parts]
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return chunked(found, self.config.max_length, start, end, pad_id(self.tokenizer, self.config.hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, L] -> [B, L, hidden_size]."""
        return self.clip(input_ids=tokens).last_hidden_state

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """Encode prompts as ComfyUI's stock nodes do: with weights in brackets, and long ones in chunks.

        Args:
            prompts: B texts.

        Returns:
            [B, n * max_length, hidden_size] on the encoder's device; n is 1 for prompts of up to 75 tokens.
        """
        device = next(self.parameters()).device
        empty = [token for token, _ in self.rows("")[0]]
        return encode_rows(lambda tokens: self(tokens.to(device)), [self.rows(prompt) for prompt in prompts], empty)
