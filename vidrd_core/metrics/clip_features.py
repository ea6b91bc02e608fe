"""CLIP's image and text features, from a folder of transformers: for CLIPSIM and frame consistency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidrd_core.metrics.feature_extractors import (
    load_errors,
    normalization,
    resize_and_crop,
    to_float_video,
    to_numpy,
)
from vidrd_core.metrics.seams import Array, Video


class CLIPFeatures:
    """A CLIP model that gives features of frames and of texts in one space.

    Args:
        folder: A folder of transformers with a CLIP model and its tokenizer.
        device: Where the model runs.

    Raises:
        FileNotFoundError: There is no such folder.
        FormatError: transformers cannot load it, or its tokenizer is missing, damaged or of another model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import CLIPModel

        from vidrd_core.models.clip_tokenizer import load_tokenizer

        with load_errors(folder):
            model: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
            self.model = model.to(device).eval()
            text = model.config.text_config
            self.tokenizer = load_tokenizer(folder, text.vocab_size)
        self.name, self.device = Path(folder).name, device
        self.mean, self.std = (value[..., 0] for value in normalization(Path(folder), device))

    def frames(self, video: Video) -> Array:
        """Image features [F, D] of the frames of a video uint8 [F, H, W, 3]."""
        size = self.model.config.vision_config.image_size
        frames = resize_and_crop(to_float_video(video[None], self.device) / 255, size)[0].transpose(0, 1)
        with torch.inference_mode():
            pooled = self.model.vision_model(pixel_values=(frames - self.mean) / self.std).pooler_output
            return to_numpy(self.model.visual_projection(pooled))

    def texts(self, texts: Sequence[str]) -> Array:
        """Text features [n, D]; texts that are too long are truncated."""
        room = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=room, return_tensors="pt").to(
            self.device
        )
        with torch.inference_mode():
            pooled = self.model.text_model(**tokens).pooler_output
            return to_numpy(self.model.text_projection(pooled))
