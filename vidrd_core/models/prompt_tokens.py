"""Prompts as rows of tokens with weights: brackets as in ComfyUI, and chunks where a prompt is long."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

BRACKET_WEIGHT = 1.1  # of text in brackets without a number
SHORT = 8  # tokens: a shorter part of a prompt is not split between two chunks
HIDDEN = {r"\)": "\0\1", r"\(": "\0\2"}  # brackets that are meant as text, as ComfyUI keeps them apart
DEEPEST = 100  # brackets in brackets
EMBEDDING = re.compile(r"(?:^|(?<=\s))(?=embedding:)")
EMBEDDING_NAME = re.compile(r"embedding:\s*([^\s<\[]*)", re.DOTALL)

Token = tuple[int, float]
"""A token's id and its weight."""


def weighted_parts(prompt: str) -> list[tuple[str, float]]:
    r"""Split a prompt into parts of equal weight.

    "(red)" weighs 1.1, "((red))" 1.21, "(red:0.8)" 0.8; "\(" and "\)" are brackets of the text itself. A bracket
    without its partner is text.

    Args:
        prompt: A prompt.

    Returns:
        (text, weight) pairs in order.

    Raises:
        ValueError: There are more than 100 brackets in each other.

    Example:
        >>> weighted_parts("a (red:1.3) circle")
        [('a ', 1.0), ('red', 1.3), (' circle', 1.0)]
    """
    for escaped, hidden in HIDDEN.items():
        prompt = prompt.replace(escaped, hidden)
    return [
        (text.replace(HIDDEN[r"\)"], ")").replace(HIDDEN[r"\("], "("), weight) for text, weight in _parts(prompt, 1.0)
    ]


def without_embeddings(text: str) -> list[str]:
    """Leave out the textual inversions that a prompt names, with a warning, as ComfyUI does for unknown ones.

    Args:
        text: A part of a prompt, in which "embedding:NAME" stands for a file.

    Returns:
        The text before the first and after each of them, without empty ones.
    """
    parts = []
    for part in EMBEDDING.split(text):
        if (named := EMBEDDING_NAME.match(part)) is None:
            parts.append(part)
            continue
        name = named[1].rstrip(",")
        warnings.warn(f"embedding:{name} is left out of the prompt: textual inversions in files are not read",
                      stacklevel=2)  # fmt: skip
        rest = part[named.start(1) + len(name) :].split()
        parts.append(" ".join(rest))
    return [part for part in parts if part]


def _parts(text: str, weight: float, depth: int = 0) -> list[tuple[str, float]]:
    if depth > DEEPEST:
        raise ValueError(f"a prompt has more than {DEEPEST} brackets in each other, expected fewer: take some out")
    found = []
    for part in _outer_brackets(text):
        if not (len(part) > 1 and part.startswith("(") and part.endswith(")")):
            found.append((part, weight))
            continue
        inner, own = part[1:-1], weight * BRACKET_WEIGHT
        before, colon, after = inner.rpartition(":")
        if colon and before:
            with suppress(ValueError):  # a colon of the text
                inner, own = before, float(after)
        found += _parts(inner, own, depth + 1)
    return found


def _outer_brackets(text: str) -> list[str]:
    """Text cut before and after each outermost pair of brackets."""
    parts, part, depth = [], "", 0
    for letter in text:
        if letter == "(" and depth == 0:
            parts.append(part)
            part = ""
        depth += (letter == "(") - (letter == ")")
        part += letter
        if letter == ")" and depth == 0:
            parts.append(part)
            part = ""
    return [part for part in [*parts, part] if part]


def chunked(parts: Sequence[Sequence[Token]], length: int, start: int, end: int, pad: int) -> list[list[Token]]:
    """Lay the tokens of a prompt out in rows as a text encoder reads them.

    Args:
        parts: The tokens of each part of the prompt.
        length: Tokens of a row, with start and end.
        start: Id of the token that begins a row.
        end: Id of the token that ends its text.
        pad: Id of the token that fills it up.

    Returns:
        Rows of `length` tokens, one at least. A part of fewer than 8 tokens that does not fit begins a new row;
        a longer one is continued there.

    Source:
        ComfyUI's stock text encoders (comfy/sd1_clip.py), with the same result.
    """
    room = length - 2
    rows: list[list[Token]] = [[]]
    for part in parts:
        left = list(part)
        while len(left) + len(rows[-1]) > room:
            if len(part) >= SHORT:
                fits = room - len(rows[-1])
                rows[-1] += left[:fits]
                left = left[fits:]
            rows.append([])
        rows[-1] += left
    return [[(start, 1.0), *row, (end, 1.0), *[(pad, 1.0)] * (room - len(row))] for row in rows]


def encode_rows(encode: Callable[[Tensor], Tensor], prompts: Sequence[list[list[Token]]], empty: list[int]) -> Tensor:
    """Encode prompts by their rows of tokens.

    A weighted token's vector is moved away from the one at its place in an empty prompt, by its weight. A prompt of
    several rows has the vectors of all of them. Where prompts differ in length their vectors are repeated, which
    changes nothing in cross-attention.

    Args:
        encode: Token ids [R, L] -> [R, L, D].
        prompts: The rows of each of the B prompts.
        empty: The tokens [L] of an empty prompt.

    Returns:
        [B, n L, D], where n is the least common multiple of the numbers of rows.
    """
    rows = [row for prompt in prompts for row in prompt]
    is_weighted = any(weight != 1.0 for row in rows for _, weight in row)
    ids = [[token for token, _ in row] for row in rows] + [empty] * is_weighted
    vectors = encode(torch.tensor(ids))
    if is_weighted:
        plain, zero = vectors[:-1], vectors[-1]
        weights = torch.tensor([[weight for _, weight in row] for row in rows]).to(plain)[..., None]
        vectors = torch.where(weights == 1.0, plain, (plain - zero) * weights + zero)
    each = vectors.split([len(prompt) for prompt in prompts])
    return torch.cat(of_one_length([part.flatten(0, 1)[None] for part in each]))


def of_one_length(texts: Sequence[Tensor]) -> list[Tensor]:
    """Encoded prompts [B, L, D] of several lengths, each repeated to their least common multiple."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return [text if text.shape[1] == length else text.repeat(1, length // text.shape[1], 1) for text in texts]
