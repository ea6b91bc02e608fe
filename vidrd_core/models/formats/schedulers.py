"""scheduler_config.json of diffusers: a model's diffusion settings by it, and what in it is not supported."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from vidrd_core.io.safetensors import FormatError
from vidrd_core.sampling import DiffusionConfig, Schedule

Served = dict[str, tuple[Any, ...]]
"""Keys of a scheduler_config.json, and the values with which it computes what this package computes."""


@dataclass(frozen=True)
class Scheduler:
    """A class of schedulers of diffusers, for models of Stable Diffusion's kind.

    Args:
        beta_start: What it takes for the key of the same name if its file lacks it, as all up to `clip_sample`.
        beta_end: The same.
        timestep_spacing: The same.
        set_alpha_to_one: The same.
        clip_sample: The same.
        served: Keys by which its own sampling differs from that of the same class here.
        served_at_sigma_min: Those that matter only where it ends at the first timestep's noise level.
    """

    beta_start: float = 0.0001
    beta_end: float = 0.02
    timestep_spacing: str = "linspace"
    set_alpha_to_one: bool = True
    clip_sample: bool = False
    served: Served = field(default_factory=dict)
    served_at_sigma_min: Served = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """What it takes for the keys that are read, where its file lacks them."""
        own = ("beta_start", "beta_end", "timestep_spacing", "set_alpha_to_one", "clip_sample")
        return {**_SHARED_DEFAULTS, **{name: getattr(self, name) for name in own}}


_SHARED_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
    "clip_sample_range": 1.0,
    "final_sigmas_type": "zero",
    "rescale_betas_zero_snr": False,
}
_CLIPPING = Scheduler(timestep_spacing="leading", clip_sample=True)
_KARRAS = Scheduler(beta_start=0.00085, beta_end=0.012)
SCHEDULERS: dict[str, Scheduler] = {
    "DDIMScheduler": _CLIPPING,
    "DDIMParallelScheduler": _CLIPPING,
    "DDPMScheduler": _CLIPPING,
    "DDPMParallelScheduler": _CLIPPING,
    "PNDMScheduler": Scheduler(timestep_spacing="leading", set_alpha_to_one=False),
    "LMSDiscreteScheduler": Scheduler(),
    "EulerDiscreteScheduler": Scheduler(),
    "EulerAncestralDiscreteScheduler": Scheduler(),
    "HeunDiscreteScheduler": _KARRAS,
    "KDPM2DiscreteScheduler": _KARRAS,
    "KDPM2AncestralDiscreteScheduler": _KARRAS,
    "DPMSolverSDEScheduler": _KARRAS,
    "DPMSolverSinglestepScheduler": Scheduler(),
    "DPMSolverMultistepScheduler": Scheduler(
        # diffusers reads the other names as these, too.
        served={
            "solver_order": (2,),
            "algorithm_type": ("dpmsolver++", "deis"),
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),
        },
        served_at_sigma_min={"lower_order_final": (True,), "euler_at_final": (False,)},
    ),
    "DEISMultistepScheduler": Scheduler(),
    "SASolverScheduler": Scheduler(),
    "UniPCMultistepScheduler": Scheduler(
        served={
            "solver_order": (2,),
            "solver_type": ("bh2",),
            "predict_x0": (True,),
            "lower_order_final": (True,),
            "disable_corrector": ([],),
            "solver_p": (None,),
        }
    ),
}
"""The classes whose files are read, by name: those of other names are of other noise schedules or few-step models.

Keys that a class does not have, such as set_alpha_to_one of most, have values here, too: those that change nothing.
"""
SERVED: Served = {  # of any class, as they change the noise levels or predictions that all solvers share
    "thresholding": (False,),
    "use_karras_sigmas": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "use_flow_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "use_dynamic_shifting": (False,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "shift_terminal": (None,),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}
UNUSED = (  # keys that matter only with one that is not served, or for a solver that is none of ours
    "dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type", "sigma_min", "sigma_max",
    "skip_prk_steps", "predictor_order", "corrector_order", "tau_func", "noise_sampler_seed",
)  # fmt: skip
_CHOICES = {  # keys, our fields, and the values that both know
    "beta_schedule": ("schedule", ("linear", "scaled_linear", "squaredcos_cap_v2")),
    "timestep_spacing": ("timestep_spacing", ("leading", "trailing", "linspace")),
    "final_sigmas_type": ("final_sigmas_type", ("zero", "sigma_min")),
}
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}


def diffusion_values(config: dict[str, Any], is_video: bool) -> dict[str, Any]:
    """Fields of DiffusionConfig from a scheduler_config.json.

    Args:
        config: Its values by key; a file without a class is one of DDIMScheduler.
        is_video: Whether the model is a video model; diffusers' pipelines of images change settings.

    Returns:
        Values by the names of the fields; {} for an empty file.

    Raises:
        FormatError: It is of a class, or has a value, that is not supported; the message names it.
    """
    if not config:
        return {}
    name = str(config.get("_class_name", "DDIMScheduler"))
    if (scheduler := SCHEDULERS.get(name)) is None:
        raise FormatError(
            f"the scheduler is of the class {name}, whose sampling is not supported, expected one of "
            f"{', '.join(SCHEDULERS)}: put such a scheduler_config.json there, or take the folder scheduler away"
        )
    told = {key: value for key, value in config.items() if value is not None}
    full = {**scheduler.defaults, **told}
    _refuse(config, SERVED, "")
    _refuse(config, scheduler.served, f" of {name}")
    if full["final_sigmas_type"] == "sigma_min":
        _refuse(config, scheduler.served_at_sigma_min, f" of {name}")
    if (prediction := full["prediction_type"]) not in tuple(_PREDICTIONS):  # which may be a list, of no hash
        raise FormatError(f"the scheduler's prediction_type is {prediction!r}, expected epsilon or v_prediction")
    values: dict[str, Any] = {"prediction": _PREDICTIONS[prediction]}
    for theirs, (ours, known) in _CHOICES.items():
        if full[theirs] not in known:
            raise FormatError(f"the scheduler's {theirs} is {full[theirs]!r}, expected {' or '.join(known)}")
        values[ours] = full[theirs]
    values |= {key: full[key] for key in ("beta_start", "beta_end", "set_alpha_to_one")}
    values["train_steps"] = full["num_train_timesteps"]
    if (betas := full["trained_betas"]) is not None:
        values["trained_betas"] = betas
        if isinstance(betas, list):
            values["train_steps"] = len(betas)
    values["zero_terminal_snr"] = full["rescale_betas_zero_snr"]
    # diffusers' pipelines of images set it to 1, whatever the file says.
    values["steps_offset"] = full["steps_offset"] if is_video else 1
    # They set this to False, too.
    if is_video and full["clip_sample"]:
        values["clip_sample_range"] = full["clip_sample_range"]
    return values


def check_clipping(config: dict[str, Any], diffusion: DiffusionConfig) -> None:
    """Raise FormatError if a scheduler_config.json leaves noisy timesteps out that the diffusion settings have."""
    least = config.get("lambda_min_clipped")
    if config.get("_class_name") != "DPMSolverMultistepScheduler" or not isinstance(least, (int, float)):
        return
    noisiest = -math.log(float(Schedule(diffusion).table[-1]))
    if least > noisiest:
        raise FormatError(
            f"the scheduler's lambda_min_clipped is {least:g}, expected {noisiest:.3g} or less, as the noisiest "
            "timestep has: change it in scheduler_config.json"
        )


def _refuse(config: dict[str, Any], served: Served, owner: str) -> None:
    for key, values in served.items():
        if key not in config or config[key] in values or (config[key] is None and values == (False,)):
            continue
        raise FormatError(
            f"the scheduler's {key}{owner} is {config[key]!r}, expected {' or '.join(map(repr, values))}: nothing "
            "else is supported; change it in scheduler_config.json"
        )
