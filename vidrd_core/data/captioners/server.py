"""Captions by a vision-language model behind an OpenAI-compatible server, such as vLLM."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from vidrd_core.data.captioners.local import PROMPT
from vidrd_core.data.captions import DOES_NOT_SHAPE, CaptionerError, ImageArray
from vidrd_core.data.records import Record, UnfitError


@dataclass(frozen=True)
class Server:
    """A captioner: `POST {url}/chat/completions`, with the key frames as JPEG images in the message.

    A request that the server rejects skips the record; a server that is unreachable, overloaded or rejects everything
    is tried again, then stops the run.

    Args:
        url: The server's address, as in http://localhost:8000/v1.
        model: The model's name on the server.
        prompt: What the model is asked.
        max_tokens: Longest caption in tokens.
        key_frames: How many key frames it gets, 1 or more.
        key_variable: Environment variable of the server's API key, which is written to no file.
        tries: How often a request is tried, 1 or more.
        wait: Seconds before the second try, doubled before each further one.
        timeout: Seconds that a request may take.

    Raises:
        ValueError: The address is not an HTTP one, or a number is out of its range.
    """

    url: str = field(metadata=DOES_NOT_SHAPE)
    model: str
    prompt: str = PROMPT
    max_tokens: int = 60
    key_frames: int = 3
    key_variable: str = field(default="OPENAI_API_KEY", metadata=DOES_NOT_SHAPE)
    tries: int = field(default=4, metadata=DOES_NOT_SHAPE)
    wait: float = field(default=2.0, metadata=DOES_NOT_SHAPE)
    timeout: float = field(default=120.0, metadata=DOES_NOT_SHAPE)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the server is {self.url!r}, expected an address like http://localhost:8000/v1")
        if self.tries < 1 or self.key_frames < 1:
            raise ValueError(f"tries is {self.tries} and key_frames {self.key_frames}, expected 1 or more")

    def __call__(self, record: Record, images: list[ImageArray]) -> str:
        """A caption. Raises UnfitError for a rejected request, CaptionerError if the server cannot caption at all."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self.prompt}]
        content += [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
        message = {"role": "user", "content": content}
        body = {"model": self.model, "messages": [message], "max_tokens": self.max_tokens, "temperature": 0.0}
        answer = self._post(json.dumps(body).encode())
        try:
            caption = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise CaptionerError(f"{self.url} answers with no caption: {json.dumps(answer)[:200]}") from error
        if not isinstance(caption, str):
            raise UnfitError("got no caption from the server")
        return caption

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        for turn in range(self.tries):
            if turn:
                time.sleep(self.wait * 2 ** (turn - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                problem = f"{error.code}: {error.read(400).decode(errors='replace')}"
                if error.code in (400, 413, 415, 422):
                    raise UnfitError(f"is refused by the server, {problem}") from error
                if error.code in (401, 403, 404):
                    raise CaptionerError(f"{self.url} refuses the model {self.model!r}, {problem}") from error
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                problem = str(getattr(error, "reason", error))
            except ValueError as error:
                raise CaptionerError(f"{self.url} does not answer with JSON: {error}") from error
        raise CaptionerError(f"{self.url} did not answer in {self.tries} tries: {problem}")


def _data_url(image: ImageArray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
