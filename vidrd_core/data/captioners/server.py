"""Captions by a vision-language model behind an OpenAI-compatible server, such as vLLM."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from PIL import Image

from vidrd_core.data.captioners.local import PROMPT
from vidrd_core.data.captions import DOES_NOT_SHAPE, CaptionerError, ImageArray
from vidrd_core.data.records import Record, UnfitError
from vidrd_core.io.configs import parse_json

MAX_ANSWER = 2**20  # bytes
MAX_WAIT = 300.0  # seconds that the server may ask to be left alone


class AnswerError(Exception):
    """An answer that is too long or too slow, or compressed, though that was not asked for."""


@dataclass(frozen=True)
class Server:
    """A captioner: `POST {url}/chat/completions`, with the key frames as JPEG images in the message.

    A request that the server rejects, or answers too slowly, at too great length, in part or without a caption, skips
    the record; a server that is unreachable, overloaded or rejects everything stops the run. All but rejections are
    tried again, not before the time that the server names in Retry-After.

    Args:
        url: The server's address, as in http://localhost:8000/v1.
        model: The model's name on the server.
        prompt: What the model is asked.
        max_tokens: Longest caption in tokens.
        key_frames: How many key frames it gets, 1 or more.
        key_variable: Environment variable of the server's API key, which is written to no file.
        tries: How often a request is tried, 1 or more.
        wait: Seconds before the second try, doubled before each further one.
        timeout: Seconds that a request and its answer may take in all.

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
        try:
            _check(httpx.URL(self.url))
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ValueError(
                f"the server is {self.url!r}, expected an address like http://localhost:8000/v1 ({error})"
            ) from error
        self._key()
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
        except (KeyError, IndexError, TypeError) as error:  # filters of content leave it out
            raise UnfitError(f"got no caption from the server: {json.dumps(answer)[:200]}") from error
        if isinstance(caption, list):  # of parts
            caption = " ".join(part["text"] for part in caption if isinstance(part, dict) and _has_text(part))
        if not isinstance(caption, str):
            raise UnfitError("got no caption from the server")
        return caption

    def _key(self) -> str:
        """The key; "" without one. Raises ValueError for one that no header can hold, without showing it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key in {self.key_variable} has characters that no key has: set it again")
        return key

    def _post(self, body: bytes) -> Any:
        problem, answers, asked = "", True, 0.0
        for turn in range(self.tries):
            if turn:
                time.sleep(max(self.wait * 2 ** (turn - 1), min(asked, MAX_WAIT)))
            asked = 0.0
            try:
                status, text, asked = self._ask(body)
            except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:
                raise CaptionerError(f"{self.url} sends elsewhere, where there is no answer: {error}") from error
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
                problem, answers = _cause(error), False
            except (httpx.HTTPError, httpx.StreamError, AnswerError) as error:
                problem, answers = str(error) or type(error).__name__, True
            else:
                shown = text[:400].decode(errors="replace")
                if status in (400, 413, 415, 422):
                    raise UnfitError(f"is refused by the server, {status}: {shown}")
                if status in (401, 403, 404):
                    raise CaptionerError(f"{self.url} refuses the model {self.model!r}, {status}: {shown}")
                if status == 200:
                    try:
                        return parse_json(text)
                    except ValueError as error:
                        if not text.lstrip().startswith(b"{"):
                            raise CaptionerError(f"{self.url} does not answer with JSON: {error}") from error
                        problem, answers = f"its answer is damaged: {error}", True
                else:
                    problem, answers = f"{status}: {shown}", status == 500 or 200 < status < 300
        if answers:  # only not with this record
            raise UnfitError(f"got no caption from the server in {self.tries} tries: {problem}")
        raise CaptionerError(f"{self.url} did not answer in {self.tries} tries: {problem}")

    def _ask(self, body: bytes) -> tuple[int, bytes, float]:
        """`_answer` within `timeout` seconds in all."""
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(self._answer(body), self.timeout))
        except asyncio.TimeoutError as error:
            raise AnswerError(f"it took longer than {self.timeout:g} s") from error
        finally:  # `asyncio.run` would wait for a name that is still looked up
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _answer(self, body: bytes) -> tuple[int, bytes, float]:
        """Status and body of an answer, of at most `MAX_ANSWER` bytes, and the seconds after which to ask again.

        httpx redirects to HTTP alone, and takes the key to no other host.
        """
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        parts, length, url = list[bytes](), 0, f"{self.url.rstrip('/')}/chat/completions"
        async with (
            httpx.AsyncClient(
                timeout=None, follow_redirects=True, max_redirects=5, event_hooks={"request": [_checked]}
            ) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            if (coding := answer.headers.get("Content-Encoding", "identity")) != "identity":  # and may grow
                raise AnswerError(f"its answer is compressed ({coding[:40]}), which was not asked for")
            async for part in answer.aiter_raw():
                parts.append(part)
                length += len(part)
                if length > MAX_ANSWER:
                    raise AnswerError(f"its answer is longer than {MAX_ANSWER} bytes")
            return answer.status_code, b"".join(parts), _seconds(answer.headers.get("Retry-After", ""))


async def _checked(request: httpx.Request) -> None:
    _check(request.url)


def _check(url: httpx.URL) -> None:
    """Raise httpx.InvalidURL unless an address can be asked."""
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.InvalidURL(f"{str(url)[:200]!r} is no address of HTTP")
    if url.port is not None and not 0 < url.port < 65536:
        raise httpx.InvalidURL(f"the port is {url.port}, expected 1 to 65535")


def _seconds(text: str) -> float:
    """The seconds that Retry-After names, as a number or as a date; 0 for none."""
    try:
        return max(0.0, float(int(text)))
    except (ValueError, OverflowError):
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


def _has_text(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str)


def _cause(error: BaseException) -> str:
    """What an error says of its first cause: libraries wrap "connection refused" in words that say less."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _data_url(image: ImageArray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
