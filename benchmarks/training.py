"""Does `vidrd train` train faster than a plain loop written with diffusers, on the same network and data?

    python benchmarks/training.py                      # ModelScope's networks at half width, 128 px
    python benchmarks/training.py --width full --size 256
    python benchmarks/training.py --precision bf16     # mixed precision, all ways
    python benchmarks/training.py --processes          # one process against two, too

The plain loop follows diffusers' training examples: a dataset that reads each clip's frames from its file, then VAE,
text encoder, UNet3DConditionModel, mean squared error, AdamW and EMA. Ours is the package's trainer with a recipe,
with latents and encoded captions cached on disk, and once more without a cache. All share the same random weights,
clips, batch size and trained parameters, and take turns step by step in one process, so that other load on the
machine slows all equally; every ratio is between two consecutive steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from vidrd_core.data.captions import Sidecar
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.decoding import frames_at
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.runner import run
from vidrd_core.data.shards import Shards
from vidrd_core.procedural import sample_clip
from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.stage_config import UNetStageConfig
from vidrd_core.training.trainable import select
from vidrd_core.training.trainer import Trainer
from vidrd_core.video import open_video

UNET_WIDTHS = {"tenth": 32, "third": 96, "half": 160, "full": 320}  # of the first level
VAE_WIDTHS = {"tenth": 16, "third": 32, "half": 64, "full": 128}
TEXT_WIDTHS = {"tenth": 64, "third": 320, "half": 512, "full": 1024}
HEADS = {"tenth": 16, "third": 32, "half": 32, "full": 64}  # channels per head
VIDEOS, SECONDS, SOURCE = 12, 3, 480  # of the videos on disk: 24 frames per second, pixels a side
PINNED = """
import os
import sys

from vidrd_core.cli import main

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(os.environ.get("LOCAL_RANK", 0))]})
sys.argv[0] = "vidrd"
sys.exit(main())
"""
TOKENS = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
STAGE = {
    "name": "clip", "task": "clip", "steps": 10_000, "learning_rate": 1e-5, "warmup": 1, "log_every": 10_000,
    "sample_every": 10_000, "checkpoint_every": 10_000, "caption_dropout": 0.1,
}  # fmt: skip


def make_data(folder: Path, given: argparse.Namespace) -> Path:
    """Write procedural videos and the shards that `vidrd data videos` makes of them; return the shards' folder."""
    rng = np.random.default_rng(0)
    for i in range(VIDEOS):
        clip = sample_clip(rng, frames=SECONDS * 24, size=SOURCE)
        name = folder / "videos" / f"{i}.mp4"
        name.parent.mkdir(parents=True, exist_ok=True)
        with open_video(name, 24.0) as video:
            video.write(clip.frames)
        name.with_suffix(".txt").write_text(clip.caption)
    clips = ClipSettings(frames=given.frames, size=given.size, choice="spread", clips=2)
    run(LongVideos(folder / "videos", Sidecar(), clips), folder / "shards")
    return folder / "shards"


def make_model(folder: Path, given: argparse.Namespace) -> Path:
    """Write a diffusers pipeline of ModelScope's architecture with random weights, and return its folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    width, vae, text = (widths[given.width] for widths in (UNET_WIDTHS, VAE_WIDTHS, TEXT_WIDTHS))
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    words = folder / "words"
    words.mkdir(parents=True)
    (words / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (words / "merges.txt").write_text("#version: 0.2\n")
    deep = given.width != "tenth"
    pipeline = TextToVideoSDPipeline(
        vae=AutoencoderKL(
            block_out_channels=(vae, 2 * vae, 4 * vae, 4 * vae), layers_per_block=2, norm_num_groups=vae // 2,
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokens), hidden_size=text, intermediate_size=4 * text, max_position_embeddings=77,
                num_attention_heads=text // 64, num_hidden_layers=23 if deep else 2,
                bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
            )
        ),
        tokenizer=CLIPTokenizer.from_pretrained(words, model_max_length=77),
        unet=UNet3DConditionModel(
            sample_size=32, block_out_channels=(width, 2 * width, 4 * width, 4 * width), cross_attention_dim=text,
            attention_head_dim=HEADS[given.width],
        ),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in pipeline.unet.parameters():
            if not parameter.any() and parameter.ndim > 1:  # zero-initialised layers would hide half of the work
                nn.init.normal_(parameter, std=0.02 * parameter[0].numel() ** -0.5)
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


def their_unet(model: Path) -> nn.Module:
    """The UNet of a diffusers pipeline."""
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel.from_pretrained(model, subfolder="unet")


def plain_loop(model: Path, videos: Path, given: argparse.Namespace) -> Iterator[float]:
    """A training loop as in diffusers' examples.

    Yields:
        The loss of each step.
    """
    from diffusers import DDPMScheduler, TextToVideoSDPipeline
    from diffusers.training_utils import EMAModel

    pipeline = TextToVideoSDPipeline.from_pretrained(model)
    mixed = given.precision == "bf16"
    frozen = torch.bfloat16 if mixed else torch.float32  # the dtype of frozen parts in the examples
    for part in (pipeline.vae, pipeline.text_encoder):
        part.to(given.device, frozen).requires_grad_(False)
    pipeline.unet.to(given.device).requires_grad_(False)
    unet, scheduler = pipeline.unet.train(), DDPMScheduler.from_config(pipeline.scheduler.config)
    trained = list(select(unet, given.train).values())
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer, ema = torch.optim.AdamW(trained, lr=1e-5), EMAModel(trained, decay=0.999)
    files = sorted(videos.glob("*.mp4"))
    order = np.random.default_rng(0)

    class Clips(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, _: int) -> tuple[torch.Tensor, str]:
            file = files[order.integers(len(files))]
            begin = order.uniform(0, SECONDS - given.frames / 8)
            times = [begin + i / 8 for i in range(given.frames)]  # at 8 frames a second
            frames = torch.from_numpy(frames_at(file, times, (given.size, given.size)))
            video = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
            caption = file.with_suffix(".txt").read_text() if order.random() >= 0.1 else ""
            return video, caption

    for video, captions in torch.utils.data.DataLoader(Clips(), batch_size=given.batch):
        video = video.to(given.device)
        with torch.no_grad():
            latents = pipeline.vae.encode(video.flatten(0, 1).to(frozen)).latent_dist.sample()
            latents = latents * pipeline.vae.config.scaling_factor
            latents = latents.unflatten(0, video.shape[:2]).transpose(1, 2).contiguous()
            tokens = pipeline.tokenizer(list(captions), **TOKENS)
            text = pipeline.text_encoder(tokens.input_ids.to(given.device))[0]
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(latents),), device=given.device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with torch.autocast(torch.device(given.device).type, torch.bfloat16, enabled=mixed):
            predicted = unet(noisy, timesteps, text).sample
        loss = F.mse_loss(predicted.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(trained)
        yield loss.item()


@contextmanager
def trainer(folder: Path, model: Path, shards: Path, cache: bool, given: argparse.Namespace) -> Iterator[Trainer]:
    """A context with the package's trainer, ready for its first step."""
    path = write_recipe(folder, model, shards, cache, given)
    recipe = Recipe(load_config(path))
    stage = recipe.config.stages[0]
    assert isinstance(stage, UNetStageConfig)
    made = Trainer(recipe.unet_task(stage), stage, folder / "stage", given.precision)
    made.loss.train()
    with made.prefetching():
        yield made


def write_recipe(
    folder: Path, model: Path, shards: Path, cache: bool, given: argparse.Namespace, **more: Any
) -> Path:
    """Write a recipe with one clip stage and return its file; `more` are settings of the stage."""
    stage = {**STAGE, "train": given.train, "batch_size": given.batch, **more}
    data = {"frames": given.frames, "size": given.size, "cache": cache, "sources": [{"shards": str(shards)}]}
    recipe = {"out": str(folder), "init": str(model), "data": data, "stages": [stage]}
    recipe["mixed_precision"] = given.precision
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train all ways in turn: the seconds and the loss of each step; losses should be similar."""
    torch.set_num_threads(given.threads or torch.get_num_threads())
    shards, model = make_data(folder, given), make_model(folder, given)
    with ExitStack() as stack:
        began = time.perf_counter()
        cached = stack.enter_context(trainer(folder / "cached", model, shards, True, given))
        prepared = time.perf_counter() - began
        uncached = stack.enter_context(trainer(folder / "uncached", model, shards, False, given))
        plain = plain_loop(model, folder / "videos", given)
        ways: dict[str, Callable[[], float]] = {
            "diffusers": lambda: next(plain), "ours": lambda: step(cached), "ours, no cache": lambda: step(uncached),
        }  # fmt: skip
        for way in ways.values():  # this warms up
            way()
        rounds, losses = [], []
        for turn in range(given.rounds):
            taken, found = {}, {}
            for name in list(ways) if turn % 2 else list(ways)[::-1]:
                began = time.perf_counter()
                found[name] = ways[name]()
                if given.device.startswith("cuda"):
                    torch.cuda.synchronize()
                taken[name] = time.perf_counter() - began
            rounds.append(taken)
            losses.append(found)
        trained = sum(parameter.numel() for parameter in cached.parameters)
    return {
        "rounds": rounds, "losses": losses, "prepared": prepared, "clips": len(Shards(shards)), "batch": given.batch,
        "trained": trained,
    }  # fmt: skip


def step(made: Trainer) -> float:
    """Train a step and return its loss."""
    losses = made.train_step()
    made.step += 1
    return losses["mse"]


def scaling(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Clips per second of one process and of two, each with one thread and a core of its own, by `vidrd train`."""
    shards, model, rates = folder / "shards", folder / "model", {}
    for count in (1, 2):
        steps = {"steps": 2 * given.rounds, "log_every": given.rounds}
        path = write_recipe(folder / f"processes_{count}", model, shards, True, given, **steps)
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "--no-python"]
        launch += [sys.executable]
        command = [sys.executable, *(launch if count > 1 else []), "-c", PINNED, "train", str(path)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = (folder / f"processes_{count}" / "clip" / "log.jsonl").read_text().splitlines()
        pace = [entry["steps_per_s"] for entry in map(json.loads, lines) if "steps_per_s" in entry]
        rates[str(count)] = pace[-1] * given.batch * count
    return rates


def report(found: dict[str, Any]) -> str:
    """A Markdown table, and the ratios to the plain loop."""
    lines = ["| | s a step | clips a second | loss |", "| --- " * 4 + "|"]
    for name in found["rounds"][0]:
        taken = statistics.median(turn[name] for turn in found["rounds"])
        loss = statistics.fmean(turn[name] for turn in found["losses"])
        lines.append(f"| {name} | {taken:.3f} | {found['batch'] / taken:.2f} | {loss:.3f} |")
    lines.append("")
    for name in [name for name in found["rounds"][0] if name != "diffusers"]:
        ratios = sorted(turn["diffusers"] / turn[name] for turn in found["rounds"])
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds"
        lines.append(f"{name}: {statistics.median(ratios):.2f} times as many clips a second as diffusers ({spread})")
    lines.append(f"latents and captions of {found['clips']} clips took {found['prepared']:.1f} s, once")
    if rates := found.get("processes"):
        ratio = f"{rates['2'] / rates['1']:.2f} times the clips of one ({rates['1']:.2f} a second)"
        lines.append(f"two processes of one thread: {ratio}")
    return "\n".join(lines)


def main() -> None:
    """Run all parts and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--width", choices=UNET_WIDTHS, default="half", help="of the networks; full is ModelScope's")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=128, help="pixels along a side")
    parser.add_argument("--batch", type=int, default=2, help="clips")
    parser.add_argument("--train", choices=("paper", "temporal", "all"), default="paper", help="which parameters")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="of mixed precision, for all ways")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--processes", action="store_true", help="also one process against two")
    parser.add_argument("-o", "--out", type=Path, help="also write all numbers there, as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(given, Path(name))
        if given.processes:
            found["processes"] = scaling(given, Path(name))
    print(report(found))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
