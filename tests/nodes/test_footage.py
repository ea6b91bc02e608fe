"""State From Video in a real ComfyUI: what follows begins with the very footage, under any sampler."""

import numpy as np
import pytest
import torch

from vidrd_core.data.shapes import describe, evaluation_scenes, render

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
def test_what_follows_begins_with_the_footage(begin, extend, images, method, sampler):
    state, footage = begin(images, method, sampler)
    assert footage["samples"].shape[2] == FRAMES
    new, whole, following = extend(state, sampler, prompt_frames=3, order="forward")
    torch.testing.assert_close(whole["samples"][:, :, :3], footage["samples"][:, :, -3:], rtol=1e-3, atol=2e-3)
    assert new["samples"].shape[2] == FRAMES - 3
    assert following.index == 1


def test_it_is_the_cores_state(begin, images):
    import vidrd_core

    model = vidrd_core.load("tiny")
    prompt = "a red circle"
    video = (images * 255).round().to(torch.uint8).numpy()
    core = model.state_from_video(video, prompt, steps=4, seed=3, method="noise")
    state, _ = begin(images, "noise")
    assert state.model_signature == core.model_signature
    for name in ("noise", "latents", "record", "sigmas", "levels"):
        torch.testing.assert_close(getattr(state, name), getattr(core, name), rtol=1e-3, atol=1e-3)


def test_a_still_stands_still(begin, extend, images):
    state, footage = begin(images[:1])
    assert footage["samples"].shape[2] == 1
    assert (state.frames, state.repeated) == (FRAMES, FRAMES - 1)
    new, _, _ = extend(state, prompt_frames=2, order="forward")
    assert new["samples"].shape[2] == FRAMES - 2


def test_inversion_comes_nearer_to_the_footage_than_noise_when_sampled_again(begin, run, tiny, host, images):
    """Sampled from its noise with no frame led, what was inverted comes out again."""
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


def test_what_cannot_be_encoded_is_refused(begin, run, tiny, images):
    with pytest.raises(ValueError, match="there are no images"):
        begin(images[:0])
