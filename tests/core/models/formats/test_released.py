"""The released VidRD's UNet against a plain implementation by its own names, in 5-D tensors."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from vidrd_core import load
from vidrd_core.io import safetensors
from vidrd_core.io.configs import to_dict
from vidrd_core.io.safetensors import TEMPORAL_LAYERS
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.detect import diffusion_of
from vidrd_core.models.formats.unet import identify_unet, write_unet
from vidrd_core.models.inflate import read_temporal, save_temporal
from vidrd_core.models.load_parts import UNET, build_unet, load_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig

from ....conftest import randomise
from ..released_vae import layout, random_weights
from . import originals

CONFIG = UNet3DConfig(
    block_out_channels=(32, 64), attention_levels=(True, False), heads=(2, 4), layers_per_block=1, norm_groups=8,
    cross_attention_dim=24, embed_to="stream", released_embedding=True, joint_resnet_norm=True,
)  # fmt: skip
AS_PUBLISHED = dataclasses.replace(CONFIG, block_out_channels=(64, 128), heads=(1, 2), norm_groups=32)


class Plain:
    """x is [B, C, F, H, W] throughout."""

    def __init__(self, tensors, config):
        self.tensors, self.groups = tensors, config.norm_groups
        self.width, self.heads = (
            config.block_out_channels[0],
            dict(zip(config.block_out_channels, config.heads, strict=True)),
        )

    def two(self, name):
        return self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")

    def linear(self, name, x):
        return F.linear(x, *self.two(name))

    def conv(self, name, x, **settings):
        """A 2-D conv on each frame."""
        weight, bias = self.two(name)
        frames = [F.conv2d(x[:, :, j], weight, bias, **settings) for j in range(x.shape[2])]
        return torch.stack(frames, dim=2)

    def joint_norm(self, name, x):
        """Over all frames of the clip, as the released ResNets have it."""
        return F.silu(F.group_norm(x, self.groups, *self.two(name), eps=1e-5))

    def frame_embedding(self, frames, dim):
        """Channel 2k of frame f is sin(f / 10000^(2k / dim)), channel 2k + 1 the cosine of the same."""
        table = torch.empty(frames, dim)
        for f in range(frames):
            for k in range(dim // 2):
                angle = f / 10000 ** (2 * k / dim)
                table[f, 2 * k], table[f, 2 * k + 1] = math.sin(angle), math.cos(angle)
        return table

    def sinusoid(self, positions, dim):
        rates = torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2))
        angles = positions.float()[:, None] * rates
        return torch.cat([angles.cos(), angles.sin()], dim=1)

    def attention(self, name, x, context, heads):
        q, k, v = (
            self.linear(f"{name}.to_{each}", source).unflatten(-1, (heads, -1)).transpose(-2, -3)
            for each, source in (("q", x), ("k", context), ("v", context))
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return self.linear(f"{name}.to_out.0", (weights @ v).transpose(-2, -3).flatten(-2))

    def resnet(self, block, i, x, time):
        at = f"{block}.resnets.{i}"
        h = self.conv(f"{at}.conv1", self.joint_norm(f"{at}.norm1", x), padding=1)
        h = h + self.linear(f"{at}.time_emb_proj", F.silu(time))[:, :, None, None, None]
        h = self.conv(f"{at}.conv2", self.joint_norm(f"{at}.norm2", h), padding=1)
        x = (self.conv(f"{at}.conv_shortcut", x) if f"{at}.conv_shortcut.weight" in self.tensors else x) + h
        if x.shape[2] == 1:
            return x
        h = x
        for norm, conv in ((0, 3), (4, 7), (8, 11), (12, 15)):
            h = self.joint_norm(f"{block}.temp_convs.{i}.convs.{norm}", h)
            h = F.conv3d(h, *self.two(f"{block}.temp_convs.{i}.convs.{conv}"), padding=(1, 0, 0))
        return x + h

    def transformer(self, block, i, x, text):
        at, heads = f"{block}.attentions.{i}", self.heads[x.shape[1]]
        frames, height = x.shape[2], x.shape[3]
        each = [F.group_norm(x[:, :, j], self.groups, *self.two(f"{at}.norm"), eps=1e-6) for j in range(frames)]
        h = torch.stack(each, dim=1).flatten(3).transpose(2, 3)  # [B, F, pixels, C]
        h = self.linear(f"{at}.proj_in", h)
        at_block = f"{at}.transformer_blocks.0"

        def norm(name, h):
            return F.layer_norm(h, h.shape[-1:], *self.two(f"{at_block}.{name}"))

        normed = norm("norm1", h)
        h = h + self.attention(f"{at_block}.attn1", normed, normed, heads)
        h = h + self.attention(f"{at_block}.attn2", norm("norm2", h), text[:, None].expand(-1, frames, -1, -1), heads)
        h = h + self.frame_embedding(frames, h.shape[-1])[:, None]  # stays in the stream, of images too
        if frames > 1:
            normed = norm("temp_norm", h).transpose(1, 2)
            h = h + self.attention(f"{at_block}.temp_attn", normed, normed, heads).transpose(1, 2)
        value, gate = self.linear(f"{at_block}.ff.net.0.proj", norm("norm3", h)).chunk(2, dim=-1)
        h = h + self.linear(f"{at_block}.ff.net.2", value * F.gelu(gate))
        h = self.linear(f"{at}.proj_out", h)
        return x + h.transpose(2, 3).unflatten(-1, (height, -1)).transpose(1, 2)

    def unet(self, x, timestep, text):
        time = self.linear("time_embedding.linear_1", self.sinusoid(timestep, self.width))
        time = self.linear("time_embedding.linear_2", F.silu(time))
        first = self.conv("conv_in", x, padding=1)
        second = self.transformer("down_blocks.0", 0, self.resnet("down_blocks.0", 0, first, time), text)
        halved = self.conv("down_blocks.0.downsamplers.0.conv", second, stride=2, padding=1)
        deepest = self.resnet("down_blocks.1", 0, halved, time)
        x = self.resnet("mid_block", 0, deepest, time)
        x = self.resnet("mid_block", 1, self.transformer("mid_block", 0, x, text), time)
        for i, skip in enumerate((deepest, halved)):
            x = self.resnet("up_blocks.0", i, torch.cat([x, skip], dim=1), time)
        x = self.conv("up_blocks.0.upsamplers.0.conv", F.interpolate(x, scale_factor=(1, 2, 2)), padding=1)
        for i, skip in enumerate((second, first)):
            x = self.resnet("up_blocks.1", i, torch.cat([x, skip], dim=1), time)
            x = self.transformer("up_blocks.1", i, x, text)
        return self.conv("conv_out", self.joint_norm("conv_norm_out", x), padding=1)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("config", "beside"),
    [(CONFIG, {"norm_num_groups": 8, "attention_head_dim": [2, 4]}), (AS_PUBLISHED, {})],
    ids=["narrow", "64 channels a head, as published"],
)
def test_the_whole_network_matches_a_plain_implementation(config, beside, frames, tmp_path):
    released = write_unet(config, randomise(UNet3D(config)).state_dict(), "VidRD")
    found = identify_unet(released, beside)
    assert found.config == config
    ours = build_unet(found.tensors, found.config, tmp_path)
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, frames, 8, 8, generator=generator), torch.randn(2, 5, 24, generator=generator)
    timestep = torch.tensor([7, 901])
    expected = Plain(released, config).unet(x, timestep, text)
    torch.testing.assert_close(ours(x, timestep, text), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("embed_to", ["stream", "input"])
def test_a_file_of_an_earlier_version_has_the_released_embedding_if_it_came_from_there(embed_to, tmp_path):
    config = dataclasses.replace(CONFIG, embed_to=embed_to, released_embedding=False)
    unet = randomise(UNet3D(config))
    before = {name: value for name, value in to_dict(config).items() if name != "released_embedding"}
    newer = ("timestep_spacing", "steps_offset", "set_alpha_to_one")
    sampling = {name: value for name, value in to_dict(DiffusionConfig()).items() if name not in newer}
    details = {"config": before, "diffusion": sampling}
    safetensors.write(tmp_path / "whole.safetensors", unet.state_dict(), UNET, **details)
    read, diffusion = load_unet(tmp_path / "whole.safetensors")
    assert read.config.released_embedding == (embed_to == "stream")
    assert (diffusion.timestep_spacing == "leading") == (not diffusion.set_alpha_to_one) == (embed_to == "stream")
    save_temporal(unet, tmp_path / "temporal.safetensors")
    temporal, details = safetensors.read(tmp_path / "temporal.safetensors", TEMPORAL_LAYERS)
    del details["settings"]["released_embedding"]
    details = {name: details[name] for name in ("settings", "heads")}
    safetensors.write(tmp_path / "older.safetensors", temporal, TEMPORAL_LAYERS, **details)
    assert read_temporal(tmp_path / "older.safetensors")[1]["released_embedding"] == (embed_to == "stream")


def test_the_released_embedding_is_one_of_the_stream():
    with pytest.raises(ValueError, match="released_embedding is on, but embed_to is 'input', expected 'stream'"):
        UNet3DConfig(released_embedding=True)


def released_videos(network, noises, m, beta, steps):
    """Clips as the released code samples them: DDIM from SD's scheduler, which ends at the first alpha.

    Latents of the whole clip are kept in reverse at the start of each step, and put in place at the start of step s
    of the next clip, for frames j < M with s < beta T (M - j) / M.
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    timesteps = [1 + 1000 // steps * i for i in range(steps)][::-1]
    kept = None
    for z in noises:
        stored = []
        for s, t in enumerate(timesteps):
            for j in range(m if kept else 0):
                if s < beta * steps * (m - j) / m:
                    z[:, :, j] = kept[s][:, :, j]
            stored.append(z.flip(2))
            eps, now = network(z, t), alphas[t]
            later = alphas[t - 1000 // steps] if t > 1000 // steps else alphas[0]
            x0 = (z - (1 - now).sqrt() * eps) / now.sqrt()
            z = (later.sqrt() * x0 + (1 - later).sqrt() * eps).float()
        kept = stored
        yield z


@pytest.mark.parametrize("steps", [5, 12, 30, 50])
def test_a_released_checkpoint_is_sampled_as_stable_diffusions_ddim_does(steps, tmp_path):
    found = identify_unet(write_unet(AS_PUBLISHED, UNet3D(AS_PUBLISHED).state_dict(), "VidRD"))
    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = originals.scheduled(theirs, noise, steps)
    made = originals.sampled(diffusion_of(tmp_path, found), noise, steps, "ddim")
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [5, 6])
@torch.no_grad()
def test_a_released_checkpoint_makes_the_videos_of_the_released_code(steps, tmp_path):
    config = dataclasses.replace(AS_PUBLISHED, cross_attention_dim=originals.TEXT_WIDTH)
    words = originals.tokenizer(tmp_path / "words")
    text = originals.text_encoder(len(words)).state_dict()
    unet = write_unet(config, randomise(UNet3D(config)).state_dict(), "VidRD")
    tensors = {f"unet.{key}": tensor for key, tensor in unet.items()}
    tensors |= random_weights(layout((32, 64), layers=1, prefix="vae."))
    tensors |= {f"text_encoder.text_model.{key.removeprefix('text_model.')}": tensor for key, tensor in text.items()}
    torch.save({"state_dict": tensors, "global_step": 3}, tmp_path / "ModelT2V.pth")
    model = load(tmp_path / "ModelT2V.pth", text_encoder=tmp_path / "words")
    assert not model.diffusion.set_alpha_to_one
    reuse = ReuseSettings(prompt_frames=4, alpha=4.0, beta=0.4, staging="released")
    settings = {"steps": steps, "cfg": 2.5, "frames": 8, "width": 16, "height": 16, "seed": 3}
    clips = list(model.stream("a cat", 3, reuse, **settings))
    plain, cond, uncond = Plain(unet, config), *model.text_encoder.encode(["a cat", ""])[:, None]

    def network(z, t):
        with_text, without = (plain.unet(z, torch.tensor([t]), each) for each in (cond, uncond))
        return without + 2.5 * (with_text - without)

    noises = [clip.state.noise.clone() for clip in clips]
    for clip, expected in zip(clips, released_videos(network, noises, 4, 0.4, steps), strict=True):
        torch.testing.assert_close(clip.latents, expected, rtol=1e-3, atol=1e-3)
    by_paper = list(model.stream("a cat", 2, dataclasses.replace(reuse, staging="paper"), **settings))[1]
    assert (by_paper.latents - clips[1].latents).abs().max() > 0.05
