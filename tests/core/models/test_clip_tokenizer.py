"""CLIP's tokenizer is found without a network, and refused where it would lose words."""

import gzip
import json
import logging
import shutil
import socket

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vidrd_core import load
from vidrd_core.io.safetensors import FormatError
from vidrd_core.loading import pack
from vidrd_core.metrics.clip_features import CLIPFeatures
from vidrd_core.models.clip_text_encoder import CLIPText, CLIPTextSettings
from vidrd_core.models.clip_tokenizer import MERGES, VOCABULARY_FILE, find_tokenizer, load_tokenizer
from vidrd_core.models.load_parts import load_clip_text, save_text_encoder

from .formats import originals
from .formats.test_text import clip_model

WORDS = 2 * 94 + 2  # of the letters' tokenizer in `originals`


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, no package with a vocabulary, and an empty cache of the hub."""
    monkeypatch.setattr("vidrd_core.models.clip_tokenizer.PACKAGES", ("there_is_no_such_package",))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """An installed package that carries a vocabulary file in OpenAI's layout, with its number of merges."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merges = [f"{a} {b}" for a in letters for b in letters]
    merges += [f"{a} {b}</w>" for a in letters for b in letters]
    pairs = [(a, b, c) for a in letters for b in letters for c in letters]
    merges += [f"{a}{b} {c}" for a, b, c in pairs] + [f"{a}{b} {c}</w>" for a, b, c in pairs]
    merges += [f"{a}{b} {c}{d}" for a, b, c in pairs for d in letters]
    package = tmp_path / "site" / "vocabulary_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it is not to be imported')")
    lines = ["version 0.2", *merges[:MERGES], "surplus line"]
    with gzip.open(package / VOCABULARY_FILE, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr("vidrd_core.models.clip_tokenizer.PACKAGES", ("vocabulary_package",))


def one_file(tmp_path, vocabulary):
    """The text encoder of a checkpoint in one file, as in Stable Diffusion 1.x."""
    text = originals.text_encoder(vocabulary)
    path = tmp_path / "model.safetensors"
    names = {key.removeprefix("text_model."): tensor for key, tensor in text.state_dict().items()}
    save_file({f"cond_stage_model.transformer.text_model.{key}": t.contiguous() for key, t in names.items()}, path)
    return path


def test_without_a_tokenizer_there_is_an_error_and_no_network(offline, tmp_path):
    path = one_file(tmp_path, WORDS)
    with pytest.raises(
        FileNotFoundError, match=r"model.safetensors has no tokenizer, and none is on this machine: name"
    ):
        load_clip_text(path)
    assert load_clip_text(path, originals.tokenizer(tmp_path / "t").name_or_path).encode(["a cat"]).shape[1] == 77


@pytest.mark.parametrize("place", ["tokenizer", "."])
def test_the_tokenizer_beside_a_file_is_its_own(offline, tmp_path, place):
    path = one_file(tmp_path, WORDS)
    shutil.copytree(originals.tokenizer(tmp_path / "made").name_or_path, tmp_path / place, dirs_exist_ok=True)
    assert load_clip_text(path).rows("a cat") == load_clip_text(path, tmp_path / "made").rows("a cat")


def test_the_tokenizer_of_a_diffusers_folder_is_that_of_its_file(offline, tmp_path):
    (tmp_path / "text_encoder").mkdir()
    path = one_file(tmp_path / "text_encoder", WORDS)
    originals.tokenizer(tmp_path / "tokenizer")
    assert load_clip_text(path).rows("a cat") == load_clip_text(path, tmp_path / "tokenizer").rows("a cat")


def test_a_tokenizer_of_something_else_beside_a_file_does_not_matter_if_there_is_another(published, tmp_path):
    path = one_file(tmp_path, 49408)
    originals.tokenizer(tmp_path / "tokenizer")
    assert len(load_clip_text(path).tokenizer) == 49408
    path = one_file(tmp_path, WORDS + 1)
    with pytest.raises(FormatError, match=f"knows 49408 tokens, the text encoder {WORDS + 1}"):
        load_clip_text(path)


def test_the_tokenizer_beside_a_text_encoder_in_a_diffusers_folder_is_its_own(offline, tmp_path):
    originals.modelscope(tmp_path)
    expected = load_clip_text(tmp_path / "model").encode(["a cat"])
    assert torch.equal(load_clip_text(tmp_path / "model" / "text_encoder").encode(["a cat"]), expected)


def test_a_vocabulary_that_a_package_carries_is_used(published, tmp_path):
    encoder = load_clip_text(one_file(tmp_path, 49408))
    tokenizer = encoder.tokenizer
    assert len(tokenizer) == 49408
    assert tokenizer.convert_ids_to_tokens([0, 255, 256, 49406, 49407]) == [
        "!", "\u0143", "!</w>", "<|startoftext|>", "<|endoftext|>",
    ]  # fmt: skip
    assert tokenizer.tokenize("the cat") == ["the</w>", "cat</w>"]
    assert tokenizer.tokenize("é") == ["Ã", "©</w>"]
    assert not torch.equal(encoder.encode(["the cat"]), encoder.encode(["the dog"]))
    save_text_encoder(encoder, tmp_path / "packed.safetensors")
    assert torch.equal(load_clip_text(tmp_path / "packed.safetensors").encode(["cat"]), encoder.encode(["cat"]))


@pytest.mark.parametrize(
    ("width", "pad"),
    [(768, 49407), *(pytest.param(*each, marks=pytest.mark.slow) for each in [(1024, 0), (1280, 0), (64, None)])],
)
def test_padding_follows_the_encoder_and_is_text_in_prompts(published, tmp_path, width, pad):
    """In the folders of Stable Diffusion 2.x and XL the padding is "!", which CLIP reads as text in prompts."""
    settings = CLIPTextSettings(hidden_size=width, heads=1, inner_size=8, layers=1)
    find_tokenizer(49408, tmp_path).save_pretrained(tmp_path / "plain")
    for token, own in (("!", 0), ("<|endoftext|>", 49407)):
        words = CLIPTokenizer.from_pretrained(tmp_path / "plain")
        prompts = ["wow! the cat", "the (cat!!:1.2)", "!", "no mark"]
        expected = [words(text).input_ids for text in ("wow! the cat", "the cat!!", "!", "no mark")]
        assert 256 in expected[0]  # of "!</w>" in CLIP's vocabulary
        words.pad_token = token
        words.save_pretrained(tmp_path / token.strip("<|>"))
        encoder = CLIPText(settings, load_tokenizer(tmp_path / token.strip("<|>"), 49408))
        save_text_encoder(encoder, tmp_path / "packed.safetensors")
        for each in (encoder, load_clip_text(tmp_path / "packed.safetensors")):
            rows = [[number for number, _ in each.rows(prompt)[0]] for prompt in prompts]
            filled = [ids + [own if pad is None else pad] * (77 - len(ids)) for ids in expected]
            assert rows == filled
            assert each.tokenize([prompts[0]]).tolist() == [filled[0]]
        encoder.tokenizer = words  # as packed before
        save_text_encoder(encoder, tmp_path / "packed.safetensors")
        assert [number for number, _ in load_clip_text(tmp_path / "packed.safetensors").rows("!")[0]] == filled[2]


@torch.no_grad()
@pytest.mark.parametrize("is_slow", [False, True])
def test_words_of_textual_inversions_inside_a_model_are_read_as_diffusers_reads_them(tmp_path, is_slow):
    words = originals.tokenizer(tmp_path / "words")
    words.add_tokens(["<toy>", "<toy>_1", "<toy>_2", "sks-style"])
    pipeline = StableDiffusionPipeline(
        vae=originals.vae(), text_encoder=originals.text_encoder(len(words)), tokenizer=words,
        unet=originals.unet_2d(), scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "model")
    if is_slow:  # the files of transformers' tokenizer in Python
        folder = tmp_path / "model" / "tokenizer"
        (folder / "tokenizer.json").unlink()
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(tmp_path / "words" / name, folder)
        added = {word: number for word, number in words.get_added_vocab().items() if "<|" not in word}
        (folder / "added_tokens.json").write_text(json.dumps(added))
    ours = load(tmp_path / "model")
    save_text_encoder(ours.text_encoder, tmp_path / "packed.safetensors")
    for prompt in ("a <toy> in sks-style here", "a<toy>"):
        expected = pipeline.encode_prompt(prompt, "cpu", 1, False)[0]
        torch.testing.assert_close(ours.text_encoder.encode([prompt]), expected, rtol=1e-5, atol=1e-5)
        packed = load_clip_text(tmp_path / "packed.safetensors")
        assert torch.equal(packed.encode([prompt]), ours.text_encoder.encode([prompt]))


def test_the_cache_of_the_hub_is_used(published, tmp_path, monkeypatch):
    cached = tmp_path / "hub" / "models--openai--clip-vit-large-patch14"
    find_tokenizer(49408, tmp_path).save_pretrained(tmp_path / "saved")
    backend = json.loads((tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots" / "abc" / "vocab.json").write_text(json.dumps(backend["vocab"]), encoding="utf-8")
    merges = [" ".join(pair) for pair in backend["merges"]]
    (cached / "snapshots" / "abc" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    monkeypatch.setattr("vidrd_core.models.clip_tokenizer.PACKAGES", ())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert find_tokenizer(49408, tmp_path).tokenize("the cat") == ["the</w>", "cat</w>"]


def test_a_tokenizer_of_another_vocabulary_is_refused(published, tmp_path):
    path = one_file(tmp_path, WORDS)
    with pytest.raises(FormatError, match=f"knows 49408 tokens, the text encoder {WORDS}: name a folder"):
        load_clip_text(path)
    folder = originals.modelscope(tmp_path) and tmp_path / "model"
    shutil.rmtree(folder / "tokenizer")
    find_tokenizer(49408, path).save_pretrained(folder / "tokenizer")
    with pytest.raises(FormatError, match="knows 49408 tokens, the text encoder 190"):
        load(folder)


@pytest.mark.parametrize("kept", [1, 400, 48893])
def test_a_tokenizer_with_missing_merges_is_refused(published, tmp_path, kept):
    find_tokenizer(49408, tmp_path).save_pretrained(tmp_path / "whole")
    backend = json.loads((tmp_path / "whole" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "vocab.json").write_text(json.dumps(backend["vocab"]), encoding="utf-8")
    merges = [" ".join(pair) for pair in backend["merges"]]
    assert len(merges) == MERGES
    for count in (kept, MERGES):
        text = "\n".join(["#version: 0.2", *merges[:count]]) + "\n"
        (tmp_path / "cut" / "merges.txt").write_text(text, encoding="utf-8")
        if count == MERGES:
            assert load_tokenizer(tmp_path / "cut", 49408).tokenize("the") == ["the</w>"]
            continue
        with pytest.raises(FormatError, match=f"its merges make {kept} of its {MERGES} longer tokens"):
            load_tokenizer(tmp_path / "cut", 49408)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(FormatError, match=r"the tokenizer in .* cannot be read"):
        load_tokenizer(tmp_path, 49408)


def test_a_model_that_was_packed_with_a_tokenizer_of_two_tokens_is_refused(tmp_path):
    """As versions before this one did where transformers found no network."""
    words = originals.tokenizer(tmp_path / "words")
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(words), hidden_size=64, intermediate_size=64,
                                        num_hidden_layers=1, num_attention_heads=1))  # fmt: skip
    text.save_pretrained(tmp_path / "words")
    encoder: CLIPText = load_clip_text(tmp_path / "words")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (tmp_path / "two" / "merges.txt").write_text("#version: 0.2\n")
    encoder.tokenizer = type(encoder.tokenizer).from_pretrained(tmp_path / "two")
    save_text_encoder(encoder, tmp_path / "packed.safetensors")
    with pytest.raises(FormatError, match=r"packed.safetensors knows 2 tokens, the text encoder 190.* packed again"):
        load_clip_text(tmp_path / "packed.safetensors")


def test_packing_asks_for_the_tokenizer(offline, tmp_path):
    pipeline = originals.modelscope(tmp_path)
    shutil.rmtree(tmp_path / "model" / "tokenizer")
    with pytest.raises(FileNotFoundError, match="has no tokenizer, and none is on this machine"):
        pack(tmp_path / "model", tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()
    pipeline.tokenizer.save_pretrained(tmp_path / "tokenizer")
    pack(tmp_path / "model", tmp_path / "packed.safetensors", text_encoder=tmp_path / "tokenizer")
    assert load(tmp_path / "packed.safetensors").text_encoder.tokenizer("a b").input_ids[1:-1]


def test_clipsim_needs_a_tokenizer_of_its_model(offline, tmp_path):
    words = originals.tokenizer(tmp_path / "words")
    clip_model(len(words), 64, "quick_gelu", heads=1).save_pretrained(tmp_path / "clip")
    with pytest.raises(FormatError, match="cannot be loaded by transformers: there is no CLIP tokenizer in"):
        CLIPFeatures(tmp_path / "clip")
    words.save_pretrained(tmp_path / "clip")
    features = CLIPFeatures(tmp_path / "clip").texts(["a cat", "a dog"])
    assert not (features[0] == features[1]).all()
    clip_model(len(words) + 1, 64, "quick_gelu", heads=1).save_pretrained(tmp_path / "clip")
    with pytest.raises(FormatError, match="knows 190 tokens, the text encoder 191"):
        CLIPFeatures(tmp_path / "clip")


@torch.no_grad()
@pytest.mark.parametrize("files", [("vocab.json", "merges.txt"), ("tokenizer.json",)])
def test_clipsim_cuts_long_texts_without_settings_of_the_tokenizer(tmp_path, files):
    words = originals.tokenizer(tmp_path / "words")
    theirs = clip_model(len(words), 64, "quick_gelu", heads=1)
    theirs.save_pretrained(tmp_path / "clip")
    for name in files:
        shutil.copy(tmp_path / "words" / name, tmp_path / "clip")
    texts = ["a cat", "tag, " * 100]
    tokens = words(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    expected = theirs.text_projection(theirs.text_model(**tokens).pooler_output)
    found = torch.as_tensor(CLIPFeatures(tmp_path / "clip").texts(texts))
    torch.testing.assert_close(found, expected, check_dtype=False)


def test_a_long_prompt_is_read_without_a_word_of_transformers(tmp_path, caplog):
    words = originals.tokenizer(tmp_path / "words")
    encoder = CLIPText(CLIPTextSettings(len(words), 64, 8, 1, 1), words)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        assert len(encoder.rows("a" * 200)) == 3
        assert not caplog.records
        assert len(words("a" * 200).input_ids) == 202
        assert "longer than the specified maximum" in caplog.text  # it would have spoken
    finally:
        logger.removeHandler(caplog.handler)
