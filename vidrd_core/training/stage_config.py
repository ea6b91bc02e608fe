"""The settings of one training stage: a class for each task, chosen by the recipe's `task:`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from typing import Any, ClassVar

from vidrd_core.io.configs import from_dict, meant

OPTIMIZERS = ("adamw", "adamw8bit", "muon")


@dataclass(frozen=True)
class StageConfig:
    """What every training task has: data, optimiser, EMA, intervals.

    The paper gives no rates, step counts or losses; the defaults are ours.

    Args:
        name: The stage's folder inside the recipe's `out`.
        steps: Optimiser steps.
        batch_size: Clips for each process and batch. Batches of single frames in UNet stages have as many frames as
            that many clips.
        learning_rate: At the end of the warm-up; more than 0.
        rates: Factors of the learning rate for parameters whose names contain a key; the last matching key counts.
        train: Which parameters are trained: a preset of `training.trainable`.
        optimizer: "adamw", "adamw8bit" (bitsandbytes, on a GPU), or "muon" (`training.optimizer.Muon`).
        warmup: Steps over which the learning rate rises linearly.
        final_rate: Factor of the learning rate at the end of the cosine schedule, 0 to 1.
        weight_decay: AdamW's, 0 or more.
        clip_norm: Largest norm of the gradient.
        ema: Largest decay of the exponential moving average, 0 or more and less than 1.
        accumulation: Batches for each optimiser step (gradient accumulation).
        seed: Seed of everything random in the stage.
        weights: Sampling weights of data sources by name, in place of the recipe's.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time, the same bits.
        cuda_graphs: Capture the networks as CUDA graphs, which speeds up small ones. No effect except on one GPU.
        log_every: Steps from one log line to the next.
        sample_every: Steps from one contact sheet of samples to the next.
        checkpoint_every: Steps from one checkpoint to the next.
        evaluate_every: Steps from one loss on held-out clips (`data.held_out`) to the next.

    Raises:
        ValueError: A setting is out of its range; the message names stage, setting and value.
    """

    task: ClassVar[str] = ""
    presets: ClassVar[tuple[str, ...]] = ("all",)

    name: str
    steps: int
    batch_size: int
    learning_rate: float
    rates: dict[str, float] = field(default_factory=dict)
    train: str = "all"
    optimizer: str = "adamw"
    warmup: int = 100
    final_rate: float = 0.0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    accumulation: int = 1
    seed: int = 0
    weights: dict[str, float] = field(default_factory=dict)
    gradient_checkpointing: bool = False
    cuda_graphs: bool = False
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    evaluate_every: int = 500

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or {"/", "\\"} & set(self.name):
            raise ValueError(f"a stage is called {self.name!r}, expected the name of a folder in out")
        for name, value in vars(self).items():
            if isinstance(value, float) and not isfinite(value):
                self._refuse(name, "a finite number")
        if self.train not in self.presets:
            self._refuse("train", f"{_listed(self.presets, 'or')} where task is {self.task}")
        if self.optimizer not in OPTIMIZERS:
            self._refuse("optimizer", f"one of {', '.join(OPTIMIZERS)}")
        every = ("log_every", "sample_every", "checkpoint_every", "evaluate_every")
        self._at_least(1, "steps", "batch_size", "accumulation", *every)
        self._more_than_0("learning_rate", "clip_norm")
        self._share("final_rate")
        self._at_least(0, "warmup", "weight_decay", "seed")
        if not 0 <= self.ema < 1:
            self._refuse("ema", "0 or more and less than 1")
        if self.cuda_graphs and (self.gradient_checkpointing or self.accumulation > 1):
            self._refuse_cuda_graphs()
        self._factors("rates", "parts of parameter names")
        if wrong := {name: weight for name, weight in self.weights.items() if isnan(weight) or weight < 0}:
            raise ValueError(f"stage {self.name}: weights are {wrong}, expected sources with numbers of 0 or more")

    def _refuse(self, name: str, expected: str) -> None:
        raise ValueError(f"stage {self.name}: {name} is {_shown(getattr(self, name))}, expected {expected}")

    def _refuse_cuda_graphs(self) -> None:
        raise ValueError(
            f"stage {self.name}: cuda_graphs is on, with gradient_checkpointing, accumulation or "
            f"adversarial_weight: expected none of these beside it"
        )

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) < least:
                self._refuse(name, f"at least {least}" if least else "0 or more")

    def _more_than_0(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) <= 0:
                self._refuse(name, "more than 0")

    def _share(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                self._refuse(name, "0 to 1")

    def _factors(self, name: str, keys: str) -> None:
        """Check a mapping from names to factors above 0."""
        if wrong := {key: factor for key, factor in getattr(self, name).items() if not 0 < factor < float("inf")}:
            raise ValueError(f"stage {self.name}: {name} are {wrong}, expected {keys} with numbers above 0")

    def shaping(self) -> dict[str, Any]:
        """The settings that change the result, by name, `task` among them: all but the intervals.

        Settings of later versions are left out where they are off, so that runs of older ones go on.
        """
        settings = {"task": self.task, **dataclasses.asdict(self)}
        later = ("shift_weight", "temporal_gain")
        return {
            name: value
            for name, value in settings.items()
            if not name.endswith("_every") and (value or name not in later)
        }


@dataclass(frozen=True)
class UNetStageConfig(StageConfig):
    """What the tasks on the UNet and its text encoder have in common.

    Args:
        caption_dropout: Share of captions left empty, for classifier-free guidance.
        plain_share: Share of captions that are the plain, complete description (of procedural clips).
        emphasis: Words with factors: clips whose plain caption has the word are drawn that many times as often.
        number_share: Share of the batches of single frames that give the network each frame's position in its clip.
        lora_rank: Rank of the LoRA layers of the preset "lora".
        words_weight: Weight of the text encoder's auxiliary loss: which words the caption has.
        places_weight: Weight of the frame embedding's auxiliary loss: where the caption's sprites are.
        pictures_weight: Weight of the frame pictures' auxiliary loss: the latents, as far as the caption gives them.
    """

    presets: ClassVar[tuple[str, ...]] = ("all", "unet", "paper", "temporal", "lora")

    caption_dropout: float = 0.1
    plain_share: float = 0.0
    emphasis: dict[str, float] = field(default_factory=dict)
    number_share: float = 0.85
    lora_rank: int = 16
    words_weight: float = 0.0
    places_weight: float = 0.0
    pictures_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("caption_dropout", "plain_share", "number_share")
        self._at_least(1, "lora_rank")
        self._at_least(0, "words_weight", "places_weight", "pictures_weight")
        self._factors("emphasis", "words")


@dataclass(frozen=True)
class CaptionStageConfig(UNetStageConfig):
    """Task `captions`: the auxiliary losses alone, before there is anything to denoise."""

    task: ClassVar[str] = "captions"


@dataclass(frozen=True)
class ImageStageConfig(UNetStageConfig):
    """Task `image`: denoising of single frames with the 2D UNet and the text encoder.

    Args:
        timestep_power: Timesteps are T * u ** power, u uniform in 0 to 1: below 1, noisy ones are drawn more often.
        min_snr: gamma of the loss weights min(SNR, gamma) (Hang et al., arXiv 2303.09556); 0 turns them off.
        noise_offset: Scale of additional noise that is constant over a clip's frames and pixels, so that brightness
            is learned; 0 turns it off.
    """

    task: ClassVar[str] = "image"

    timestep_power: float = 1.0
    min_snr: float = 0.0
    noise_offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._more_than_0("timestep_power")
        self._at_least(0, "min_snr", "noise_offset")


@dataclass(frozen=True)
class ClipStageConfig(ImageStageConfig):
    """Task `clip`: denoising of clips, which trains the temporal layers (VidRD, section 4.1).

    Args:
        image_share: Share of the batches that are of single frames.
        prompt_share: Share of the clips whose first frames are given (clean, or less noisy) and not predicted.
        prompt_frames: How many first frames are given (M).
        prompt_noise: Timestep of the given frames, as a share of the clip's timestep; 0 keeps them clean.
        temporal_gain: Spread of the last weights of new Temp-Convs (`models.temporal.randomise`); 0 leaves an image
            model as it is.
    """

    task: ClassVar[str] = "clip"

    image_share: float = 0.0
    prompt_share: float = 0.0
    prompt_frames: int = 2
    prompt_noise: float = 0.0
    temporal_gain: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("image_share", "prompt_share", "prompt_noise")
        self._at_least(1, "prompt_frames")
        self._at_least(0, "temporal_gain")


@dataclass(frozen=True)
class VAEStageConfig(StageConfig):
    """What the tasks on the VAE have in common: the losses of its decoder.

    Args:
        l1_weight: Weight of the absolute error.
        perceptual_weight: Weight of the perceptual distance.
        perceptual: TorchScript file of a network that gives the distance of two batches of images [B, 3, H, W] in
            -1 to 1, such as LPIPS.
        adversarial_weight: Weight of the generator loss, beside the adaptive weight (Esser et al., arXiv 2012.09841).
        adversarial_from: First step with the discriminator.
    """

    presets: ClassVar[tuple[str, ...]] = ("all", "decoder", "temporal")

    l1_weight: float = 0.1
    perceptual_weight: float = 0.0
    perceptual: str | None = None
    adversarial_weight: float = 0.0
    adversarial_from: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "l1_weight", "perceptual_weight", "adversarial_weight", "adversarial_from")
        if self.cuda_graphs and self.adversarial_weight:
            self._refuse_cuda_graphs()
        if bool(self.perceptual) != bool(self.perceptual_weight):
            raise ValueError(
                f"stage {self.name}: perceptual is {self.perceptual!r} and perceptual_weight "
                f"{self.perceptual_weight}, expected both or neither: the network's file, and its weight"
            )


@dataclass(frozen=True)
class ImageVAEStageConfig(VAEStageConfig):
    """Task `vae`: encoder and decoder of the VAE on single frames.

    Args:
        kl_weight: Weight of the KL divergence of the latents from N(0, 1).
        shift_weight: Weight of the error of frames whose latents are moved, of frames of 24 pixels or more and three
            places of latents (`training.vae.shift_error`); 0 turns it off.
    """

    task: ClassVar[str] = "vae"

    kl_weight: float = 1e-4
    shift_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "kl_weight", "shift_weight")


@dataclass(frozen=True)
class TemporalVAEStageConfig(VAEStageConfig):
    """Task `vae_temporal`: the VAE's decoder on clips (VidRD, section 4.2).

    Args:
        change_weight: Weight of the absolute error of the changes between neighbouring frames.
    """

    task: ClassVar[str] = "vae_temporal"

    change_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "change_weight")


STAGE_CONFIGS: dict[str, type[StageConfig]] = {
    kind.task: kind
    for kind in (ImageVAEStageConfig, CaptionStageConfig, ImageStageConfig, ClipStageConfig, TemporalVAEStageConfig)
}
VAE_TASKS = {task for task, kind in STAGE_CONFIGS.items() if issubclass(kind, VAEStageConfig)}


def read_stage(values: Any) -> StageConfig:
    """Read a stage from its entry in a recipe.

    Args:
        values: The settings by name; `task` decides which others there may be.

    Returns:
        The settings of the stage, of its task's class in `STAGE_CONFIGS`.

    Raises:
        ValueError: A setting is unknown, belongs to other tasks, is missing, of the wrong type or out of its range;
            the message names stage, setting and value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"a stage is {values!r}, expected names with values")
    what = f"stage {values['name']}" if values.get("name") else "a stage"
    owners = {name: [t for t, kind in STAGE_CONFIGS.items() if name in _settings(kind)] for name in _every_setting()}
    if "task" not in values:
        if unknown := sorted(str(name) for name in values if name not in owners):
            raise ValueError(f"{what} has no setting {meant(unknown, {'task', *owners})}; it lacks task")
        raise ValueError(f"{what} lacks task, expected one of {', '.join(STAGE_CONFIGS)}")
    task = values["task"]
    if not isinstance(task, str) or task not in STAGE_CONFIGS:
        raise ValueError(f"{what}: task is {task!r}, expected one of {', '.join(STAGE_CONFIGS)}")
    if misplaced := [name for name in values if name in owners and task not in owners[name]]:
        reasons = [f"{n} is no setting of task {task}; it belongs to {_listed(owners[n], 'and')}" for n in misplaced]
        it = "it" if len(misplaced) == 1 else "them"
        raise ValueError(f"{what}: {'; '.join(reasons)}: remove {it} from this stage")
    return from_dict(STAGE_CONFIGS[task], {name: value for name, value in values.items() if name != "task"}, what)


def _settings(kind: type[StageConfig]) -> set[str]:
    return {each.name for each in dataclasses.fields(kind)}


def _every_setting() -> set[str]:
    return set().union(*map(_settings, STAGE_CONFIGS.values()))


def _listed(names: Sequence[str], last: str) -> str:
    """Names as a list in words: "a, b and c"."""
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)
