"""The built-in model's text encoder: transformers' CLIP text model, without transformers."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from vidrd_core.models.config import TextConfig
from vidrd_core.models.load_parts import load_text_encoder, save_text_encoder
from vidrd_core.models.word_text_encoder import END, START, TextEncoder

TEXT = TextConfig(words=tuple(f"w{i}" for i in range(20)), hidden_size=24, layers=3, heads=4, max_length=7)


def clip_of(layers):
    """The same network, by transformers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": layers, "num_attention_heads": 4}
    tokens = {"vocab_size": 22, "max_position_embeddings": 7, "bos_token_id": START, "eos_token_id": END}
    return CLIPTextModel(CLIPTextConfig(**sizes, **tokens, pad_token_id=END))


@pytest.mark.parametrize("layers", [3, 0])
def test_it_computes_what_transformers_does(layers):
    ours, theirs = TextEncoder(dataclasses.replace(TEXT, layers=layers)), clip_of(layers)
    weights = {f"clip.{name.removeprefix('text_model.')}": each for name, each in theirs.named_parameters()}
    ours.load_state_dict(weights)
    older = {name.replace("clip.", "clip.text_model."): each for name, each in weights.items()}
    assert ours.match_transformers(older).keys() == weights.keys() == ours.match_transformers(weights).keys()
    tokens = ours.tokenize(["w3 w1", "", "w0 w1 w2 w3 w4 w5 w6 w7"])
    torch.testing.assert_close(ours.eval()(tokens), theirs.eval()(input_ids=tokens).last_hidden_state)


def test_new_weights_are_spread_as_those_of_transformers_but_for_the_words():
    theirs = clip_of(3)
    torch.manual_seed(1)
    ours = dict(TextEncoder(TEXT).clip.named_parameters())
    assert ours["embeddings.token_embedding.weight"].std().item() == pytest.approx(1, rel=0.25)
    ours["embeddings.token_embedding.weight"] = ours["embeddings.token_embedding.weight"].detach() * 0.02
    for name, weight in theirs.named_parameters():
        mine = ours[name.removeprefix("text_model.")]
        assert mine.std(correction=0).item() == pytest.approx(weight.std(correction=0).item(), rel=0.25), name
        assert mine.mean().item() == pytest.approx(weight.mean().item(), abs=0.02), name


def test_a_video_of_the_built_in_model_needs_no_transformers(tmp_path):
    code = (
        "import sys; from vidrd_core.cli import main; code = main();"
        "assert not {'transformers', 'diffusers', 'peft', 'scipy', 'cv2'} & set(sys.modules); sys.exit(code)"
    )
    command = ["generate", "a red circle", "--steps", "1", "-q", "-o", str(tmp_path / "a.gif")]
    subprocess.run([sys.executable, "-c", code, *command], check=True)
    assert (tmp_path / "a.gif").exists()


def test_without_layers_a_word_is_read_as_itself(tmp_path):
    """Whatever is beside it: what a layer learns of other words cannot drown it."""
    torch.manual_seed(0)
    encoder = TextEncoder(dataclasses.replace(TEXT, layers=0))
    first, second = encoder.encode(["w1 w2 w3", "w1 w5 w3"])
    same = (first == second).all(dim=1)
    assert same.tolist() == [True, True, False, True, True, True, True]
    save_text_encoder(encoder, tmp_path / "text_encoder.safetensors")
    again = load_text_encoder(tmp_path / "text_encoder.safetensors")
    assert torch.equal(again.encode(["w1 w2 w3"])[0], first)
