"""Captions by an image-text model of transformers from a local folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vidrd_core.data.captions import DOES_NOT_SHAPE, CaptionerError, ImageArray
from vidrd_core.data.records import Record

PROMPT = "Describe in one sentence what happens in this video."


@dataclass(frozen=True)
class LocalModel:
    """A captioner: any model that transformers' AutoModelForImageTextToText loads from a folder.

    A chat model is asked `prompt` about all key frames; a captioning model gets the middle one and continues
    `prompt`, if that is given.

    Args:
        folder: The model's folder.
        prompt: The question, or the beginning of the caption.
        device: Where the model runs; "auto" is a GPU, if there is one.
        max_tokens: Longest caption in tokens.
        key_frames: How many key frames it gets.
    """

    folder: Path = field(metadata=DOES_NOT_SHAPE)
    prompt: str | None = None
    device: str = field(default="auto", metadata=DOES_NOT_SHAPE)
    max_tokens: int = 60
    key_frames: int = 3

    def __call__(self, record: Record, images: list[ImageArray]) -> str:
        """A caption. Raises CaptionerError if the model cannot be loaded."""
        model, processor = _loaded(self.folder, self.device)
        inputs = self._inputs(processor, [Image.fromarray(image) for image in images]).to(model.device)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False)
        asked = inputs.get("input_ids")
        if asked is not None and tokens[:, : asked.shape[1]].equal(asked):  # decoder-only models repeat the question
            tokens = tokens[:, asked.shape[1] :]
        return str(processor.batch_decode(tokens, skip_special_tokens=True)[0])

    def _inputs(self, processor: Any, images: list[Image.Image]) -> Any:
        if getattr(processor, "chat_template", None):
            content = [*({"type": "image"} for _ in images), {"type": "text", "text": self.prompt or PROMPT}]
            asked = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            return processor(images=images, text=asked, return_tensors="pt")
        image = images[len(images) // 2]
        return processor(images=image, return_tensors="pt", **({"text": self.prompt} if self.prompt else {}))


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: str) -> tuple[Any, Any]:
    """The model and its processor, once in each process."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if not Path(folder).is_dir():
        raise CaptionerError(f"there is no folder {folder}: name one with an image-text model of transformers")
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CaptionerError(f"{folder} holds no image-text model that transformers can load: {error}") from error
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(automatic if device == "auto" else device), processor
