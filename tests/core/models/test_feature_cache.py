"""Features kept from call to call: what is exact equals calls without them, what is not comes close."""

import dataclasses

import pytest
import torch

from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.feature_cache import FeatureCache
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.prompt_schedule import OVER_FRAMES
from vidrd_core.reuse import ReuseSettings, StagedGuidance

from ...conftest import UNET, randomise

WIDE = UNet3DConfig(
    block_out_channels=(32, 64, 64), attention_levels=(True, True, False), heads=(2, 4, 4), cross_attention_dim=24,
    norm_groups=8, dropout=0.0,
)  # fmt: skip
NETWORKS = {
    "VidRD": WIDE,
    "released VidRD": dataclasses.replace(
        WIDE, embed_to="stream", released_embedding=True, joint_resnet_norm=True, linear_projection=False
    ),
    "ModelScope": dataclasses.replace(WIDE, temp_attention="after", transformer_in=True, temporal_for_images=True),
    "small": dataclasses.replace(UNET, cross_attention_dim=24),
    "one level": dataclasses.replace(WIDE, block_out_channels=(32,), attention_levels=(True,), heads=(2,)),
}
FRAMES, FIRST = 6, 2


@pytest.fixture(params=NETWORKS)
def unet(request):
    return randomise(UNet3D(NETWORKS[request.param])).eval()


def inputs(seed=0, texts=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, FRAMES, 16, 16, generator=generator)
    return x, torch.tensor([7, 901] * texts), torch.randn(2 * texts, 5, 24, generator=generator)


def close(a, b):
    return torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_of_the_same_input_give_the_same_prediction(unet):
    x, t, text = inputs()
    expected, cache = unet(x, t, text), FeatureCache(prompt_interval=3)
    cache.replay(FIRST)
    assert torch.equal(unet(x, t, text, cache=cache), expected)
    for _ in range(2):
        read = unet(x, t, text, cache=cache)
        close(read, expected)
    assert torch.equal(unet(x, t, text, cache=cache), expected), "the third call after the first computes all"


@torch.no_grad()
def test_between_two_computations_other_frames_see_the_old_features(unet):
    (x, t, text), cache = inputs(), FeatureCache(prompt_interval=2)
    cache.replay(FIRST)
    before = unet(x, t, text, cache=cache)
    changed = x.clone()
    changed[:, :, :FIRST] += 1
    read = unet(changed, t, text, cache=cache)
    assert torch.equal(read[:, :, :FIRST], before[:, :, :FIRST]), "frames that nobody reads were computed"
    close(read[:, :, FIRST:], before[:, :, FIRST:])


@torch.no_grad()
def test_all_is_computed_when_another_number_of_frames_replays(unet):
    (x, t, text), cache = inputs(), FeatureCache(prompt_interval=9)
    cache.replay(FIRST)
    unet(x, t, text, cache=cache)
    cache.replay(FIRST - 1)
    other = inputs(seed=1)[0]
    assert torch.equal(unet(other, t, text, cache=cache), expected := unet(other, t, text))
    assert torch.equal(unet(x, t, text, cache=cache)[:, :, : FIRST - 1], expected[:, :, : FIRST - 1])


@torch.no_grad()
def test_deep_features_are_computed_once_an_interval(unet):
    (x, t, text), cache = inputs(), FeatureCache(deep_interval=2)
    calls = []
    unet.mid_block.resnets[0].register_forward_pre_hook(lambda *_: calls.append(1))
    expected = unet(x, t, text)
    calls.clear()
    for each in range(4):
        close(unet(x, t, text, cache=cache), expected)
        assert len(calls) == each // 2 + 1


@torch.no_grad()
def test_both_together_equal_the_exact_prediction_of_the_same_input(unet):
    (x, t, text), cache = inputs(), FeatureCache(prompt_interval=4, deep_interval=3)
    cache.replay(FIRST)
    expected = unet(x, t, text)
    for _ in range(9):
        close(unet(x, t, text, cache=cache)[:, :, FIRST:], expected[:, :, FIRST:])


@torch.no_grad()
def test_several_texts_share_what_does_not_depend_on_them(unet):
    x, t, text = inputs(texts=2)
    expected, cache = unet(torch.cat([x, x]), t, text), FeatureCache()
    batches = []
    unet.conv_in.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    close(unet(x, t, text, cache=cache), expected)
    close(unet(x, t, text, cache=cache), expected)
    depends = unet.config.text_pooling or unet.config.frame_embedding
    assert batches == [len(text if depends else x) * FRAMES] * 2


@torch.no_grad()
def test_keys_and_values_of_the_text_are_computed_once():
    unet = randomise(UNet3D(WIDE)).eval()
    (x, t, text), cache, calls = inputs(), FeatureCache(), []
    unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.register_forward_pre_hook(
        lambda *_: calls.append(1)
    )
    first, second = unet(x, t, text, cache=cache), unet(x, t, text, cache=cache)
    assert torch.equal(first, second)
    assert torch.equal(first, unet(x, t, text))
    assert len(calls) == 2


def test_with_gradients_nothing_is_kept():
    unet = randomise(UNet3D(WIDE)).eval()
    (x, t, text), cache = inputs(), FeatureCache(2, 2)
    for _ in range(2):
        unet(x, t, text, cache=cache).sum().backward()
    assert not cache.kept
    assert not cache.text


def clips(model, **settings):
    reuse = ReuseSettings(prompt_frames=2, order=settings.pop("order", "forward"), anchor=settings.pop("anchor", 0.0))
    return list(model.stream("a red circle moving right", 2, reuse, steps=6, seed=3, **settings))


@pytest.mark.parametrize("settings", [{"order": "mirror"}, {"anchor": 0.5}, {"solver": "heun"}, {"travel": -1}])
@pytest.mark.parametrize("intervals", [{"prompt_interval": 2}, {"deep_interval": 2}])
def test_replay_stays_exact_and_clips_come_close(model, settings, intervals):
    exact, fast = clips(model, **settings), clips(model, **settings, **intervals)
    first_differs = "deep_interval" in intervals
    assert torch.equal(exact[0].latents, fast[0].latents) != first_differs
    if settings.get("order") != "mirror":  # in which replay ends before the last step
        assert torch.equal(fast[0].state.latents[:, :, -2:], fast[1].state.latents[:, :, :2])
    assert not torch.equal(exact[1].latents, fast[1].latents)
    for a, b in zip(exact, fast, strict=True):
        assert (a.latents - b.latents).square().mean().sqrt() < 0.3 * a.latents.std()


def test_clips_continue_with_the_settings_of_their_state(model):
    first, second = clips(model, prompt_interval=2, deep_interval=3)
    again = model.extend(first.state, "a red circle moving right")
    assert torch.equal(again.latents, second.latents)


def test_a_prompt_fades_over_frames_in_a_batch_as_alone(model):
    prompts, given = ["a red circle", "a blue circle"], {"steps": 2, "frames": 4}
    states = [clip.state for clip in model.generate_many(prompts, [1, 2], ReuseSettings(prompt_frames=2), **given)]
    fade = ("a red circle moving right", OVER_FRAMES)
    together = model.extend_many(states, prompts, seeds=[3, 4], fade=fade)
    for state, prompt, seed, clip in zip(states, prompts, (3, 4), together, strict=True):
        close(clip.latents, model.extend(state, prompt, seed=seed, fade=fade).latents)


def test_guidance_says_which_frames_replay_at_a_step():
    settings, said = ReuseSettings(prompt_frames=4, beta=1.0), []
    record = torch.zeros(4, 1, 1, 4, 1, 1)
    guidance = StagedGuidance(lambda x, sigma: x, settings, 4, record, before_call=said.append)
    for step in range(4):
        guidance(torch.zeros(1, 1, 8, 1, 1), torch.tensor(1.0))
        guidance.on_step(step, torch.zeros(1))
    assert said == [4, 3, 2, 1]  # n_j is 4, 3, 2, 1


@pytest.mark.parametrize("name", ["prompt_interval", "deep_interval"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_wrong_interval_is_refused(model, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected a whole number, 1 or more"):
        model.generate("a red circle", **{name: value})
