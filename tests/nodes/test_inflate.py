"""Inflate Checkpoint: a Stable Diffusion UNet with temporal layers from another file."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.inflate import save_temporal, with_temporal
from vidrd_core.models.load_parts import build_unet, read_unet, save_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.sampling import DiffusionConfig

from ..conftest import randomise
from .conftest import BUILT_IN

FLAT = UNet3DConfig(
    block_out_channels=(64, 128), attention_levels=(True, False), heads=(1, 2), cross_attention_dim=64,
    layers_per_block=1, temp_conv_depth=0, temp_attention="none",
)  # fmt: skip
VIDEO = dataclasses.replace(FLAT, temp_conv_depth=4, temp_attention="inside")
CHECKPOINT, TEMPORAL = "checkpoints/sd_for_video.safetensors", "layers.safetensors"


@pytest.fixture(scope="module")
def put(host):
    """A function that writes a file into one of ComfyUI's model folders and returns its path."""
    models = Path(host.folder_paths.models_dir)

    def put(place, write):
        path = models / place
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        host.folder_paths.filename_list_cache.clear()
        return path

    return put


@pytest.fixture(scope="module")
def files(put):
    """A Stable Diffusion checkpoint in LDM's names, and temporal layers for it, with random weights."""
    flat, video = randomise(UNet3D(FLAT)), randomise(UNet3D(VIDEO), seed=1)
    theirs = {f"model.diffusion_model.{k}": t for k, t in write_unet(FLAT, flat.state_dict(), "LDM").items()}
    tensors = {key: tensor.contiguous() for key, tensor in theirs.items()}
    image = put(CHECKPOINT, lambda path: save_file(tensors, path))
    layers = put(f"diffusion_models/{TEMPORAL}", lambda path: save_temporal(video, path))
    return image, layers


@pytest.fixture
def inflate(run):
    def inflate(file, temporal, weight_dtype="default"):
        return run("InflateCheckpoint", file=file, temporal=temporal, weight_dtype=weight_dtype)[0]

    return inflate


def inputs(frames=3):
    generator = torch.manual_seed(0)
    x, text = torch.randn(1, 4, frames, 8, 8, generator=generator), torch.randn(1, 7, 64, generator=generator)
    return x, torch.tensor([501]), text


def clip_of(host, model, prompt, steps=2, frames=3):
    latent = {"samples": torch.zeros(1, 4, frames, 8, 8)}
    given = (model, 7, steps, 2.5, "euler", "normal", prompt, prompt, latent, 1.0)
    return host.nodes.KSampler().sample(*given)[0]["samples"]


def test_outputs_equal_those_of_vidrd_core(host, inflate, files):
    model = inflate(CHECKPOINT, TEMPORAL)
    image, layers = files
    tensors, config, _ = read_unet(image)
    core = build_unet(*with_temporal(tensors, config, layers), image)
    assert core.config == VIDEO
    x, t, text = inputs()
    ours = model.model.diffusion_model(x, t, text)
    torch.testing.assert_close(ours, core(x, t, text), rtol=1e-4, atol=1e-4)
    assert (ours - inflate(CHECKPOINT, "none").model.diffusion_model(x, t, text)).abs().max() > 0.1
    clip = clip_of(host, model, [[text, {}]])
    assert clip.shape == (1, 4, 3, 8, 8)
    assert clip.isfinite().all()


def test_without_temporal_layers_frames_are_independent(inflate, files, put):
    """For the image model, and for a video model with these spatial layers."""
    tensors, config, _ = read_unet(files[0])
    whole, config = with_temporal(tensors, config, files[1])
    put(
        "diffusion_models/video.safetensors",
        lambda path: save_unet(build_unet(whole, config, path), DiffusionConfig(), path),
    )
    x, t, text = inputs()
    for file in (CHECKPOINT, "video.safetensors"):
        unet = inflate(file, "none").model.diffusion_model
        together = unet(x, t, text)
        for j in range(3):
            torch.testing.assert_close(together[:, :, [j]], unet(x[:, :, [j]], t, text), rtol=1e-4, atol=1e-4)


def test_temporal_layers_of_a_video_model_are_replaced(inflate, files, put):
    other = randomise(UNet3D(VIDEO), seed=2)
    put("diffusion_models/other.safetensors", lambda path: save_unet(other, DiffusionConfig(), path))
    x, t, text = inputs()
    back = inflate("other.safetensors", "other.safetensors").model.diffusion_model(x, t, text)
    torch.testing.assert_close(back, other.eval()(x, t, text), rtol=1e-4, atol=1e-4)
    assert (back - inflate("other.safetensors", TEMPORAL).model.diffusion_model(x, t, text)).abs().max() > 0.1


def test_the_built_in_model_inflated_with_its_own_layers_is_unchanged(host, inflate, tiny):
    model = inflate(BUILT_IN, BUILT_IN)
    assert model.model.signature == tiny.model.model.signature
    given = (7, 4, 2.5, "euler", "normal", tiny.positive[0], tiny.negative, tiny.latent, 1.0)
    clips = [host.nodes.KSampler().sample(each, *given)[0]["samples"] for each in (model, tiny.model)]
    assert torch.equal(*clips)
    assert model.model.latent_format.preview_layers is not None  # the same previews, too


def test_weights_can_be_fp8(inflate, files):
    model = inflate(CHECKPOINT, TEMPORAL, "fp8_e4m3fn")
    unet = model.model.diffusion_model
    assert unet.conv_in.weight.dtype.itemsize == 1
    assert unet.down_blocks[0].temp_convs[0].conv1[2].weight.dtype.itemsize == 1


def test_temporal_layers_of_another_model_are_refused_by_name(inflate, files, put):
    wide = randomise(UNet3D(dataclasses.replace(VIDEO, block_out_channels=(64, 64), heads=(1, 1))))
    put("diffusion_models/wide.safetensors", lambda path: save_temporal(wide, path))
    with pytest.raises(ValueError, match=r"wide\.safetensors is for another UNet, of other widths, depth or heads"):
        inflate(CHECKPOINT, "wide.safetensors")
    with pytest.raises(ValueError, match=r"unet\.safetensors is for another UNet"):
        inflate(CHECKPOINT, BUILT_IN)


def test_files_of_another_kind_are_refused(inflate, run, files, put):
    put("checkpoints/lora_alone.safetensors", lambda path: save_file({"a.lora_down.weight": torch.zeros(1)}, path))
    with pytest.raises(ValueError, match=r"sd_for_video\.safetensors has no temporal layers: it holds a UNet"):
        inflate(CHECKPOINT, CHECKPOINT)
    with pytest.raises(ValueError, match=r"lora_alone\.safetensors holds a LoRA, expected a UNet"):
        inflate("checkpoints/lora_alone.safetensors", TEMPORAL)
    with pytest.raises(ValueError, match=r"lora_alone\.safetensors holds a LoRA, expected a UNet"):
        inflate(CHECKPOINT, "checkpoints/lora_alone.safetensors")
    for node, given in (("InflateCheckpoint", {"temporal": "none"}), ("LoadUNet3D", {})):
        with pytest.raises(ValueError, match="holds temporal layers alone, which go on an image model"):
            run(node, file=TEMPORAL, weight_dtype="default", **given)


def test_unknown_choices_are_refused_before_a_run(pack, files):
    node = pack["VidRD_InflateCheckpoint"]
    assert node.validate_inputs(file=CHECKPOINT, temporal=TEMPORAL, weight_dtype="default") is True
    assert node.validate_inputs(file=CHECKPOINT, temporal="none") is True
    assert node.validate_inputs(file=CHECKPOINT, temporal=None) is True  # wired
    message = node.validate_inputs(file=CHECKPOINT, temporal="gone.safetensors", weight_dtype="default")
    assert message.startswith("temporal is 'gone.safetensors', expected one of tiny (built in), none")


def test_a_changed_file_is_read_again(pack, files):
    node = pack["VidRD_InflateCheckpoint"]

    def version(temporal):
        return node.fingerprint_inputs(file=CHECKPOINT, temporal=temporal, weight_dtype="default")

    assert version(TEMPORAL) == version(TEMPORAL) != version("none") != version(BUILT_IN)
    for path in files:
        before, now = version(TEMPORAL), path.stat().st_mtime_ns + 10**9
        os.utime(path, ns=(now, now))
        assert version(TEMPORAL) != before


def test_the_model_can_be_copied_to_another_gpu(inflate, files):
    model = inflate(CHECKPOINT, TEMPORAL)
    make, given = model.cached_patcher_init
    again = make(*given)
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
