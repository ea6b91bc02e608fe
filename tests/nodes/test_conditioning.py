"""ControlNets and start images under Reuse and Diffuse."""

import importlib
import inspect

import pytest
import torch

from .small_models import CONFIGS, small_model, small_vae

GIVEN = {"seed": 3, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
REUSE = {"prompt_frames": 3, "alpha": 2.0, "beta": 1.0, "order": "auto"}


@pytest.fixture
def spied(monkeypatch):
    """The calls of a model's network: {name of a condition: its value} each."""
    base, seen = importlib.import_module("comfy.model_base").BaseModel, []
    real = base._apply_model

    names = [*inspect.signature(real).parameters][1:]

    def spy(self, *given, **named):
        seen.append({**dict(zip(names, given, strict=False)), **named})
        return real(self, *given, **named)

    monkeypatch.setattr(base, "_apply_model", spy)
    return seen


@pytest.fixture(scope="module")
def controlled(host):
    """Stable Diffusion with a ControlNet of the same size, and hints for eight frames."""
    model, positive, negative, latent = small_model("sd15")
    names = ("cldm.cldm", "controlnet", "ops")
    cldm, controlnet, ops = (importlib.import_module(f"comfy.{each}") for each in names)
    sizes = {key: value for key, value in CONFIGS["sd15"][1].items() if key != "out_channels"}
    net = cldm.ControlNet(hint_channels=3, dtype=torch.float32, operations=ops.disable_weight_init, **sizes)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.15)
    management = importlib.import_module("comfy.model_management")
    control = controlnet.ControlNet(net, load_device=management.get_torch_device())
    hints = torch.rand(8, 64, 64, 3, generator=generator)

    def conditioned(hints=hints, strength=1.0):
        apply = host.nodes.ControlNetApplyAdvanced().apply_controlnet
        return dict(zip(("positive", "negative"), apply(positive, negative, control, hints, strength, 0.0, 1.0),
                        strict=True))  # fmt: skip

    return {"model": model, "latent": latent}, {"positive": positive, "negative": negative}, conditioned, hints


def test_controlnets_work_and_prompt_frames_replay(run, controlled, spied):
    clip, plain, conditioned, hints = controlled
    first = run("Extend", **clip, **conditioned(), **GIVEN, **REUSE)[2]
    assert all(call["control"] is not None for call in spied)
    assert not torch.allclose(first.latents, run("Extend", **clip, **plain, **GIVEN, **REUSE)[2].latents, atol=1e-3)
    new, _, second = run("Extend", **clip, **conditioned(hints.flip(0)), **GIVEN, **REUSE, state=first)
    unlike = run("Extend", **clip, **conditioned(1 - hints), **GIVEN, **REUSE, state=first)[2]
    assert new["samples"].shape == clip["latent"]["samples"].shape
    for each in (second, unlike):  # the first frame, which beta 1 leads to the end, whatever the hint says
        assert torch.allclose(each.latents[:, :, 0], first.latents[:, :, 7], atol=1e-4)
    assert not torch.allclose(second.latents[:, :, 7], unlike.latents[:, :, 7], atol=1e-3)


def test_a_start_image_reaches_the_model_in_every_clip(run, host, spied):
    """Wan's image-to-video: each clip gets the image beside its noise, and prompt frames still replay."""
    model, positive, negative, _ = small_model("wan i2v")
    vae = small_vae(host)
    to_video = importlib.import_module("comfy_extras.nodes_wan").WanImageToVideo.execute
    generator = torch.Generator().manual_seed(4)
    pictures = torch.rand(3, 1, 32, 32, 3, generator=generator)

    def conditioned(picture):
        made = to_video(positive, negative, vae, 32, 32, 29, 1, start_image=picture)
        return dict(zip(("positive", "negative", "latent"), made.args, strict=True))

    state, clips = None, []
    for picture in pictures:
        spied.clear()
        given = conditioned(picture)
        new, _, following = run("Extend", model=model, **given, **GIVEN, **REUSE, state=state)
        image = given["positive"][0][1]["concat_latent_image"]
        expected = model.model.process_latent_in(image)
        assert len(spied) >= GIVEN["steps"]
        for call in spied:
            assert call["c_concat"].shape[1] == 20  # mask and picture
            torch.testing.assert_close(call["c_concat"][:1, 4:], expected.to(call["c_concat"]), rtol=1e-4, atol=1e-4)
        if state is not None:
            assert torch.allclose(following.latents[:, :, 1:4], state.latents[:, :, 5:8], atol=1e-3)
        clips.append(new["samples"].shape[2])
        state = following
    assert clips == [8, 4, 4]
    last = conditioned(pictures[2])
    again = run("Extend", model=model, **{**last, **conditioned(1 - pictures[2])}, **GIVEN, **REUSE, state=state)[2]
    once = run("Extend", model=model, **last, **GIVEN, **REUSE, state=state)[2]
    assert not torch.allclose(again.latents[:, :, 4:], once.latents[:, :, 4:], atol=1e-3)
