"""CLIP's tokenizer, through transformers: found without a network, checked, and kept inside this package's files."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.weight_files import read_json

TOKENIZER = "tokenizer/"  # prefix of a tokenizer's files, which are tensors of bytes beside the weights
START, END = "<|startoftext|>", "<|endoftext|>"
OPENAI = "openai/clip-vit-large-patch14"  # whose vocabulary all CLIPs of Stable Diffusion share
VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"  # as OpenAI published it
PACKAGES = ("open_clip", "clip")  # Python packages that carry it
MERGES = 49152 - 256 - 2  # how many of its lines CLIP reads, after the first
PADS = {768: END, 1024: "!", 1280: "!"}  # by the width of the encoder: OpenAI's CLIP, and OpenCLIP's
PADDING = (
    "padding_of_prompts"  # our entry of tokenizer_config.json: the folder's own padding, if it is a token of text
)
HOW = (
    "name a folder with one as the text encoder (--text-encoder, text_encoder=): a diffusers folder of Stable "
    "Diffusion, or its tokenizer folder with tokenizer.json, or vocab.json and merges.txt"
)
BESIDE = "of a text encoder in a file, put that folder, named tokenizer, beside the file"


def load_tokenizer(folder: str | Path, vocabulary: int) -> Any:
    """Load CLIP's tokenizer from a folder.

    Args:
        folder: A diffusers folder, its folder of the text encoder, or a tokenizer's folder.
        vocabulary: The number of tokens that the text encoder knows.

    Returns:
        A CLIPTokenizer of transformers. It pads with its end token, whatever the folder says: `pad_id` has the token
        that the text encoder was trained with.

    Raises:
        FileNotFoundError: There is none; the message says where one comes from.
        FormatError: It is damaged, or one of another vocabulary.
    """
    folder = Path(folder)
    beside = folder.parent / folder.name.replace("text_encoder", "tokenizer")  # in a diffusers folder
    places = [place for place in (folder / "tokenizer", folder, beside) if _has_tokenizer(place)]
    # Without this transformers would make one that knows two tokens, or ask the network.
    if not places:
        raise FileNotFoundError(f"there is no CLIP tokenizer in {folder}: {HOW}")
    from transformers import CLIPTokenizer  # takes long

    try:
        _check_ids(places[0], vocabulary)
        tokenizer = _with_padding_as_text(CLIPTokenizer.from_pretrained(str(places[0]), local_files_only=True))
        tokenizer("a", verbose=False)  # settings that cannot be are only met there
    except Exception as error:  # whatever transformers and tokenizers raise for damaged files
        raise FormatError(f"the tokenizer in {places[0]} cannot be read: {error}") from error
    check_tokenizer(tokenizer, vocabulary, places[0])
    return tokenizer


def _check_ids(folder: Path, vocabulary: int) -> None:
    """See that a tokenizer's files have ids that its encoder knows: tokenizers make room for the largest one.

    Raises FormatError.
    """
    whole, words, added = (read_json(folder / name) for name in ("tokenizer.json", "vocab.json", "added_tokens.json"))
    model = whole.get("model")
    inside = model.get("vocab") if isinstance(model, dict) else None
    tokens = whole.get("added_tokens")
    ids = [*words.values(), *added.values(), *(inside.values() if isinstance(inside, dict) else ())]
    ids += [each.get("id", 0) for each in (tokens if isinstance(tokens, list) else ()) if isinstance(each, dict)]
    most = max(vocabulary, len(ids))
    if odd := [number for number in ids if type(number) is not int or not 0 <= number < most]:
        raise FormatError(f"a token has the id {odd[0]!r:.40}, expected 0 to {most - 1}")


def pad_id(tokenizer: Any, width: int) -> int:
    """The id of the token with which a text encoder's prompts are filled up.

    Args:
        tokenizer: A tokenizer of `load_tokenizer`.
        width: Channels of the text encoder: OpenAI's CLIP of Stable Diffusion 1.x (768) pads with the end token,
            OpenCLIP's of 2.x (1024) and SDXL (1280) with "!". Others pad as the tokenizer's folder says.

    Returns:
        The id.
    """
    token = PADS.get(width) or tokenizer.init_kwargs.get(PADDING) or tokenizer.pad_token
    return int(tokenizer.convert_tokens_to_ids(token))


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text's tokens, without start and end.

    Args:
        tokenizer: A tokenizer of `load_tokenizer`.
        text: Text of any length.

    Returns:
        Ids. The word of a textual inversion of several vectors, "<toy>", is followed by those of its further vectors,
        "<toy>_1" and so on, as in diffusers.
    """
    added = tokenizer.get_added_vocab()
    words = {number: word for word, number in added.items()}
    ids = []
    for number in tokenizer(text, verbose=False).input_ids[1:-1]:
        ids.append(number)
        further = (f"{words.get(number)}_{vector}" for vector in count(1))
        ids += [added[word] for word in takewhile(added.__contains__, further)]
    return ids


def find_tokenizer(vocabulary: int, of: Path) -> Any:
    """The tokenizer of a text encoder that has none in it, from this machine; no network is used.

    It comes from the file's folder, or a folder tokenizer in that; else from an installed Python package that carries
    OpenAI's vocabulary (open-clip-torch, or OpenAI's clip), else from the cache of Hugging Face's hub.

    Args:
        vocabulary: As in `load_tokenizer`.
        of: The text encoder's file, or a folder.

    Returns:
        A CLIPTokenizer of transformers.

    Raises:
        FileNotFoundError: There is none; the message says how to get one.
        FormatError: What was found is damaged, or of another vocabulary.
    """
    unfit: FormatError | None = None
    if of.is_file():
        try:
            return load_tokenizer(of.parent, vocabulary)
        except FileNotFoundError:
            pass
        except FormatError as error:  # it may be another text encoder's
            unfit = error
    with tempfile.TemporaryDirectory() as folder:
        if (published := _published_vocabulary()) is not None:
            _write_vocabulary(published, Path(folder))
            return load_tokenizer(folder, vocabulary)
    if (cached := _in_hub_cache()) is not None:
        return load_tokenizer(cached, vocabulary)
    if unfit is not None:
        raise unfit
    raise FileNotFoundError(
        f"{of} has no tokenizer, and none is on this machine: {HOW}; {BESIDE}; or install the package "
        "open-clip-torch, which carries it"
    )


def check_tokenizer(tokenizer: Any, vocabulary: int, place: str | Path) -> None:
    """Check that a tokenizer makes the tokens that a text encoder knows.

    Args:
        tokenizer: A tokenizer of transformers.
        vocabulary: How many tokens the text encoder knows.
        place: Where the tokenizer comes from, for the message.

    Raises:
        FormatError: It knows more or fewer tokens, or merges of its byte-pair encoding are missing.
    """
    if len(tokenizer) != vocabulary:
        raise FormatError(
            f"the tokenizer in {place} knows {len(tokenizer)} tokens, the text encoder {vocabulary}: {HOW}"
        )
    tokens = {token for token in _own_vocabulary(tokenizer) if len(token.removesuffix("</w>")) > 1} - {START, END}
    if missing := tokens - {"".join(pair) for pair in _merges_of(tokenizer)}:
        raise FormatError(
            f"the tokenizer in {place} is damaged: its merges make {len(tokens) - len(missing)} of its {len(tokens)} "
            "longer tokens, so that words would be read letter by letter; get a whole merges.txt"
        )


def tokenizer_tensors(tokenizer: Any) -> dict[str, Tensor]:
    """A tokenizer's files as tensors of bytes (uint8), by TOKENIZER and their names."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
    return {
        f"{TOKENIZER}{name}": torch.frombuffer(bytearray(data), dtype=torch.uint8)
        for name, data in files.items()
        if data
    }


def tokenizer_from_tensors(tensors: Mapping[str, Tensor], vocabulary: int, path: Path) -> Any:
    """Restore a tokenizer from the tensors of `tokenizer_tensors`.

    Args:
        tensors: The files' bytes, by TOKENIZER and their names.
        vocabulary: As in `load_tokenizer`.
        path: The file that they come from, for messages.

    Returns:
        A CLIPTokenizer of transformers.

    Raises:
        FormatError: The files are no tokenizer of this vocabulary, or one has a folder in its name.
    """
    with tempfile.TemporaryDirectory() as folder:
        for key, tensor in tensors.items():
            name = key.removeprefix(TOKENIZER)
            if Path(name).name != name or "\0" in name:
                raise FormatError(f"{path} has a tokenizer's file with a folder in its name: {name}")
            (Path(folder) / name).write_bytes(tensor.numpy().tobytes())
        try:
            return load_tokenizer(folder, vocabulary)
        except (FileNotFoundError, FormatError) as error:
            text = str(error).replace(folder, str(path))
            raise FormatError(f"{text}; a file that was packed without a tokenizer has to be packed again") from error


def _has_tokenizer(folder: Path) -> bool:
    return any(all((folder / name).is_file() for name in names)
               for names in (["tokenizer.json"], ["vocab.json", "merges.txt"]))  # fmt: skip


def _with_padding_as_text(tokenizer: Any) -> Any:
    """A tokenizer of which no token of text is special: OpenCLIP's folders make their padding so, "!".

    transformers reads a special token wherever its letters are, so that "wow!!" would end in two tokens of padding,
    in place of the one of "!!" that the text encoder was trained with.
    """
    words = _own_vocabulary(tokenizer)
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    if all(token.content in (START, END) or token.content not in words for token in added):
        return tokenizer
    with tempfile.TemporaryDirectory() as folder:
        _write_files(words, (" ".join(pair) for pair in _merges_of(tokenizer)), Path(folder))
        plain = type(tokenizer).from_pretrained(folder, model_max_length=tokenizer.model_max_length)
    plain.add_tokens([token for token in added if token.content not in words])
    plain.init_kwargs[PADDING] = str(tokenizer.pad_token)
    return plain


def _own_vocabulary(tokenizer: Any) -> dict[str, int]:
    """The ids of a tokenizer's tokens without those that were added to it."""
    backend = getattr(tokenizer, "_tokenizer", None)
    return dict(tokenizer.encoder if backend is None else backend.get_vocab(with_added_tokens=False))


def _merges_of(tokenizer: Any) -> Iterator[Sequence[str]]:
    """The pairs of a byte-pair encoding, of a tokenizer in Rust or, in older versions of transformers, in Python."""
    if (backend := getattr(tokenizer, "_tokenizer", None)) is None:
        yield from tokenizer.bpe_ranks
        return
    for pair in json.loads(backend.to_str())["model"]["merges"]:
        yield pair.split(" ") if isinstance(pair, str) else pair


def _published_vocabulary() -> Path | None:
    """OpenAI's vocabulary file in an installed package, which is not imported; None without one."""
    for name in PACKAGES:
        spec = find_spec(name)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            if (path := Path(place) / VOCABULARY_FILE).is_file():
                return path
    return None


def _write_vocabulary(published: Path, folder: Path) -> None:
    """OpenAI's vocabulary file as vocab.json and merges.txt.

    Its tokens are the 256 bytes, the same at the end of a word, one for each merge, and the two special ones.
    """
    with gzip.open(published, "rt", encoding="utf-8") as file:
        merges = [line for line in file.read().split("\n")[1 : MERGES + 1] if line]
    letters = _letters_of_bytes()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(line.split()) for line in merges)]
    numbered = {token: number for number, token in enumerate([*tokens, START, END])}
    _write_files(numbered, merges, folder)


def _write_files(vocabulary: Mapping[str, int], merges: Iterable[str], folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def _letters_of_bytes() -> list[str]:
    """The letters that stand for the 256 bytes in byte-level encodings, in the order of their tokens.

    Printable bytes of Latin-1 stand for themselves and come first; the others are the letters from 256 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]


def _in_hub_cache() -> Path | None:
    """The folder of OpenAI's tokenizer in the cache of Hugging Face's hub, None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(OPENAI, name) for name in ("vocab.json", "merges.txt")]
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None  # type: ignore[arg-type]
