"""Networks from files and folders: small ones with random weights in the formats that users have."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from vidrd_core.io.safetensors import FormatError
from vidrd_core.metrics.clip_features import CLIPFeatures
from vidrd_core.metrics.consistency import clipsim, frame_consistency
from vidrd_core.metrics.feature_extractors import load_classifier, load_feature_extractor

from .test_seams import moving, still


def videos(count=3, frames=10, size=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, frames, size, size, 3), dtype=np.uint8)


class I3D(nn.Module):
    """Has the signature of the I3D that StyleGAN-V distributes."""

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert rescale and resize and return_features  # noqa: PT018
        return (x / 255).mean(dim=[3, 4]).flatten(1)


class Classes(nn.Module):
    def __init__(self, softmax: bool):
        super().__init__()
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = x.mean(dim=[2, 3, 4]) / 10
        return logits.softmax(1) if self.softmax else logits


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3, 4])


def saved(module, path):
    torch.jit.script(module).save(path)
    return path


def test_i3d_gets_pixel_values_and_resizes_and_scales_them(tmp_path):
    i3d = load_feature_extractor(f"i3d:{saved(I3D(), tmp_path / 'i3d.pt')}")
    assert i3d.name == "i3d:i3d.pt"
    given = videos()
    expected = given.astype(float).mean((2, 3)).transpose(0, 2, 1).reshape(3, -1) / 255
    np.testing.assert_allclose(i3d(given), expected, atol=1e-6)
    with pytest.raises(ValueError, match="videos have 8 frames, I3D takes 10 or more: give longer ones"):
        i3d(videos(frames=8))


IN_PYTHON = """
def levels():
    return lambda videos: videos.mean(dim=[2, 3, 4])
"""


def test_any_module_in_torchscript_or_python(tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text(IN_PYTHON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    given = videos()
    expected = given.mean((1, 2, 3)) / 255
    for named in (f"script:{saved(Mean(), tmp_path / 'mean.pt')}", "python:my_features:levels"):
        np.testing.assert_allclose(load_feature_extractor(named)(given), expected, atol=1e-6)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_classifiers_logits_or_probabilities_become_probabilities(tmp_path, softmax):
    probabilities = load_classifier(saved(Classes(softmax), tmp_path / "c3d.pt"))
    given = videos(frames=16)
    logits = given.mean((1, 2, 3)) / 10
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(given), expected, rtol=1e-3)
    with pytest.raises(ValueError, match="videos have 10 frames, C3D takes 16"):
        probabilities(videos())


def videomae(folder):
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    VideoMAEModel(config).save_pretrained(folder)
    return folder


def test_videomae_from_a_folder(tmp_path):
    from transformers import VideoMAEModel

    mae = load_feature_extractor(f"videomae:{videomae(tmp_path / 'mae')}")
    given = videos(frames=4, size=32)
    pixels = torch.from_numpy(given).permute(0, 1, 4, 2, 3).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        tokens = VideoMAEModel.from_pretrained(tmp_path / "mae").eval()((pixels - mean) / std).last_hidden_state
    np.testing.assert_allclose(mae(given), tokens.mean(1).numpy(), atol=1e-5)
    assert mae(videos(frames=4, size=50)).shape == (3, 16)  # other sizes are made to fit
    with pytest.raises(ValueError, match="videos have 10 frames, this VideoMAE takes 4: cut them to as many"):
        mae(videos())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP folder, as transformers writes it."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder, model_max_length=16).save_pretrained(folder)
    torch.manual_seed(0)
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(
        CLIPConfig(
            text_config={**shared, **ends, "vocab_size": len(tokens), "max_position_embeddings": 16},
            vision_config={**shared, "image_size": 32, "patch_size": 8},
            projection_dim=8,
        )
    ).save_pretrained(folder)
    return folder


def test_clip_from_a_folder(clip):
    from transformers import CLIPModel, CLIPTokenizer

    ours, video = CLIPFeatures(clip), moving(3)
    assert ours.frames(video).shape == (3, 8)
    theirs, tokens = (
        CLIPModel.from_pretrained(clip),
        CLIPTokenizer.from_pretrained(clip)(["a cat"], return_tensors="pt"),
    )
    with torch.inference_mode():
        text = theirs.text_projection(theirs.text_model(**tokens).pooler_output)
    np.testing.assert_allclose(ours.texts(["a cat"]), text.numpy(), atol=1e-6)
    assert ours.texts(["a cat " * 30, "dog"]).shape == (2, 8)  # what is too long is cut
    assert -1 <= clipsim(video, "a cat", ours.frames, ours.texts) <= 1
    assert frame_consistency(still(3), ours.frames) == pytest.approx(1)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("i3d", "the network is 'i3d', expected i3d:FILE, videomae:FOLDER, script:FILE or python:MODULE:NAME"),
        ("resnet:x", "the network is 'resnet:x', expected i3d:FILE"),
        ("python:nowhere.at.all:Net", "there is no 'Net' in the module 'nowhere.at.all'"),
        ("python:torch:Net", "there is no 'Net' in the module 'torch'"),
    ],
)
def test_unknown_networks_are_refused(named, message):
    with pytest.raises(ValueError, match=message):
        load_feature_extractor(named)


def test_missing_and_damaged_files_are_refused(tmp_path, clip):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_feature_extractor(f"i3d:{tmp_path / 'no.pt'}")
    (tmp_path / "bad.pt").write_text("hello")
    with pytest.raises(FormatError, match="is no torchscript module"):
        load_feature_extractor(f"script:{tmp_path / 'bad.pt'}")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_feature_extractor(f"videomae:{tmp_path / 'no'}")
    with pytest.raises(FormatError, match="is a clip of transformers, expected a videomae"):
        load_feature_extractor(f"videomae:{clip}")
    with pytest.raises(FormatError, match="cannot be loaded by transformers"):
        CLIPFeatures(tmp_path)


def test_arrays_that_are_no_videos_are_refused(tmp_path):
    mean = load_feature_extractor(f"script:{saved(Mean(), tmp_path / 'mean.pt')}")
    with pytest.raises(ValueError, match=r"expected videos uint8 \[B, F, H, W, 3\], got float64"):
        mean(videos().astype(float))
