"""Writing videos clip by clip: any VAE, any file name, files that were deleted or are open elsewhere."""

import importlib
import shutil

import numpy as np
import pytest

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.load_parts import save_vae
from vidrd_core.models.vae import TemporalVAE

from ..conftest import randomise
from .graphs import frames_of
from .small_models import image_vae


@pytest.fixture
def write(pack):
    """A function that writes latents clip by clip as PNG frames and returns the frames."""
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")

    def write(prefix, vae, clips):
        made = None
        for clip in clips:
            made = video.write_clip({"samples": clip}, vae, video.VideoSettings(prefix, "png", 8.0, 1), made, {})
        return frames_of(made.path)

    return write


@pytest.mark.parametrize("batched", [True, False])
def test_an_image_vae_decodes_frame_by_frame(host, write, batched):
    """A stock VAE, with frames in the batch dimension as for AnimateDiff, [F, C, h, w], or in one of their own."""
    torch = importlib.import_module("torch")
    vae = image_vae(host)
    clips = torch.randn(2, 5, 4, 8, 8, generator=torch.manual_seed(0))
    shown = write("taesd/v", vae, clips if batched else clips.movedim(2, 1)[:, None])
    expected = host.nodes.VAEDecode().decode(vae, {"samples": clips.flatten(0, 1)})[0]
    assert np.abs(shown - (expected * 255).round().numpy()).max() <= 1


def test_a_vae_that_compresses_time_decodes_all_frames(write):
    """Wan's VAE with random weights: the first latent of a video decodes to one frame, each other one to four."""
    torch = importlib.import_module("torch")
    wan = importlib.import_module("comfy.ldm.wan.vae")
    torch.manual_seed(0)
    sizes = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1, "attn_scales": []}
    inner = wan.WanVAE(**sizes, temperal_downsample=[False, True, True], dropout=0.0).eval()
    for tensor in inner.parameters():
        torch.nn.init.normal_(tensor, 1.0 if tensor.shape[0] == tensor.numel() else 0.0, 0.1)

    class VAE:
        latent_dim, first_stage_model = 3, inner

        def decode(self, samples):
            return (inner.decode(samples).movedim(1, -1) / 2 + 0.5).clamp(0, 1)

        def temporal_compression_decode(self):
            return 4

    latents = torch.randn(1, 16, 12, 4, 4, generator=torch.manual_seed(1))
    expected = (VAE().decode(latents)[0] * 255).round().numpy()
    shown = write("wan/v", VAE(), latents.split([5, 4, 3], dim=2))
    assert len(shown) == len(expected) == 1 + 11 * 4
    assert np.abs(shown - expected).mean() < 2  # of 255: it looks back without end, ever more weakly


def test_vaes_whose_norms_span_frames_decode_clips_with_context(host, write, pack, tmp_path):
    """SVD's decoder, with random weights."""
    torch = importlib.import_module("torch")
    settings = {"block_out_channels": (8, 16), "norm_groups": 4, "latents_std": (1.0,)}
    config = VAEConfig(decoder="svd", temp_conv_depth=0, post_quant_conv=False, **settings)
    save_vae(randomise(TemporalVAE(config)), tmp_path / "svd.safetensors")
    vae = importlib.import_module("custom_nodes_vidrd.nodes.host.vae").load_vae(tmp_path / "svd.safetensors")
    whole = torch.randn(1, 4, 24, 8, 8, generator=torch.manual_seed(0)) / 0.18215
    expected = (vae.first_stage_model.vae.decode(whole * 0.18215)[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1) * 255
    shown = write("svd/v", vae, whole.split([8, 4, 12], dim=2))
    assert shown.shape == expected.shape == (24, 16, 16, 3)
    assert np.abs(shown - expected.numpy()).mean() < 1  # of 255
    save_vae(TemporalVAE(VAEConfig(temp_conv_depth=3, **settings)), tmp_path / "own.safetensors")
    own = importlib.import_module("custom_nodes_vidrd.nodes.host.vae").load_vae(tmp_path / "own.safetensors")
    asked = [each.memory_used_decode((1, 4, 60, 8, 8), torch.float32) for each in (vae, own)]
    assert asked[0] > 1.2 * asked[1]  # windows of 16 frames; chunks of 8, and what is kept of those before


def test_files_are_never_overwritten(write, tiny, output):
    torch = importlib.import_module("torch")
    names = {"": "video", "twice/": "twice/video", "twice/.dotted": "twice/.dotted", "v1.2": "v1.2"}
    for prefix, name in names.items():
        for number in (1, 2):
            clip = torch.randn(1, 4, 5 - number, 16, 16, generator=torch.manual_seed(number))
            assert len(write(prefix, tiny.vae, [clip])) == 5 - number
        assert [len(list((output / f"{name}_0000{k}_").iterdir())) for k in (1, 2)] == [4, 3]


def test_an_upscaled_clip_is_written(host, write, tiny, output):
    torch = importlib.import_module("torch")
    clips = importlib.import_module("custom_nodes_vidrd.nodes.host.sample_clip")
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    settings = video.VideoSettings("large/v", "png", 8.0, 1)
    for past in (0, 3):
        latent = {"samples": torch.zeros(1, 4, 4, 32, 32), clips.PAST_KEY: torch.zeros(1, 4, past, 16, 16)}
        assert video.write_clip(latent, tiny.vae, settings, None, {}).size == (128, 128)


def test_cleared_pieces_are_replaced_by_the_file(tiny, output):
    torch = importlib.import_module("torch")
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    clip = {"samples": torch.randn(1, 4, 6, 16, 16, generator=torch.manual_seed(0))}
    for kind in ("mp4", "png"):
        settings = video.VideoSettings(f"cleared_{kind}/v", kind, 8.0, 1)
        first = video.write_clip(clip, tiny.vae, settings, None, {})
        kept = frames_of(video.write_clip(clip, tiny.vae, settings, first, {}).path)
        again = video.write_clip(clip, tiny.vae, settings, None, {})
        piece = again.pieces[0].path
        shutil.rmtree(piece) if piece.is_dir() else piece.unlink()
        assert np.array_equal(frames_of(video.write_clip(clip, tiny.vae, settings, again, {}).path), kept)
        with pytest.raises(FileNotFoundError, match=r"cleared from .*: change filename_prefix"):
            video.write_clip(clip, tiny.vae, settings, again, {})


def test_a_file_that_cannot_be_replaced_gets_a_successor(tiny, output, monkeypatch):
    """As on Windows while a player has it open."""
    torch = importlib.import_module("torch")
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    clip = {"samples": torch.zeros(1, 4, 6, 16, 16)}
    settings = video.VideoSettings("locked/v", "mp4", 8.0, 1)
    first = video.write_clip(clip, tiny.vae, settings, None, {})
    join = video.join_videos

    def locked(pieces, target, *given):
        if target == first.path:
            raise PermissionError(13, "open elsewhere")
        join(pieces, target, *given)

    monkeypatch.setattr(video, "join_videos", locked)
    second = video.write_clip(clip, tiny.vae, settings, first, {})
    assert (second.path.name, second.frames, len(frames_of(second.path))) == ("v_00002_.mp4", 12, 12)
