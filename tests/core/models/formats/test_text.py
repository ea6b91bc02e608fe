"""Whole CLIPs, text and vision, against transformers' own modules."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.detect import NAMINGS
from vidrd_core.models.formats.naming import detect_naming
from vidrd_core.models.formats.text import read_text
from vidrd_core.models.load_parts import load_clip_text, save_text_encoder

from ....conftest import randomise
from . import originals

VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 16}  # fmt: skip


def clip_model(vocabulary, width, activation, heads=2):
    text = {
        "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": heads, "hidden_act": activation, "bos_token_id": 0, "eos_token_id": vocabulary - 1,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)).eval()
    randomise(model.text_model)
    return model


@pytest.mark.parametrize(("width", "activation", "last"), [(128, "quick_gelu", -1), (1024, "gelu", -2)])
@torch.no_grad()
def test_a_whole_clip_is_the_text_encoder_that_stable_diffusion_reads(tmp_path, width, activation, last):
    """The last layer of OpenAI's CLIP (1.x), the one before it of OpenCLIP's (2.x), with the final norm."""
    words = originals.tokenizer(tmp_path / "clip")
    theirs = clip_model(len(words), width, activation)
    theirs.save_pretrained(tmp_path / "clip")
    ours = load_clip_text(tmp_path / "clip")
    tokens = ours.tokenize(["a cat"])
    found = theirs.text_model(input_ids=tokens, output_hidden_states=True)
    expected = theirs.text_model.final_layer_norm(found.hidden_states[last])
    torch.testing.assert_close(ours.encode(["a cat"]), expected, rtol=1e-5, atol=1e-5)
    save_text_encoder(ours, tmp_path / "ours.safetensors")
    assert torch.equal(load_clip_text(tmp_path / "ours.safetensors").encode(["a cat"]), ours.encode(["a cat"]))


def test_heads_and_activation_are_those_of_the_text_config():
    theirs = clip_model(99, 128, "gelu", heads=4)
    assert detect_naming(NAMINGS["text_encoder"], theirs.state_dict()).name == "transformers' CLIPModel"
    settings, _ = read_text(theirs.state_dict(), theirs.config.to_dict())
    assert (settings.heads, settings.activation, settings.layers) == (4, "gelu", 3)
    assert read_text(theirs.state_dict())[0].activation == "quick_gelu"


def test_a_clip_without_a_tensor_is_refused():
    state = clip_model(99, 128, "quick_gelu").state_dict()
    del state["text_model.embeddings.token_embedding.weight"]
    with pytest.raises(
        FormatError, match=r"is no CLIP, or not whole: it lacks 'embeddings\.token_embedding\.weight'"
    ):
        read_text(state)
