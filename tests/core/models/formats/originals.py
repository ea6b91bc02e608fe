"""Small third-party models with random weights, saved by the libraries that they come from."""

import json

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vidrd_core.sampling import SOLVERS, Schedule, latents_of

from ....conftest import randomise

TEXT_WIDTH = 128  # two heads of 64


def tokenizer(folder):
    """A CLIP tokenizer over single letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder, model_max_length=77).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(vocabulary):
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=TEXT_WIDTH, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=0, eos_token_id=vocabulary - 1,
    )  # fmt: skip
    return randomise(CLIPTextModel(config)).eval()


def vae(widths=(16, 32), groups=8):
    return randomise(
        AutoencoderKL(
            block_out_channels=widths, norm_num_groups=groups, layers_per_block=1, latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        )
    ).eval()  # fmt: skip


def unet_3d(widths=(32, 64), heads=16, groups=8):
    return randomise(
        UNet3DConditionModel(
            sample_size=16, block_out_channels=widths, cross_attention_dim=TEXT_WIDTH, norm_num_groups=groups,
            down_block_types=["CrossAttnDownBlock3D", "DownBlock3D"], attention_head_dim=heads,
            up_block_types=["UpBlock3D", "CrossAttnUpBlock3D"], layers_per_block=1,
        )
    ).eval()  # fmt: skip


def unet_2d(heads=4, linear=False, widths=(32, 64), groups=8):
    return randomise(
        UNet2DConditionModel(
            sample_size=16, block_out_channels=widths, cross_attention_dim=TEXT_WIDTH, norm_num_groups=groups,
            down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"], attention_head_dim=heads,
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"], layers_per_block=1, use_linear_projection=linear,
        )
    ).eval()  # fmt: skip


def modelscope(folder, kind=DDIMScheduler, **scheduler):
    """A whole text-to-video pipeline with a scheduler of this class, saved as diffusers saves it."""
    words = tokenizer(folder / "words")
    settings = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
        **({"clip_sample": False} if kind is DDIMScheduler else {}), **scheduler,
    }  # fmt: skip
    pipeline = TextToVideoSDPipeline(
        vae=vae(), text_encoder=text_encoder(len(words)), tokenizer=words, unet=unet_3d(),
        scheduler=kind(**settings),
    )  # fmt: skip
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    return pipeline


def stable_diffusion(folder):
    """A whole text-to-image pipeline, saved as diffusers saves it."""
    words = tokenizer(folder / "words")
    pipeline = StableDiffusionPipeline(
        vae=vae(), text_encoder=text_encoder(len(words)), tokenizer=words, unet=unet_2d(),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


@torch.no_grad()
def run(pipeline, noise, **settings):
    """The latents that diffusers makes, normalised."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(latents=noise, output_type="latent", **settings).frames


def stand_in(x, timestep):
    """A smooth function in place of a UNet."""
    return torch.tanh(x + 0.3 * x.roll(1, -1)) * (0.5 + float(timestep) / 1000)


def scheduled(scheduler, noise, steps):
    """The latents that a scheduler of diffusers makes with the stand-in."""
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(stand_in(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def sampled(diffusion, noise, steps, solver):
    """The latents that a solver of ours makes with the stand-in."""
    schedule = Schedule(diffusion)
    sigmas = schedule.sigmas(steps, solver)
    denoise = schedule.as_diffusers(schedule.denoiser(stand_in), sigmas, solver)
    return latents_of(SOLVERS[solver](denoise, schedule.start(noise, sigmas[0], solver), sigmas), sigmas)
