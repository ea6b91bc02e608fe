"""CLIP of a transformers folder, for CLIPSIM and the consistency of frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidrd_core.metrics.feature_extractors import from_folder, levels, normal, numbers, sized
from vidrd_core.metrics.seams import Array, Video


class Clip:
    """CLIP of a transformers folder: features of frames, and of texts in the same space."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Raises FileNotFoundError, FormatError."""
        from transformers import AutoTokenizer, CLIPModel

        with from_folder(folder):
            model: Any = CLIPModel.from_pretrained(folder)
            self.model = model.to(device).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.name, self.device = Path(folder).name, device
        self.mean, self.std = (value[..., 0] for value in normal(Path(folder), device))

    def frames(self, video: Video) -> Array:
        """Features [F, D] of a video's frames, uint8 [F, H, W, 3]."""
        size = self.model.config.vision_config.image_size
        frames = sized(levels(video[None], self.device) / 255, size)[0].transpose(0, 1)
        with torch.inference_mode():
            pooled = self.model.vision_model(pixel_values=(frames - self.mean) / self.std).pooler_output
            return numbers(self.model.visual_projection(pooled))

    def texts(self, texts: Sequence[str]) -> Array:
        """Features [n, D] of texts; what is too long is cut."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            pooled = self.model.text_model(**tokens).pooler_output
            return numbers(self.model.text_projection(pooled))
