"""Models that sample video and audio together: both are reused, and stay aligned."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from vidrd_core.presets import ReuseChoice
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState, StateMismatchError

from .families import pooled_vae
from .small_models import small_model, small_vae

STEPS = 5
GIVEN = {"seed": 3, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
REUSE = {"prompt_frames": 2, "alpha": 2.0, "beta": 0.4, "order": "auto"}
# Shapes of video and audio; the dimension of audio's time; how many first latents of a later clip are a warm-up, and
# how many replay, of video and of audio. LTX-2: 7 latents are 49 frames, as many audio latents are given, and a
# warm-up and two prompt latents are 17. H3: 12 latents are 39 frames and 65 audio latents, two prompt latents are 5.
FAMILIES = {
    "ltxav": {
        "video": (1, 128, 7, 3, 3), "audio": (1, 8, 49, 16), "time": 2, "warmup": (1, 1), "replayed": (2, 16),
    },
    "h3": {"video": (1, 24, 12, 4, 4), "audio": (1, 32, 2, 65), "time": 3, "warmup": (0, 0), "replayed": (2, 8)},
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return SimpleNamespace(name=request.param, **FAMILIES[request.param])


@pytest.fixture(scope="module")
def clip(host, family):
    nested = pytest.importorskip("comfy.nested_tensor", reason="this host has no latents of video and audio")
    model, positive, negative, _ = small_model(family.name)
    parts = [torch.zeros(family.video), torch.zeros(family.audio)]
    return {
        "model": model, "positive": positive, "negative": negative,
        "latent": {"samples": nested.NestedTensor(parts)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def extend(run, clip):
    return lambda state=None, **changes: run("Extend", **{**clip, **GIVEN, **REUSE, **changes}, state=state)


def stock(host, clip, noise, sampler="euler"):
    """The same clip by ComfyUI alone."""
    samplers = importlib.import_module("comfy.samplers")
    guider = samplers.CFGGuider(clip["model"])
    guider.set_conds(clip["positive"], clip["negative"])
    guider.set_cfg(1.0)
    sigmas = samplers.calculate_sigmas(clip["model"].get_model_object("model_sampling"), "simple", STEPS)
    return guider.sample(noise, clip["latent"]["samples"], samplers.sampler_object(sampler), sigmas, seed=3)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_without_reuse_clips_are_the_stock_samplers(host, clip, extend, sampler, family):
    nested, state = importlib.import_module("comfy.nested_tensor"), None
    for _ in range(2):
        _, whole, state = extend(state, sampler_name=sampler, prompt_frames=0, alpha=0.0)
        noise = nested.NestedTensor([state.noise, state.sound_noise[..., 0].movedim(2, family.time)])
        expected = stock(host, clip, noise, sampler)
        for ours, theirs in zip(whole["samples"].unbind(), expected.unbind(), strict=True):
            assert theirs.std() > 0.01
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("sampler", ["euler", "heun", "euler_ancestral", "dpmpp_2m_sde"])
def test_video_and_audio_are_continued_together(extend, sampler, family):
    new, whole, state = extend(sampler_name=sampler)
    assert [tuple(part.shape) for part in new["samples"].unbind()] == [family.video, family.audio]
    for _ in range(3):
        new, whole, following = extend(state, sampler_name=sampler)
        for first, m, now, then, scale in zip(
            family.warmup,
            family.replayed,
            (following.latents, following.sound_latents),
            (state.latents, state.sound_latents),
            (1, 4 if family.name == "h3" else 1),  # H3's sampler carries sound at four times its scale
            strict=True,
        ):
            assert torch.allclose(now[:, :, first : first + m], then[:, :, -m:], atol=1e-4 * scale)
            assert not torch.allclose(now[:, :, first + m : first + 2 * m], then[:, :, -m:], atol=0.1)
        first, m = family.warmup[1], family.replayed[1]
        assert torch.equal(following.sound_noise[:, :, first : first + m], state.sound_noise[:, :, -m:])
        assert 0.8 < following.sound_noise.std() < 1.2
        video, sound = whole["samples"].unbind()
        shown = [first + m for first, m in zip(family.warmup, family.replayed, strict=True)]
        parts = new["samples"].unbind()
        assert torch.equal(parts[0], video[:, :, shown[0] :])
        assert torch.equal(parts[1], sound.narrow(family.time, shown[1], sound.shape[family.time] - shown[1]))
        state = following


@pytest.mark.parametrize("audio", range(40, 60))
def test_half_a_clip_of_sound_is_replayed_at_any_length(clip, extend, audio, family):
    """Rounding never leaves the record of the sound shorter than what the next clip replays."""
    if family.name != "ltxav":
        pytest.skip("half a clip is no number of latents that it may replay")
    nested = importlib.import_module("comfy.nested_tensor")
    latent = {"samples": nested.NestedTensor([torch.zeros(1, 128, 8, 3, 3), torch.zeros(1, 8, audio, 16)])}
    state = extend(prompt_frames=4, latent=latent, steps=2)[2]
    following = extend(state, prompt_frames=4, latent=latent, steps=2)[2]
    assert torch.allclose(following.latents[:, :, 1:5], state.latents[:, :, 4:], atol=1e-4)
    first = round(audio / 57)
    replayed = round(audio * 33 / 57) - first
    assert torch.allclose(
        following.sound_latents[:, :, first : first + replayed], state.sound_latents[:, :, -replayed:], atol=1e-4
    )


def test_resume_is_exact_and_states_stop_growing(extend, tmp_path):
    state, sizes = extend()[2], []
    for _ in range(3):
        state = extend(state)[2]
        sizes.append(state.get_ram_usage())
    assert sizes[2] - sizes[1] <= state.shown.nbytes
    state.save(tmp_path / "state.safetensors")
    loaded = ClipState.load(tmp_path / "state.safetensors")
    for ours, theirs in zip(extend(loaded)[1]["samples"].unbind(), extend(state)[1]["samples"].unbind(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("loop", [False, True])
def test_custom_sampling_gives_the_same_clip_as_extend(run, clip, extend, loop):
    samplers, custom = (
        importlib.import_module(each) for each in ("comfy.samplers", "comfy_extras.nodes_custom_sampler")
    )
    sigmas = samplers.calculate_sigmas(clip["model"].get_model_object("model_sampling"), "simple", STEPS)
    state = None
    for k in range(3):
        reuse = {**REUSE, "preset": "for this model", "loop": "close" if k == 2 else "keep"} if loop else REUSE
        how = {name: value for name, value in reuse.items() if name != "beta"}
        (noise,) = run("Noise", seed=3, **how, state=state)
        (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **reuse, state=state)
        guider = samplers.CFGGuider(clip["model"])
        guider.set_conds(clip["positive"], clip["negative"])
        guider.set_cfg(1.0)
        make = custom.SamplerCustomAdvanced
        make = make.execute if hasattr(make, "execute") else make().sample
        out = make(noise, guider, guided, sigmas, clip["latent"])[0]
        new, following = run("CollectState", sampler=guided, latent=out)
        expected = extend(state, **reuse)
        assert following.closed == (2 if loop and k == 2 else 0)
        for ours, theirs in zip(new["samples"].unbind(), expected[0]["samples"].unbind(), strict=True):
            assert torch.equal(ours, theirs)
        state = following


def test_a_prompt_fades_in_over_picture_and_sound(clip, extend, family):
    """As core does it: the old and the new prompt's predictions are mixed."""
    state = extend()[2]
    plain, itself, faded = (
        extend(state, **given)[1]["samples"].unbind()
        for given in ({}, {"positive_before": clip["positive"]}, {"positive_before": clip["negative"]})
    )
    for one, other in zip(plain, itself, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
    for one, other in zip(plain, faded, strict=True):
        assert (other - one).abs().max() > 1e-3
    # A first clip follows nothing.
    first = extend(positive_before=clip["negative"])[2]
    assert torch.equal(first.latents, state.latents)


def test_predictions_are_mixed_as_the_hosts_masks_mix_them(host, run):
    """For video alone, which masks fit."""
    model, positive, negative, latent = small_model("wan")
    sample_clip = importlib.import_module("custom_nodes_vidrd.nodes.host.sample_clip")
    samplers = importlib.import_module("comfy.samplers")
    shares, shape = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1], tuple(latent["samples"].shape)
    masked = samplers.CFGGuider(model)
    masked.set_conds(sample_clip.fade_conditioning(negative, positive, shares, shape), negative)
    mixed = sample_clip.FadingGuider(model, torch.tensor(shares).view(1, 1, -1, 1, 1))
    mixed.inner_set_conds({"positive": positive, "negative": negative, "before": negative})
    sigmas = samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    noise, made = torch.randn(shape, generator=torch.Generator().manual_seed(4)), []
    for guider in (masked, mixed):
        guider.set_cfg(2.5)
        made.append(guider.sample(noise, latent["samples"], samplers.sampler_object("euler"), sigmas, seed=3))
    torch.testing.assert_close(*made, rtol=1e-3, atol=1e-4)
    assert made[0].std() > 0.01


def test_the_shares_of_packed_latents(pack, family):
    sample_clip = importlib.import_module("custom_nodes_vidrd.nodes.host.sample_clip")
    audio_video = importlib.import_module("custom_nodes_vidrd.nodes.host.audio_video")
    timing = audio_video.LatentTiming(8) if family.name == "ltxav" else audio_video.LatentTiming(4, 5, 3)
    settings = ReuseSettings(2, order="forward", warmup_latents=family.warmup[0])
    video, audio = torch.zeros(family.video), torch.zeros(family.audio)
    begins = family.warmup[0] + 2
    frames = [0.0] * begins + [1 / 3, 2 / 3] + [1.0] * (video.shape[2] - begins - 2)
    packed = sample_clip._packed_shares(frames, [video, audio], settings, 0, timing)
    assert packed.shape == (1, 1, video.numel() + audio.numel())
    parts = packed[..., : video.numel()].view(video.shape), packed[..., video.numel() :].view(audio.shape)
    assert parts[0][0, 0, :, 0, 0].tolist() == pytest.approx(frames)
    first, m = family.warmup[1], family.replayed[1]
    of_audio = parts[1].movedim(family.time, -1)[0, 0, 0]
    assert torch.equal(parts[1].movedim(family.time, -1), of_audio.expand(parts[1].movedim(family.time, -1).shape))
    expected = [min(1, max(0, j - first - m + 1) / (m + 1)) for j in range(len(of_audio))]
    assert of_audio.tolist() == pytest.approx(expected)


def test_audio_of_another_shape_is_refused(clip, extend, host, family):
    nested = importlib.import_module("comfy.nested_tensor")
    state, (video, audio) = extend()[2], clip["latent"]["samples"].unbind()
    shorter = {"samples": nested.NestedTensor([video, audio.narrow(family.time, 0, 40)])}
    alone = (
        "the latent holds video alone" if family.name == "h3" else "state is of a clip with audio, this latent has"
    )
    for latent, message in (
        (shorter, "wire the latent that the previous clip was made from"),
        ({"samples": video}, alone),
    ):
        with pytest.raises(ValueError, match=message):
            extend(state, latent=latent)
    single = {"samples": nested.NestedTensor([video, audio.narrow(family.time, 0, 1)])}
    with pytest.raises(ValueError, match="has audio of 1 latent along time, expected 2 or more"):
        extend(latent=single)
    for count in (2, 3):
        few = {"samples": nested.NestedTensor([video, audio.narrow(family.time, 0, count)])}
        assert extend(extend(latent=few)[2], latent=few)[2].sound_latents.shape[2] == count
    three = {"samples": nested.NestedTensor([video, audio, video])}
    with pytest.raises(ValueError, match="expected video alone, or video and audio"):
        extend(latent=three)


def test_frames_of_latents_that_repeat_in_cycles(pack):
    """As the VAE of MiniMax H3 has it: 1, 4, 4, 4 and 4 frames in turn."""
    timing = importlib.import_module("custom_nodes_vidrd.nodes.host.audio_video").LatentTiming(4, 5, 3)
    each = [1, 4, 4, 4, 4] * 4
    assert [timing.frames(count) for count in range(20)] == [sum(each[:count]) for count in range(20)]


@pytest.mark.parametrize(
    ("frames", "asked", "given"), [(12, 4, 2), (12, 7, 7), (12, 8, 7), (12, 1, 2), (12, 0, 0), (37, 9, 7), (10, 4, 5)]
)
def test_prompt_frames_keep_their_place_in_the_cycle(frames, asked, given):
    settings = ReuseChoice(ReuseSettings(asked), auto=True).resolve(frames, compresses=True, cycle=5)
    assert (settings.prompt_frames, settings.warmup_latents, settings.order) == (given, 0, "forward")
    assert given == 0 or (frames - given) % 5 == 0


def test_parts_of_a_first_clip_of_the_hosts_own_empty_latent(run, clip, family, host):
    if family.name != "h3":
        pytest.skip("its latents are made by hand")
    nodes = importlib.import_module("comfy_extras.nodes_minimax_h3")
    (latent,) = nodes.EmptyMiniMaxH3LatentAV.execute(64, 64, 39).args
    assert [tuple(part.shape) for part in latent["samples"].unbind()] == [family.video, family.audio]
    (noise,) = run("Noise", seed=3, **{name: value for name, value in REUSE.items() if name != "beta"})
    assert [tuple(part.shape) for part in noise.generate_noise(latent).unbind()] == [family.video, family.audio]


def test_the_audio_timeline(pack):
    audio_video = importlib.import_module("custom_nodes_vidrd.nodes.host.audio_video")
    timing, timeline = audio_video.LatentTiming(8), audio_video.AudioTimeline
    forward = ReuseSettings(2, order="forward", warmup_latents=1)
    for audio_latents, warmup, replayed in ((49, 1, 16), (25, 1, 8), (98, 2, 32), (50, 1, 16)):
        settings = timeline(7, audio_latents, timing).reuse_settings(forward)
        assert (settings.warmup_latents, settings.prompt_frames, settings.loop) == (warmup, replayed, "none")
    assert timeline(7, 49, timing).recorded_latents(3) == 24
    assert timeline(7, 49, timing).reuse_settings(ReuseSettings(0, order="forward")).repeated_frames == 0


def test_footage_has_no_audio_to_continue(run, clip, extend, family, host):
    if family.name != "ltxav":
        pytest.skip("which takes video alone, too")
    vae = pooled_vae(host, 128, 8, 32)
    given = {"model": clip["model"], "positive": clip["positive"], "vae": vae, "images": torch.rand(49, 96, 96, 3)}
    given |= {"frames": 49, "steps": STEPS, "seed": 0, "method": "noise", "sampler_name": "euler"}
    state = run("StateFromVideo", **given, scheduler="simple")[0]
    with pytest.raises(StateMismatchError, match=r"the state is of footage.*: wire the video latent alone"):
        extend(state)
    video = {"samples": torch.zeros(family.video)}
    following = extend(state, latent=video)[2]
    assert torch.allclose(following.latents[:, :, 1:3], state.latents[:, :, -2:], atol=1e-4)


def test_what_cannot_be_done_with_h3_is_refused(run, clip, family, host):
    if family.name != "h3":
        pytest.skip("of H3 alone")
    vae = small_vae(host, channels=24)
    given = {"vae": vae, "images": torch.rand(5, 32, 32, 3), "frames": 5, "steps": 2, "seed": 0, "method": "noise"}
    given |= {"model": clip["model"], "positive": clip["positive"], "sampler_name": "euler", "scheduler": "simple"}
    with pytest.raises(ValueError, match="footage has no latents of audio"):
        run("StateFromVideo", **given)
