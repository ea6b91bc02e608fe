"""Does the temporal VAE decoder reduce flicker? Videos decoded by the VAE before and after that stage, and a control.

    python benchmarks/flicker.py runs/tiny              # the folder of a finished `vidrd train`

Before the stage each frame is decoded independently. The control trains its whole decoder for as many steps on the
same clips, but has no temporal layers: its gain comes from the training alone, the rest is due to Temp-Conv. The
scenes stand still, move, or are stills under a moving camera, none of them trained on; their latents are decoded as
they are and with noise, as generated latents are not perfect either.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidrd_core.models.load_parts import load_vae
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.procedural.datasets import ShapesData, StillsData
from vidrd_core.training.config import TrainConfig, load_config
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.vae import flicker, psnr
from vidrd_core.video.tensors import to_video

SEED = 77  # of scenes that no recipe draws
NOISE = (0.0, 0.05, 0.1)  # standard deviations; that of latents is 1
AT_ONCE = 8  # clips


def scenes(config: TrainConfig, clips: int) -> dict[str, Tensor]:
    """Videos of each kind by name, float32 [clips, 3, F, H, W] from -1 to 1."""
    like = {"clips": clips, "size": config.data.size, "seed": SEED}
    moving = ShapesData(**like, frames=config.data.frames, two_objects=0.15)
    camera, still = StillsData(**like, frames=config.data.frames), StillsData(**like, frames=1)
    frames = {
        "standing still": [np.repeat(still.frames_of(i), config.data.frames, axis=0) for i in range(clips)],
        "moving": [moving.frames_of(i) for i in range(clips)],
        "stills under a camera": [camera.frames_of(i) for i in range(clips)],
    }
    return {name: to_video(np.stack(found)) for name, found in frames.items()}


def control(run: Path, config: TrainConfig) -> TemporalVAE:
    """The image VAE after as much more training as the temporal stage has, but without temporal layers."""
    stage = next(stage for stage in config.stages if stage.task == "vae_temporal")
    base = run / "control" / "base"
    base.mkdir(parents=True, exist_ok=True)
    for name, source in (("unet", run / "model"), ("text_encoder", run / "model"), ("vae", before(run, config))):
        path = source if source.is_file() else source / f"{name}.safetensors"
        (base / f"{name}.safetensors").write_bytes(path.read_bytes())
    flat = dataclasses.replace(config.vae, temp_conv_depth=0)
    changed = dataclasses.replace(config, out=run / "control", init=base, vae=flat, stages=(stage,))
    return load_vae(Recipe(changed).run() / "vae.safetensors")


def before(run: Path, config: TrainConfig) -> Path:
    """The file of the image VAE, from before the temporal stage."""
    return run / next(stage.name for stage in config.stages if stage.task == "vae") / "vae.safetensors"


@torch.no_grad()
def measure(vae: TemporalVAE, video: Tensor, noise: float) -> tuple[float, float]:
    """Encode and decode a video.

    Args:
        vae: The VAE.
        video: float32 [B, 3, F, H, W] from -1 to 1.
        noise: The standard deviation of noise that is added to the latents.

    Returns:
        PSNR in dB, and flicker in levels of 255.
    """
    generator, decoded = torch.Generator().manual_seed(0), []
    for part in video.split(AT_ONCE):
        latents = vae.encode(part)
        decoded.append(vae.decode(latents + noise * torch.randn(latents.shape, generator=generator)))
    return psnr(torch.cat(decoded), video), flicker(torch.cat(decoded), video)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="output folder of a recipe with vae and vae_temporal stages")
    parser.add_argument("--recipe", type=Path, help="the recipe, if it is not the built-in model's")
    parser.add_argument("--clips", type=int, default=64)
    given = parser.parse_args()
    packaged = Path(__file__).parents[1] / "vidrd_core" / "training" / "configs" / "tiny.yaml"
    config = load_config(given.recipe or packaged)
    vaes = {
        "frame by frame": load_vae(before(given.run, config)),
        "control": control(given.run, config),
        "temporal": load_vae(given.run / "model" / "vae.safetensors"),
    }
    print("| scenes, noise on latents | " + " | ".join(f"{name}: dB | flicker" for name in vaes) + " |")
    print("| --- " * (1 + 2 * len(vaes)) + "|")
    for name, video in scenes(config, given.clips).items():
        for noise in NOISE:
            found = [measure(vae, video, noise) for vae in vaes.values()]
            row = " | ".join(f"{quality:.2f} | {change:.2f}" for quality, change in found)
            print(f"| {name}, {noise:g} | {row} |")


if __name__ == "__main__":
    main()
