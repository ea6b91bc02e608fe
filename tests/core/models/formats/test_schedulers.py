"""scheduler_config.json of each class of diffusers: followed as that class computes it, or refused by name."""

import contextlib
import importlib
import inspect
import json
import pkgutil
import types

import diffusers
import pytest
import torch
from diffusers import schedulers as package

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.detect import diffusion_of
from vidrd_core.models.formats.schedulers import SCHEDULERS, SERVED, UNUSED
from vidrd_core.models.formats.unet import FoundUNet

from . import originals

VIDEO = FoundUNet({}, UNet3DConfig(), "diffusers", "")
SOLVER_CLASSES = {
    "ddim": "DDIMScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}


@pytest.fixture(scope="module")
def signatures():
    """What each class of diffusers takes for the settings of its file, by the names of both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importlib.sys.modules, "torchsde", types.ModuleType("torchsde"))
        found = {}
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if "scheduling_" not in module.name or "flax" in module.name:
                continue
            try:
                classes = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            except ImportError:  # of libraries that are not installed
                continue
            for name, kind in classes:
                if name.endswith("Scheduler") and kind.__module__ == module.name:
                    given = inspect.signature(kind.__init__).parameters
                    found[name] = {key: each.default for key, each in given.items() if key not in ("self", "kwargs")}
    return found


def diffusion(folder, config):
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return diffusion_of(folder, VIDEO)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_missing_keys_have_diffusers_own_defaults(name, signatures):
    theirs = signatures[name]
    assert {key: value for key, value in SCHEDULERS[name].defaults.items() if key in theirs} == {
        key: value for key, value in theirs.items() if key in SCHEDULERS[name].defaults
    }


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_setting_of_a_class_is_read_or_refused(name, signatures):
    scheduler = SCHEDULERS[name]
    own = scheduler.served | scheduler.served_at_sigma_min
    known = {*scheduler.defaults, *SERVED, *UNUSED, "lambda_min_clipped"}
    if name in SOLVER_CLASSES.values():
        assert set(signatures[name]) <= known | set(own)
    # A class with another solver than ours has settings of its own, which change nothing here.
    others = {"solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final"}
    assert set(signatures[name]) <= known | set(own) | others
    assert all(signatures[name][key] in values for key, values in own.items())
    assert all(signatures[name][key] in values for key, values in SERVED.items() if key in signatures[name])


def test_all_keys_are_ones_of_diffusers(signatures):
    known = {key for settings in signatures.values() for key in settings}
    assert {*SERVED, *UNUSED} <= known


def test_classes_of_other_noise_schedules_and_few_step_models_are_refused_by_name(signatures, tmp_path):
    refused = [name for name in signatures if name not in SCHEDULERS]
    assert {"FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "IPNDMScheduler", "LCMScheduler"} <= set(refused)
    for name in [*refused, "MyScheduler"]:
        with pytest.raises(FormatError, match=f"the scheduler is of the class {name}, whose sampling is not support"):
            diffusion(tmp_path, {"_class_name": name, "num_train_timesteps": 1000})


NOISY = {"final_sigmas_type": "sigma_min"}
CLIPS = {"clip_sample": True}


@pytest.mark.parametrize(
    ("solver", "settings", "steps"),
    [
        *((solver, {}, 8) for solver in SOLVER_CLASSES),  # a file of its class alone
        *(
            (solver, {"beta_schedule": "scaled_linear", "timestep_spacing": "leading"}, 7)
            for solver in SOLVER_CLASSES
        ),
        ("heun", {"timestep_spacing": "leading", **CLIPS}, 6),
        ("heun", {"timestep_spacing": "leading", **CLIPS, "clip_sample_range": 0.4}, 6),
        # Where the last timestep is 0, a last step clips and does nothing else.
        *(
            (
                "ddim",
                {**CLIPS, "clip_sample_range": size, "set_alpha_to_one": False, "timestep_spacing": spacing},
                steps,
            )
            for size in (1.0, 0.3)
            for spacing, steps in (
                ("leading", 6),
                ("linspace", 6),
                ("trailing", 7),
                ("trailing", 100),
                ("leading", 1),
            )
        ),
        ("ddim", {**CLIPS, "set_alpha_to_one": False, "num_train_timesteps": 50, "timestep_spacing": "trailing"}, 50),
        ("dpmpp_2m", {"solver_type": "bh2", "algorithm_type": "deis", **NOISY}, 6),
        ("dpmpp_2m", {"lower_order_final": False, "euler_at_final": True}, 6),
        ("dpmpp_2m", {"lambda_min_clipped": -5.1}, 6),
        *(  # whose last noise levels are far above those of Stable Diffusion's betas
            (
                solver,
                {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": spacing},
                7,
            )
            for solver in ("ddim", "dpmpp_2m", "unipc")
            for spacing in ("trailing", "linspace")
        ),
    ],
)
def test_a_file_is_sampled_as_its_class_samples(solver, settings, steps, tmp_path):
    kind = getattr(diffusers, SOLVER_CLASSES[solver])
    found = diffusion(tmp_path, {"_class_name": SOLVER_CLASSES[solver], **settings})
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = originals.scheduled(kind(**settings), noise, steps)
    made = originals.sampled(found, noise, steps, solver)
    # diffusers' ddim begins at an alpha of 0, ours at 2^-24, as its other classes.
    off = 5e-4 if solver == "ddim" and "rescale_betas_zero_snr" in settings else 1e-4
    torch.testing.assert_close(made, expected, rtol=off, atol=off)


@pytest.mark.parametrize(
    ("solver", "settings", "message"),
    [
        (
            "dpmpp_2m",
            {"algorithm_type": "sde-dpmsolver++"},
            "algorithm_type of DPMSolverMultistepScheduler is 'sde-dp",
        ),
        (
            "dpmpp_2m",
            {"algorithm_type": "dpmsolver", **NOISY},
            "algorithm_type .* is 'dpmsolver', expected 'dpmsolver\\+\\+'",
        ),
        ("dpmpp_2m", {"solver_order": 1}, "solver_order of DPMSolverMultistepScheduler is 1, expected 2"),
        ("dpmpp_2m", {"solver_order": 3}, "solver_order .* is 3, expected 2"),
        ("dpmpp_2m", {"solver_type": "heun"}, "solver_type .* is 'heun', expected 'midpoint'"),
        ("dpmpp_2m", {"lower_order_final": False, **NOISY}, "lower_order_final .* is False, expected True"),
        ("dpmpp_2m", {"euler_at_final": True, **NOISY}, "euler_at_final .* is True, expected False"),
        ("dpmpp_2m", {"lambda_min_clipped": -1.1}, r"lambda_min_clipped is -1.1, expected -5.\d+ or less"),
        ("dpmpp_2m", {"variance_type": "learned_range"}, "variance_type is 'learned_range', expected None"),
        ("unipc", {"solver_type": "bh1"}, "solver_type of UniPCMultistepScheduler is 'bh1', expected 'bh2'"),
        ("unipc", {"solver_order": 3}, "solver_order of UniPCMultistepScheduler is 3"),
        ("unipc", {"predict_x0": False, **NOISY}, "predict_x0 .* is False, expected True"),
        ("unipc", {"disable_corrector": [0, 1]}, r"disable_corrector .* is \[0, 1\], expected \[\]"),
        ("unipc", {"lower_order_final": False, **NOISY}, "lower_order_final .* is False, expected True"),
    ],
)
def test_settings_that_change_the_result_of_its_class_are_refused_by_name(solver, settings, message, tmp_path):
    kind = SOLVER_CLASSES[solver]
    with pytest.raises(FormatError, match=f"the scheduler's {message}"):
        diffusion(tmp_path, {"_class_name": kind, **settings})
    # In diffusers they do change it.
    plain = diffusion(tmp_path, {"_class_name": kind, **{k: v for k, v in settings.items() if k in NOISY}})
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = getattr(diffusers, kind)(**settings)
    if "variance_type" not in settings:  # by which a network gives twice the channels
        steps = 20 if "euler_at_final" in settings else 6
        with torch.random.fork_rng():
            expected = originals.scheduled(theirs, noise, steps)
        made = originals.sampled(plain, noise, steps, solver)
        assert not torch.allclose(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["DEISMultistepScheduler", "DPMSolverSinglestepScheduler", "SASolverScheduler"])
def test_settings_of_another_solver_than_ours_do_not_matter(name, tmp_path):
    settings = {"solver_order": 3, "solver_type": "heun", "lower_order_final": False, "lambda_min_clipped": -1.1}
    assert diffusion(tmp_path, {"_class_name": name, **settings}) == diffusion(tmp_path, {"_class_name": name})


def test_switches_that_are_null_are_off(tmp_path):
    config = {"_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": None, "thresholding": None}
    assert diffusion(tmp_path, config) == diffusion(tmp_path, {"_class_name": "UniPCMultistepScheduler"})


@pytest.mark.parametrize("name", sorted(SOLVER_CLASSES.values()))
def test_values_of_any_type_are_read_or_refused(name, signatures, tmp_path):
    odd = [True, -1, 10**20, 1e308, float("nan"), "", "x", [], [[]], ["a", 1], {}, {"a": []}]
    for key in signatures[name]:
        for value in odd:
            with contextlib.suppress(FormatError):
                diffusion(tmp_path, {"_class_name": name, key: value})
