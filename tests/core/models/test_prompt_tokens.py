"""Weights in brackets and chunks of long prompts; tests/nodes compares them with ComfyUI's own text encoders."""

import warnings

import pytest
import torch

from vidrd_core import load
from vidrd_core.models.clip_text_encoder import CLIPText, CLIPTextSettings
from vidrd_core.models.prompt_tokens import chunked, of_one_length, weighted_parts

from ...conftest import randomise
from .formats import originals


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", []),
        ("a cat", [("a cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(red:0.5)", [("red", 0.5)]),
        ("((red:0.5))", [("red", 0.5)]),
        ("(a (red:2) cat:0.5)", [("a ", 0.5), ("red", 2), (" cat", 0.5)]),
        ("(a (red) cat:0.5)", [("a ", 0.5), ("red", 0.5 * 1.1), (" cat", 0.5)]),
        ("(red: -1e0 )", [("red", -1)]),
        ("(at 12:30)", [("at 12", 30)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(:2)", [(":2", 1.1)]),
        (r"a \(red\) cat", [("a (red) cat", 1)]),
        (r"(a \(red\):1.5)", [("a (red)", 1.5)]),
        ("a (red", [("a ", 1), ("(red", 1)]),
        ("a) (red) cat", [("a) (red) cat", 1)]),
        ("()", []),
        ("a\0b (\1)", [("a\0b ", 1), ("\1", 1.1)]),
    ],
)
def test_brackets_give_weights(prompt, parts):
    found = weighted_parts(prompt)
    assert [text for text, _ in found] == [text for text, _ in parts]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in parts])


def test_brackets_in_brackets():
    assert weighted_parts("(" * 100 + "red" + ")" * 100) == [("red", pytest.approx(1.1**100))]
    for many in (101, 1200, 10_000):
        with pytest.raises(ValueError, match="more than 100 brackets in each other"):
            weighted_parts("(" * many + "red" + ")" * many)


def test_embeddings_are_left_out_and_mentioned(encoder):
    """What remains is what ComfyUI reads; tests/nodes compares the rows."""
    prompts = {
        "a cat, embedding:EasyNegative, blurry": ["a cat, ", ", blurry"],
        "(embedding:bad-hands:1.2) x": [" x"],
        "embedding:one<two three": ["<two three"],
        "embedding: ": [],
    }
    for prompt, parts in prompts.items():
        with pytest.warns(UserWarning, match="is left out of the prompt: textual inversions in files are not read"):
            rows = encoder.rows(prompt)
        found = [encoder.tokenizer(text).input_ids[1:-1] for text in parts]
        ids = [number for number, _ in rows[0][1:-1] if number != encoder.tokenizer.pad_token_id]
        assert ids == [number for part in found for number in part]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(encoder.rows("anembedding:x embeddings")) == 1


def tokens(*counts):
    """Parts of so many tokens, all different."""
    numbers = iter(range(10, 10_000))
    return [[(next(numbers), 1.0) for _ in range(count)] for count in counts]


@pytest.mark.parametrize(
    ("counts", "texts"),
    [
        ((), [0]),
        ((75,), [75]),
        ((76,), [75, 1]),
        ((200,), [75, 75, 50]),
        ((70, 5), [75]),
        ((70, 6), [70, 6]),  # a short part goes whole into the next row
        ((70, 8), [75, 3]),  # a long one is split
        ((75, 8), [75, 8]),
        ((75, 1), [75, 1]),
    ],
)
def test_long_prompts_take_several_rows(counts, texts):
    parts = tokens(*counts)
    rows = chunked(parts, 77, start=1, end=2, pad=3)
    for row, count in zip(rows, texts, strict=True):
        ids = [token for token, _ in row]
        assert len(ids) == 77
        assert (ids[0], ids[count + 1]) == (1, 2)
        assert set(ids[count + 2 :]) <= {3}
    inside = [token for row, count in zip(rows, texts, strict=True) for token in row[1 : count + 1]]
    assert inside == [token for part in parts for token in part]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    words = originals.tokenizer(tmp_path_factory.mktemp("words") / "t")
    settings = CLIPTextSettings(len(words), hidden_size=64, inner_size=64, layers=2, heads=2)
    return randomise(CLIPText(settings, words)).eval()


@torch.no_grad()
def test_each_row_of_a_long_prompt_is_encoded_alone(encoder):
    text = "abcdefghij" * 20  # tokens are letters
    found = encoder.encode([text])
    assert found.shape == (1, 3 * 77, 64)
    for number, part in enumerate((text[:75], text[75:150], text[150:])):
        row = [encoder.tokenizer.bos_token_id, *encoder.tokenizer.convert_tokens_to_ids(list(part))]
        if number == 2:
            row[-1] = encoder.tokenizer.convert_tokens_to_ids(f"{part[-1]}</w>")
        row += [encoder.tokenizer.eos_token_id]
        row += [encoder.tokenizer.pad_token_id] * (77 - len(row))
        expected = encoder(torch.tensor([row]))[0]
        torch.testing.assert_close(found[0, number * 77 : number * 77 + 77], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_weight_moves_a_word_away_from_the_empty_prompt(encoder):
    plain, empty, heavy = encoder.encode(["a c d"]), encoder.encode([""]), encoder.encode(["a (c:1.5) d"])
    expected = plain.clone()
    expected[:, 2] = empty[:, 2] + 1.5 * (plain[:, 2] - empty[:, 2])
    torch.testing.assert_close(heavy, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_prompts_of_several_lengths_are_repeated(encoder):
    texts = ["a" * 10, "b" * 100, "c" * 200]
    found = encoder.encode(texts)
    assert found.shape == (3, 6 * 77, 64)
    for one, text in zip(found, texts, strict=True):
        alone = encoder.encode([text])[0]
        torch.testing.assert_close(one, alone.repeat(6 * 77 // len(alone), 1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_repeated_text_changes_nothing_in_the_unet():
    model = load("tiny")
    text = model.text_encoder.encode(["a red circle moving right"])
    x, timestep = torch.randn(1, 4, 8, 16, 16), torch.tensor([500])
    longer = of_one_length([text, text.repeat(1, 3, 1)])[0]
    if model.unet.config.text_pooling:  # the mean of repeated text is the same
        torch.testing.assert_close(longer.mean(1), text.mean(1))
    attention = model.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    h = torch.randn(1, 9, attention.to_q.in_features)
    torch.testing.assert_close(attention(h, h, longer), attention(h, h, text), rtol=1e-5, atol=1e-5)
    assert model.unet(x, timestep, longer).shape == x.shape


def test_brackets_weigh_words_of_the_built_in_model_too():
    model = load("tiny")
    plain, heavy = (model.text_encoder.encode([text]) for text in ("a red circle", "a (red:1.4) circle"))
    empty = model.text_encoder.encode([""])
    expected = plain.clone()
    expected[:, 2] = empty[:, 2] + 1.4 * (plain[:, 2] - empty[:, 2])
    torch.testing.assert_close(heavy, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="a prompt has 31 words, this model reads at most 30"):
        model.generate("circle " * 31, steps=1)
