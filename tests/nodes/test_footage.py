"""State From Video in a real ComfyUI: the next clip begins with the footage itself, under any sampler."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vidrd_core.procedural import describe, evaluation_scenes, render

from .small_models import image_vae, small_model, small_vae

FRAMES = 8


SCENE = next(iter(evaluation_scenes(1, 3, 1)))


@pytest.fixture(scope="module")
def images():
    video = render(SCENE, FRAMES, 64)
    return torch.from_numpy(np.concatenate([video[:3], video])).float() / 255


@pytest.fixture(scope="module")
def begin(run, tiny):
    def begin(images, method="inversion", sampler="euler", **changes):
        given = {"frames": FRAMES, "seed": 3, "steps": 4, "scheduler": "ddim_uniform", **changes}
        positive = run("EncodePrompts", clip=tiny.clip, prompts=describe(SCENE), negative_prompt="")[0][0]
        parts = {"model": tiny.model, "vae": tiny.vae, "positive": positive, "images": images}
        return run("StateFromVideo", **parts, **given, sampler_name=sampler, method=method)

    return begin


@pytest.fixture(scope="module")
def extend(run, tiny):
    def extend(state, sampler="euler", **reuse):
        given = {"steps": 4, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", "alpha": 2.0, "beta": 1.0}
        clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
        return run("Extend", **clip, **{**given, **reuse}, sampler_name=sampler, state=state)

    return extend


@pytest.mark.parametrize("method", ["inversion", "noise"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral"])
def test_the_next_clip_begins_with_the_footage(begin, extend, images, method, sampler):
    state, footage = begin(images, method, sampler)
    assert footage["samples"].shape[2] == FRAMES
    new, whole, following = extend(state, sampler, prompt_frames=3, order="forward")
    torch.testing.assert_close(whole["samples"][:, :, :3], footage["samples"][:, :, -3:], rtol=1e-3, atol=2e-3)
    assert new["samples"].shape[2] == FRAMES - 3
    assert following.index == 1


def test_the_state_is_that_of_vidrd_core(begin, images):
    import vidrd_core

    model = vidrd_core.load("tiny")
    prompt = "a red circle"
    video = (images * 255).round().to(torch.uint8).numpy()
    core = model.state_from_video(video, prompt, steps=4, seed=3, method="noise")
    state, _ = begin(images, "noise")
    assert state.model_signature == core.model_signature
    for name in ("noise", "latents", "record", "sigmas", "call_sigmas"):
        torch.testing.assert_close(getattr(state, name), getattr(core, name), rtol=1e-3, atol=1e-3)


def test_a_still_is_a_clip_of_repeated_frames(begin, extend, images):
    state, footage = begin(images[:1])
    assert footage["samples"].shape[2] == 1
    assert (state.frames, state.repeated) == (FRAMES, FRAMES - 1)
    new, _, _ = extend(state, prompt_frames=2, order="forward")
    assert new["samples"].shape[2] == FRAMES - 2


def test_sampling_again_reconstructs_footage_better_after_inversion_than_after_noise(begin, run, tiny, host, images):
    """Sampled from the inverted noise without prompt frames."""
    errors = {}
    for method in ("inversion", "noise"):
        state, footage = begin(images, method, steps=20)
        guider = host.samplers.CFGGuider(tiny.model)
        positive = run("EncodePrompts", clip=tiny.clip, prompts=describe(SCENE), negative_prompt="")[0][0]
        guider.set_conds(positive, tiny.negative)
        guider.set_cfg(1.0)
        (guided,) = run(
            "Guidance",
            sampler=host.samplers.sampler_object("euler"),
            prompt_frames=0,
            alpha=0.0,
            beta=0.0,
            order="mirror",
        )
        again = guider.sample(state.noise, torch.zeros_like(state.noise), guided, state.sigmas, seed=3)
        errors[method] = float((again.cpu() - footage["samples"]).abs().mean())
    assert errors["inversion"] < 0.5 * errors["noise"]


def test_footage_can_be_closed_into_a_loop(begin, extend, images):
    """The loop closes with the first of the frames that were used."""
    state, _ = begin(images)
    looped = extend(state, prompt_frames=2, order="forward", loop="close")[2]
    torch.testing.assert_close(looped.latents[:, :, -2:], state.latents[:, :, :2], rtol=1e-3, atol=2e-3)


def test_images_that_the_vae_cannot_encode_are_refused(begin, run, tiny, images):
    with pytest.raises(ValueError, match="there are no images"):
        begin(images[:0])


@pytest.fixture(scope="module", params=["wan", "hunyuan", "sd15"])
def third_party(request, run, host):
    """State From Video and Extend for a third-party model: N latents decode to 29 frames, or to 8."""
    model, positive, negative, latent = small_model(request.param)
    vae = image_vae(host) if request.param == "sd15" else small_vae(host)
    count = 8 if request.param == "sd15" else 29
    given = {"seed": 3, "steps": 4, "sampler_name": "euler", "scheduler": "simple"}
    # These VAEs' own sizes: 8 pixels a latent.
    side = 8 * latent["samples"].shape[-1]

    def begin(images, method="inversion", frames=count):
        parts = {"model": model, "vae": vae, "positive": positive, "images": images, "frames": frames}
        return run("StateFromVideo", **parts, **given, method=method)

    def extend(state, **reuse):
        clip = {"model": model, "positive": positive, "negative": negative, "latent": latent, "cfg": 3.0}
        how = {"prompt_frames": 2, "alpha": 2.0, "beta": 0.4, "order": "forward", **reuse}
        return run("Extend", **clip, **given, **how, state=state)

    pictures = torch.rand(count + 3, side, side, 3, generator=torch.Generator().manual_seed(2))
    return SimpleNamespace(
        name=request.param, begin=begin, extend=extend, images=pictures, frames=count, model=model, vae=vae,
        positive=positive, negative=negative, latent=latent,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["inversion", "noise"])
def test_any_model_extends_footage(third_party, method):
    head = int(third_party.name != "sd15")
    state, footage = third_party.begin(third_party.images, method)
    assert footage["samples"].shape == third_party.latent["samples"].shape
    assert (state.frames, state.repeated) == (8, 0)
    _, _, following = third_party.extend(state)
    replayed = following.latents[:, :, head : head + 2]
    torch.testing.assert_close(replayed, state.latents[:, :, -2:], rtol=1e-3, atol=2e-3)
    if not head:
        mirrored = third_party.extend(state, order="mirror", beta=1.0)[2]
        torch.testing.assert_close(mirrored.latents[:, :, 0], state.latents[:, :, -1], rtol=1e-3, atol=2e-3)


def test_a_still_has_the_same_latents_as_repeated_frames(third_party):
    """Latents after the first are of several repeated frames, not of one."""
    state, footage = third_party.begin(third_party.images[:1], "noise")
    standing, _ = third_party.begin(third_party.images[:1].expand(third_party.frames, -1, -1, -1), "noise")
    assert torch.equal(state.latents, standing.latents)
    one = footage["samples"]
    assert (one.shape[0] if third_party.name == "sd15" else one.shape[2]) == 1
    assert state.repeated == 7
    assert torch.equal(state.tail(8), state.latents)
    short, footage = third_party.begin(third_party.images[-7:], "noise")
    count = footage["samples"].shape[0] if third_party.name == "sd15" else footage["samples"].shape[2]
    assert count == (7 if third_party.name == "sd15" else 2)  # of 5 frames, the last ones
    assert short.shown.shape[2] == (7 if third_party.name == "sd15" else 2)


def test_custom_sampling_extends_a_state_of_footage(third_party, host, run):
    state, _ = third_party.begin(third_party.images)
    how = {"prompt_frames": 2, "alpha": 2.0, "order": "forward", "state": state}
    (noise,) = run("Noise", seed=3, **how)
    (sampler,) = run("Guidance", sampler=host.samplers.sampler_object("euler"), beta=0.4, **how)
    guider = host.samplers.CFGGuider(third_party.model)
    guider.set_conds(third_party.positive, third_party.negative)
    guider.set_cfg(3.0)
    empty = third_party.latent["samples"]
    guider.sample(noise.generate_noise(third_party.latent), empty, sampler, state.sigmas, seed=3)
    assert torch.equal(sampler.state.latents, third_party.extend(state)[2].latents)


def test_an_invalid_number_of_frames_is_refused(third_party):
    if third_party.name != "sd15":
        with pytest.raises(ValueError, match=r"frames is 30.*give 29 or 33"):
            third_party.begin(third_party.images, frames=30)


def test_a_state_of_footage_records_its_model(third_party, run):
    state, _ = third_party.begin(third_party.images, "noise")
    assert state.made_with["family"] == third_party.extend(None)[2].made_with["family"]
