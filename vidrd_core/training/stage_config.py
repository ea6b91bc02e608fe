"""The settings of one stage of training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from vidrd_core.training.trainable import PRESETS

TASKS = ("vae", "captions", "image", "clip", "vae_temporal")
VAE_TASKS = {"vae", "vae_temporal"}
OPTIMIZERS = ("adamw", "adamw8bit")


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; settings that a stage does not use are ignored by it.

    Where the paper is silent (all of rates, steps and losses), the defaults are ours.
    """

    name: str
    task: str  # one of TASKS
    steps: int
    batch_size: int  # clips a process; in steps on single frames of UNet stages, as many frames as those clips have
    learning_rate: float
    rates: dict[str, float] = field(default_factory=dict)  # part of a name -> factor on the rate; the last one fits
    train: str = "all"  # which parameters: a preset of training.presets
    optimizer: str = "adamw"
    warmup: int = 100
    final_rate: float = 0.0  # of the cosine's end, as a factor
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    accumulation: int = 1
    seed: int = 0
    weights: dict[str, float] = field(default_factory=dict)  # of sources of data, in place of the recipe's
    gradient_checkpointing: bool = False  # computes anew what memory need not hold
    cuda_graphs: bool = False  # starts a small network's kernels all at once; without effect but on one GPU

    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    evaluate_every: int = 500  # the loss on what data.held_out holds out

    # of the UNet's stages
    caption_dropout: float = 0.1  # for classifier-free guidance
    plain_share: float = 0.0  # of the captions that say all there is to say, plainly
    emphasis: dict[str, float] = field(default_factory=dict)  # word -> how many times as often its clips are drawn
    timestep_power: float = 1.0  # t = T * u**power: below 1, noisy steps are drawn more often
    min_snr: float = 0.0  # gamma of the loss's weights (Hang et al., 2023); 0 is none
    noise_offset: float = 0.0  # of a noise alike in all of a clip's pixels, so that brightness is learned; 0 is none
    image_share: float = 0.0  # of the batches of a clip stage that are of single frames
    number_share: float = 0.85  # of the batches of single frames that tell the frame's number in its clip
    prompt_share: float = 0.0  # of the clips that go on from first frames which are kept clean, or less noisy
    prompt_frames: int = 2  # how many these are (M)
    prompt_noise: float = 0.0  # their timestep, as a share of the clip's
    lora_rank: int = 16  # of the preset lora
    words_weight: float = 0.0  # of the text encoder's own loss: what the caption says
    places_weight: float = 0.0  # of the frame embedding's own loss: where the caption's sprites are
    pictures_weight: float = 0.0  # of the frame pictures' own loss: the latents, as far as the caption tells them

    # of the VAE's stages
    kl_weight: float = 1e-4
    l1_weight: float = 0.1
    change_weight: float = 0.1  # of the change from frame to frame
    perceptual_weight: float = 0.0
    perceptual: str | None = None  # a TorchScript file that gives a distance of pictures [B, 3, H, W] in -1 .. 1
    adversarial_weight: float = 0.0  # times the adaptive weight (Esser et al., 2021)
    adversarial_from: int = 0  # step

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or {"/", "\\"} & set(self.name):
            raise ValueError(f"a stage is called {self.name!r}, expected the name of a folder in out")
        for name, value in vars(self).items():
            if isinstance(value, float) and not isfinite(value):
                raise ValueError(f"stage {self.name}: {name} is {value}, expected a finite number")
        for name, known in (("task", TASKS), ("train", tuple(PRESETS)), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"stage {self.name}: {name} is {getattr(self, name)!r}, expected one of {', '.join(known)}"
                )
        of_vae = self.task in VAE_TASKS
        if self.train == ("lora" if of_vae else "decoder"):
            fitting = "all, decoder or temporal" if of_vae else "all, paper, temporal or lora"
            raise ValueError(
                f"stage {self.name}: train is {self.train!r}, expected {fitting} where task is {self.task}"
            )
        every = ("log_every", "sample_every", "checkpoint_every", "evaluate_every")
        for name in ("steps", "batch_size", "accumulation", "prompt_frames", "lora_rank", *every):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "clip_norm", "timestep_power"):
            if getattr(self, name) <= 0:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected more than 0")
        shares = ("plain_share", "image_share", "number_share", "prompt_share", "prompt_noise")
        for name in ("final_rate", "caption_dropout", *shares):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected 0 to 1")
        losses = [f.name for f in dataclasses.fields(self) if f.name.endswith("_weight")]
        for name in ("warmup", "weight_decay", "seed", "min_snr", "noise_offset", "adversarial_from", *losses):
            if getattr(self, name) < 0:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}, expected 0 or more")
        if not 0 <= self.ema < 1:
            raise ValueError(f"stage {self.name}: ema is {self.ema}, expected 0 or more and less than 1")
        if self.cuda_graphs and (self.gradient_checkpointing or self.accumulation > 1 or self.adversarial_weight):
            raise ValueError(
                f"stage {self.name}: cuda_graphs is on, with gradient_checkpointing, accumulation or "
                f"adversarial_weight: expected none of these beside it"
            )
        if bool(self.perceptual) != bool(self.perceptual_weight):
            raise ValueError(
                f"stage {self.name}: perceptual is {self.perceptual!r} and perceptual_weight "
                f"{self.perceptual_weight}, expected both or neither: the network's file, and how much it counts"
            )
        for name, keys in (("rates", "parts of names"), ("emphasis", "words")):
            given = getattr(self, name).items()
            if wrong := {key: factor for key, factor in given if not isinstance(factor, int | float) or factor <= 0}:
                raise ValueError(f"stage {self.name}: {name} are {wrong}, expected {keys} with numbers above 0")

    def shaping(self) -> dict[str, Any]:
        """The settings that shape the result, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if not name.endswith("_every")}
