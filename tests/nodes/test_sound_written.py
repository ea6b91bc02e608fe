"""Decode & Write Clip with sound: what the hosts' own audio VAEs decode, at the moment of its frames."""

import importlib
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from vidrd_core.video import read_video
from vidrd_core.video.sound import SoundTrack

from .small_models import small_model, small_vae
from .test_sound import FAMILIES, GIVEN, REUSE

FPS = {"ltxav": 25.0, "h3": 24.0}  # by which the frames of FAMILIES last as long as their audio
FRAMES = {"ltxav": (49, 32), "h3": (39, 34)}  # of a first clip, and new ones of each later clip


def randomised(module):
    """The module with random weights; what the sound is filtered by stays."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            scale = 1 / max(1, tensor[:1].numel()) ** 0.5 if tensor.ndim > 1 else 0.1
            if not name.endswith("filter"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale + ("std" in name))
    return module.eval()


def as_vae(host, inner, channels, dims, steps):
    """A network as the host's VAE, with one of its own VAEs around it."""
    vae = host.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    vae.first_stage_model, vae.latent_channels, vae.latent_dim = inner, channels, dims
    vae.vae_dtype = torch.float32
    vae.process_output = lambda decoded: decoded
    vae.upscale_ratio, vae.memory_used_decode = steps, lambda shape, dtype: 1e6
    management = importlib.import_module("comfy.model_management")
    vae.patcher = importlib.import_module("comfy.model_patcher").ModelPatcher(
        inner, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    return vae


def audio_vae(host, name):
    """The audio VAE of a family, narrow, with random weights, as the host's loader gives it."""
    if name == "h3":
        of_h3 = importlib.import_module("comfy.ldm.minimax.audio_vae").MiniMaxH3AudioVAE(
            4, latent_dim=32, decoder_dim=128
        )
        randomised(of_h3).decoder.conv_post.weight.data *= 0.05  # to the level of sounds
        return as_vae(host, of_h3, 32, 2, 800)
    vocoder = {
        "upsample_initial_channel": 32, "upsample_rates": [6, 5, 2, 2, 2], "output_sample_rate": 24000,
        "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    }  # fmt: skip
    sizes = {
        "double_z": True, "mel_bins": 64, "z_channels": 8, "resolution": 256, "downsample_time": False,
        "in_channels": 2, "out_ch": 2, "ch": 8, "ch_mult": [1, 2, 4], "num_res_blocks": 1, "attn_resolutions": [],
        "dropout": 0.0, "mid_block_add_attention": False, "norm_type": "pixel", "causality_axis": "height",
    }  # fmt: skip
    # The statistics of its latents have 128 numbers at any size.
    stated = {"model": {"params": {"ddconfig": sizes, "sampling_rate": 16000}}}
    metadata = {"config": {"audio_vae": stated, "vocoder": vocoder}}
    kind = importlib.import_module("comfy.ldm.lightricks.vae.audio_vae").AudioVAE
    if hasattr(importlib.import_module("comfy.ldm.lightricks.vae.audio_vae"), "ModelDeviceManager"):
        return randomised(kind({}, metadata))  # before 0.9 this class is what nodes get
    return as_vae(host, randomised(kind(metadata)), 8, 2, 4096)


def video_vae(host, name):
    """The video VAE of a family, likewise."""
    if name == "ltxav":
        return small_vae(host, channels=128, factor=8)
    module = importlib.import_module("comfy.ldm.minimax.vae")
    decoder, patch = module.ViT3DDecoder, pytest.MonkeyPatch()
    patch.setattr(module, "ViT3DDecoder", lambda **more: decoder(num_layers=1, heads=2, dim_head=16, **more))
    inner = module.MiniMaxH3VideoVAE(ch=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1)
    patch.undo()
    return as_vae(host, randomised(inner), 24, 3, (lambda latents: (latents - 2) // 5 * 17 + 5, 16, 16))


@pytest.fixture(scope="module", params=FAMILIES)
def clips(request, host, run):
    """Three clips of picture and sound: the new part of each, the sound of all of it, and the VAEs."""
    nested = pytest.importorskip("comfy.nested_tensor", reason="this host has no latents of video and audio")
    name = request.param
    model, positive, negative, _ = small_model(name)
    latent = {"samples": nested.NestedTensor([torch.zeros(FAMILIES[name][each]) for each in ("video", "audio")])}
    given = {"model": model, "positive": positive, "negative": negative, "latent": latent, **GIVEN, **REUSE}
    state, new, sounds = None, [], []
    for _ in range(3):
        part, whole, state = run("Extend", **given, state=state)
        new.append(part)
        sounds.append(whole["samples"].unbind()[1])
    vaes = {"vae": video_vae(host, name), "audio": audio_vae(host, name)}
    return SimpleNamespace(name=name, given=given, new=new, whole=whole, sounds=sounds, **vaes)


@pytest.fixture(scope="module")
def write(pack, clips):
    """A function that writes the clips as one video."""
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")

    def write(prefix, kind="mp4", fps=FPS, count=3, **changes):
        settings = video.VideoSettings(f"sound/{prefix}", kind, fps[clips.name], 1)
        given, made = {"audio_vae": clips.audio, **changes}, None
        for clip in clips.new[:count]:
            made = video.write_clip(clip, clips.vae, settings, made, {}, **given)
        return made

    return write


@pytest.fixture(scope="module")
def made(write):
    """All clips as an MP4."""
    return write("all")


def stock_sound(clips, latents):
    """The waveform [channels, samples] and its rate, as the host's node decodes audio latents."""
    node = importlib.import_module("comfy_extras.nodes_lt_audio").LTXVAudioVAEDecode
    audio = node.execute({"samples": latents}, clips.audio).args[0]
    return audio["waveform"][0].numpy(), audio["sample_rate"]


def test_each_clips_sound_is_what_the_hosts_node_decodes(clips, made):
    fps = FPS[clips.name]
    first, later = FRAMES[clips.name]
    assert [piece.frames for piece in made.pieces] == (
        [first, later, later] if clips.name == "ltxav" else [first - 5, later, later + 5]
    )
    for k, (piece, latents) in enumerate(zip(made.pieces, clips.sounds, strict=True)):
        waveform, rate = stock_sound(clips, latents)
        assert waveform.std() > 0.01
        assert piece.sound.rate == rate
        again = 5 if k and clips.name == "h3" else 0
        begin = round((first - later - again) * rate / fps) if k else 0
        assert piece.sound.lead == min(begin, round((0.12 + 0.02 * waveform.shape[1] / rate) * rate))
        assert np.array_equal(piece.sound.samples(), waveform[:, begin - piece.sound.lead :].clip(-1, 1))


@pytest.fixture(scope="module")
def loop(clips, run):
    """The same as a loop: the new part of each clip, the whole of the last one, and its state."""
    state, new = None, []
    for k in range(3):
        part, whole, state = run("Extend", **clips.given, state=state, loop="keep" if k < 2 else "close")
        new.append(part)
    return SimpleNamespace(new=new, whole=whole["samples"].unbind(), state=state)


def test_a_loop_has_the_frames_and_the_sound_of_one_decoding(clips, loop):
    """The frames of the latents that close it are those that the first clip begins with, and are not shown."""
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    fps, (first, later) = FPS[clips.name], FRAMES[clips.name]
    closed = {"ltxav": 16, "h3": 5}[clips.name]  # frames of M = 2 latents
    assert loop.state.closed == 2
    made = None
    settings = video.VideoSettings("sound/loop", "png", fps, 1)
    for clip in loop.new:
        made = video.write_clip(clip, clips.vae, settings, made, {})
    whole = torch.cat([*(clip["samples"].unbind()[0] for clip in loop.new), loop.whole[0][:, :, -2:]], 2)
    expected = (clips.vae.decode(whole)[0] * 255).round().numpy()[:-closed]
    shown = read_video(made.path)[0].astype(float)
    assert shown.shape == expected.shape
    assert len(shown) == made.frames == first + 2 * later - closed
    # Nothing is left of what H3's decoder knows of other latents; of LTX-2's, a little beyond 8 latents.
    error = np.abs(shown - expected)
    assert error.max() <= (1 if clips.name == "h3" else 40)
    assert error.mean() < 1

    settings, made = video.VideoSettings("sound/loop", "mp4", fps, 1), None
    for clip in loop.new:
        made = video.write_clip(clip, clips.vae, settings, made, {}, audio_vae=clips.audio)
    last = made.pieces[-1]
    waveform, rate = stock_sound(clips, loop.whole[1])
    begin = round((first - made.pieces[-1].frames - closed) * rate / fps)
    assert np.array_equal(last.sound.samples(), waveform[:, begin - last.sound.lead :].clip(-1, 1))
    assert made.frames == first + 2 * later - closed
    with av.open(str(made.path)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)
    assert abs(sound.shape[1] / rate - made.frames / fps) < 0.05
    assert sound[:, round((made.frames - 1) / fps * rate) : round(made.frames / fps * rate)].std() > 0.01
    # The sound of the new frames alone lasts as long as these.
    parts = loop.new[-1]["samples"].unbind()
    dim = FAMILIES[clips.name]["time"]
    assert abs(parts[1].shape[dim] / FAMILIES[clips.name]["audio"][dim] - (later - closed) / first) < 0.02
    # A new video may follow.
    again = video.write_clip(clips.new[0], clips.vae, settings, made, {}, audio_vae=clips.audio)
    assert again.frames == made.frames + first


def test_no_seam_is_silent(clips, made):
    """LTX-2's sound lasts a little less than its frames: until the next clip's first frame it is the next clip's."""
    if clips.name != "ltxav":
        pytest.skip("H3's sound lasts longer than its frames")
    fps, (first, later) = FPS[clips.name], FRAMES[clips.name]
    track = SoundTrack([(piece.sound, piece.frames) for piece in made.pieces], Fraction(fps))
    samples, rate = np.concatenate(list(track.blocks()), 1), track.rate
    assert samples.shape[1] == round(made.frames * rate / fps)
    for k, (before, latents) in enumerate(zip(clips.sounds[:-1], clips.sounds[1:], strict=True)):
        seam = round((first + k * later) * rate / fps)
        lacks = round(first * rate / fps) - stock_sound(clips, before)[0].shape[1]
        expected, begin = stock_sound(clips, latents)[0].clip(-1, 1), round((first - later) * rate / fps)
        assert lacks > 0.01 * rate
        assert expected[:, begin - lacks : begin].std() > 0.01
        assert np.array_equal(samples[:, seam - lacks : seam + 100], expected[:, begin - lacks : begin + 100])


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_pictures_and_sound_last_as_long(clips, write, made, kind):
    if kind != "mp4":
        made = write(kind, kind)
    first, later = FRAMES[clips.name]
    with av.open(str(made.path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    with av.open(str(made.path)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)
        rate = container.streams.audio[0].rate
    assert len(times) == made.frames == first + 2 * later
    assert abs(sound.shape[1] / rate - len(times) / FPS[clips.name]) < 0.05
    assert sound.std() > 0.01
    components = made.get_components()
    assert components.audio["sample_rate"] == rate
    assert components.audio["waveform"].std() == pytest.approx(sound.std(), rel=0.2)
    assert len(components.images) == len(times)


def test_frames_of_h3_are_those_of_one_decoding(clips, write, host):
    """The last five frames of a clip change with the next one, as its VAE decodes groups that overlap."""
    if clips.name != "h3":
        pytest.skip("of H3's VAE")
    made = write("frames", "png", audio_vae=None)
    whole = torch.cat([clip["samples"].unbind()[0] for clip in clips.new], 2)
    expected = (clips.vae.decode(whole)[0] * 255).round().numpy()
    shown = read_video(made.path)[0].astype(float)
    assert shown.shape == expected.shape == (39 + 2 * 34, 64, 64, 3)
    assert expected.std() > 5
    assert np.abs(shown - expected).max() <= 1
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    alone = video.write_clip(clips.new[1], clips.vae, made.settings, None, {})
    assert np.abs(read_video(alone.path)[0][:-5].astype(float) - expected[39 : 39 + 29]).max() <= 1
    # A clip that reuses nothing begins anew.
    other = video.write_clip(clips.new[0], clips.vae, made.settings, alone, {})
    assert [piece.frames for piece in other.pieces] == [34, 39]
    with pytest.raises(ValueError, match="has 4 latents along time, expected a multiple of 5, or 2 more"):
        video.write_clip({"samples": whole[:, :, :4]}, clips.vae, made.settings, None, {})


def test_pieces_that_were_cleared_keep_their_sound(clips, write, made):
    short, fps = write("cleared", count=2), FPS[clips.name]
    for piece in short.pieces:
        piece.sound.path.unlink()
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    longer = video.write_clip(clips.new[2], clips.vae, short.settings, short, {}, audio_vae=clips.audio)
    assert longer.frames == made.frames
    sounds = []
    for each in (longer, made):
        with av.open(str(each.path)) as container:
            sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1)[0]
            sounds.append(sound[: round((sum(FRAMES[clips.name]) - 8) / fps * container.streams.audio[0].rate)])
    assert np.corrcoef(sounds)[0, 1] > 0.7  # it was encoded once more, as noise, which is what random VAEs make


def test_what_does_not_fit_is_refused(clips, write, run, host):
    other = {"ltxav": 10.0, "h3": 8.0}
    with pytest.raises(ValueError, match=r"sound lasts 1\.\d+ s, its \d+ frames 4\.\d+ s at fps \d+: set fps to 2"):
        write("slow", fps=other)
    with pytest.raises(ValueError, match="wire the VAE that decodes it into audio_vae, or wire the video latent"):
        write("none", audio_vae=None)
    with pytest.raises(ValueError, match="a file of format gif holds no sound: choose mp4 or webm"):
        write("gif", "gif")
    assert write("pictures", "gif", audio_vae=None).frames == FRAMES[clips.name][0] + 2 * FRAMES[clips.name][1]
    with pytest.raises(ValueError, match="audio_vae does not decode this model's audio latents"):
        write("wrong", audio_vae=clips.vae)
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    if clips.name == "ltxav":
        one, settings = write("one", count=1), video.VideoSettings("sound/one", "mp4", FPS[clips.name], 1)
        with pytest.raises(ValueError, match="wire new frames of Reuse & Diffuse Extend, not whole clip"):
            video.write_clip(clips.whole, clips.vae, settings, one, {}, audio_vae=clips.audio)
        assert video.write_clip(clips.whole, clips.vae, settings, None, {}, audio_vae=clips.audio).frames == 49
    alone = {"samples": clips.new[0]["samples"].unbind()[0]}
    settings = video.VideoSettings("sound/alone", "mp4", 24.0, 1)
    with pytest.raises(ValueError, match="audio_vae is wired, but the latent holds no sound"):
        video.write_clip(alone, clips.vae, settings, None, {}, audio_vae=clips.audio)
    both = clips.new[0]["samples"].unbind()
    for latent, vaes, message in (
        (both[1], (clips.vae, None), "wire the model's own VAE, and of separated video and audio the video latent"),
        (both[1], (clips.audio, None), "vae is one that decodes sound: wire the VAE of the pictures"),
        (both[0], (clips.audio, None), "vae is one that decodes sound"),
        (clips.new[0]["samples"], (clips.audio, clips.audio), "vae is one that decodes sound"),
        (both[0], (small_vae(host, channels=16), None), r"VAE decodes \[B, C, F, h, w\] with 16 channels"),
        (clips.new[0]["samples"], (small_vae(host, channels=16), clips.audio), "with 16 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            video.write_clip({"samples": latent}, vaes[0], settings, None, {}, audio_vae=vaes[1])
    if clips.name == "h3":
        with pytest.raises(ValueError, match="wire the model's own empty latent"):
            run("EmptyClip", width=64, height=64, frames=39, vae=clips.vae)


def test_long_video_passes_the_audio_vae_on(run):
    links = {name: [name, 0] for name in ("model", "clip", "vae", "latent")}
    file = {"filename_prefix": "v", "format": "mp4", "fps": 25.0, "scale": 1}
    lists = {f"{name}_per_clip": "" for name in ("seed", "cfg", "alpha")}
    given = {**links, **file, **lists, **GIVEN, **REUSE, "prompts": "a\nb", "negative_prompt": "", "clips": 0}
    for wired in ({}, {"audio_vae": ["audio", 0]}):
        expanded = importlib.import_module("custom_nodes_vidrd.nodes.long_video").LongVideo.execute(**given, **wired)
        written = [node for node in expanded.expand.values() if node["class_type"] == "VidRD_WriteClip"]
        assert [node["inputs"].get("audio_vae") for node in written] == [wired.get("audio_vae")] * 2
