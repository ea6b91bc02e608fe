"""Whole CLIPs, text and vision, against transformers' own modules and diffusers' conversion."""

import json

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.detect import NAMINGS
from vidrd_core.models.formats.naming import detect_naming
from vidrd_core.models.formats.text import identify_text
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


def open_clip_model(vocabulary, width=128, layers=3):
    """An OpenCLIP model with its vision tower, named as in open_clip_pytorch_model.bin, with random weights."""
    shapes = {
        "positional_embedding": (77, width), "text_projection": (width, width), "logit_scale": (1,),
        "token_embedding.weight": (vocabulary, width), "attn_mask": (77, 77),
        "visual.class_embedding": (32,), "visual.conv1.weight": (32, 3, 16, 16), "visual.ln_pre.weight": (32,),
        "visual.transformer.resblocks.0.attn.in_proj_weight": (96, 32), "visual.proj": (32, width),
    }  # fmt: skip
    for name, size in (("attn.in_proj_", (3 * width, width)), ("attn.out_proj.", (width, width)),
                       ("mlp.c_fc.", (64, width)), ("mlp.c_proj.", (width, 64)),
                       ("ln_1.", (width,)), ("ln_2.", (width,))):  # fmt: skip
        for layer in range(layers):
            shapes[f"transformer.resblocks.{layer}.{name}weight"] = size
            shapes[f"transformer.resblocks.{layer}.{name}bias"] = size[:1]
    shapes |= {"ln_final.weight": (width,), "ln_final.bias": (width,)}
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@torch.no_grad()
def test_a_whole_open_clip_is_what_diffusers_converts_it_to(tmp_path):
    words = originals.tokenizer(tmp_path / "words")
    state = open_clip_model(len(words))
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    ours = load_clip_text(tmp_path / "open_clip_pytorch_model.bin", tmp_path / "words")
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=128, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        hidden_act="gelu", bos_token_id=0, eos_token_id=len(words) - 1,
    )  # fmt: skip
    theirs = CLIPTextModel(config).eval()
    converted = convert_open_clip_checkpoint(theirs, state, prefix="")
    del converted["text_projection.weight"]
    if "embeddings.token_embedding.weight" in theirs.state_dict():  # transformers 5
        converted = {key.removeprefix("text_model."): tensor for key, tensor in converted.items()}
    theirs.load_state_dict(converted)
    tokens = ours.tokenize(["a cat"])
    found = theirs(input_ids=tokens, output_hidden_states=True)
    norm = next(module for name, module in theirs.named_modules() if name.endswith("final_layer_norm"))
    torch.testing.assert_close(ours(tokens), norm(found.hidden_states[-2]), rtol=1e-5, atol=1e-5)


def names_of(files, state):
    """The tensors of a CLIPTextModel as other programs name them: OpenCLIP's, or transformers' after a prefix."""
    inner = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
    if files == "OpenCLIP":
        return as_open_clip(inner)
    return {f"{files}text_model.{key}": tensor for key, tensor in inner.items()}


def as_open_clip(inner):
    named = {
        "token_embedding.weight": inner["embeddings.token_embedding.weight"],
        "positional_embedding": inner["embeddings.position_embedding.weight"],
        "ln_final.weight": inner["final_layer_norm.weight"], "ln_final.bias": inner["final_layer_norm.bias"],
    }  # fmt: skip
    stems = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    for layer in range(1 + max(int(key.split(".")[2]) for key in inner if key.startswith("encoder.layers."))):
        begin, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for end in ("weight", "bias"):
            named |= {f"{theirs}{name}.{end}": inner[f"{begin}{stem}.{end}"] for stem, name in stems.items()}
            parts = [inner[f"{begin}self_attn.{name}_proj.{end}"] for name in "qkv"]
            named[f"{theirs}attn.in_proj_{end}"] = torch.cat(parts)
    return named


@pytest.mark.parametrize(
    ("width", "layers", "files", "read"),
    [
        (768, 12, "OpenCLIP", 12),  # OpenAI's own file, the encoder of 1.x
        (768, 12, "clip_l.transformer.", 12),
        (1024, 23, "OpenCLIP", 23),  # written from a folder of diffusers, which has 23
        (1024, 24, "OpenCLIP", 23),
        (1024, 24, "", 23),  # as ComfyUI writes OpenCLIP's
        (1024, 23, "text_encoders.clip_h.transformer.", 23),
    ],
)
@torch.no_grad()
def test_a_file_is_read_to_the_layer_that_stable_diffusion_reads(width, layers, files, read):
    config = CLIPTextConfig(
        vocab_size=99, hidden_size=width, intermediate_size=8, num_hidden_layers=layers, num_attention_heads=1,
        hidden_act="quick_gelu" if width == 768 else "gelu",
    )  # fmt: skip
    with torch.device("meta"):
        shapes = CLIPTextModel(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(t.shape, generator=generator).mul(0.03).half() for key, t in shapes.items()}
    settings, tensors = identify_text(names_of(files, state) | {"logit_scale": torch.zeros(())})
    assert (settings.layers, settings.activation) == (read, config.hidden_act)
    kept = {key.removeprefix("text_model."): tensor for key, tensor in state.items() if "position_ids" not in key}
    kept = {key: t for key, t in kept.items() if not key.startswith("encoder") or int(key.split(".")[2]) < read}
    assert tensors.keys() == kept.keys()
    assert all(torch.equal(tensors[key], tensor) for key, tensor in kept.items())


def test_several_text_encoders_in_a_file_are_refused():
    inner = originals.text_encoder(190).state_dict()
    both = {f"clip_{name}.transformer.{key}": tensor for name in "lg" for key, tensor in inner.items()}
    with pytest.raises(FormatError, match=r"several text encoders \('clip_l.transformer.*expected one"):
        identify_text(both)


def test_heads_and_activation_are_those_of_the_text_config():
    theirs = clip_model(99, 128, "gelu", heads=4)
    assert detect_naming(NAMINGS["text_encoder"], theirs.state_dict()).name == "transformers' CLIPModel"
    settings, _ = identify_text(theirs.state_dict(), theirs.config.to_dict())
    assert (settings.heads, settings.activation, settings.layers) == (4, "gelu", 3)
    assert identify_text(theirs.state_dict())[0].activation == "quick_gelu"


def test_a_clip_without_a_tensor_is_refused():
    state = clip_model(99, 128, "quick_gelu").state_dict()
    del state["text_model.embeddings.token_embedding.weight"]
    with pytest.raises(
        FormatError, match=r"is no CLIP, or not whole: it lacks 'embeddings\.token_embedding\.weight'"
    ):
        identify_text(state)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 1}, {"num_hidden_layers": 2}, {"hidden_act": "gelu"}, {"hidden_act": None},
        {"num_attention_heads": 4}, {"num_attention_heads": None},
    ],
)  # fmt: skip
@torch.no_grad()
def test_the_config_of_a_folder_is_followed_as_transformers_follows_it(change, tmp_path):
    folder = tmp_path / "text"
    words = originals.tokenizer(folder)
    text = originals.text_encoder(len(words))
    text.save_pretrained(folder)
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    theirs = CLIPTextModel.from_pretrained(folder).eval()
    ours = load_clip_text(folder)
    tokens = ours.tokenize(["a cat"])
    torch.testing.assert_close(ours(tokens), theirs(tokens).last_hidden_state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [4, 0, None])
def test_more_layers_than_there_are_are_refused(layers):
    theirs = originals.text_encoder(190)
    config = {**theirs.config.to_dict(), "architectures": ["CLIPTextModel"], "num_hidden_layers": layers}
    with pytest.raises(
        FormatError, match=f"config.json says num_hidden_layers {layers or '(0|12)'}, the tensors have 3"
    ):
        identify_text(theirs.state_dict(), config)


@pytest.mark.parametrize(("layers", "kept"), [(3, 2), (2, 2), (1, 1)])
def test_the_config_of_a_whole_clip_counts_the_layers_of_the_file(layers, kept):
    theirs = clip_model(
        99, 1024, "gelu", heads=16
    )  # of OpenCLIP, whose last layer Stable Diffusion 2.x does not read
    config = theirs.config.to_dict()
    config["text_config"]["num_hidden_layers"] = layers
    settings, tensors = identify_text(theirs.state_dict(), config)
    assert settings.layers == kept
    assert {int(key.split(".")[2]) for key in tensors if key.startswith("encoder.layers.")} == set(range(kept))


@pytest.mark.parametrize("name", ["embeddings.token_embedding", "embeddings.position_embedding"])
def test_a_clip_with_a_tensor_of_no_dimensions_is_refused(name):
    state = clip_model(99, 128, "quick_gelu").state_dict()
    state[f"text_model.{name}.weight"] = torch.tensor(1.0)
    with pytest.raises(FormatError, match="the text encoder has weights of other shapes than CLIP's"):
        identify_text(state)
