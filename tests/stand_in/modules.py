"""Empty modules in place of those of ComfyUI that nodes need only when they run."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

from comfy_api import Anything

PACKAGES = (
    *("aiohttp", "comfy", "comfy_execution", "comfy_extras", "comfyui_version"),
    *("latent_preview", "node_helpers", "server"),
)
SAMPLERS = """
    euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast
    dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp
    dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm
    ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral res_multistep_ancestral_cfg_pp
    gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc
    uni_pc_bh2
"""
SCHEDULERS = "simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal"


class KSampler:
    """The samplers and schedulers of 0.3.64."""

    SAMPLERS, SCHEDULERS = SAMPLERS.split(), SCHEDULERS.split()


class EmptyModule(ModuleType):
    """A module that has every attribute."""

    def __getattr__(self, name: str) -> Any:
        return KSampler if (self.__name__, name) == ("comfy.samplers", "KSampler") else getattr(Anything, name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes every module of the host's packages."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in PACKAGES:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """The modules are empty."""


def install() -> None:
    """Make ComfyUI's modules importable in this process."""
    sys.meta_path.insert(0, Finder())
