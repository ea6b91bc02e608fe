"""Feature caches of a UNet3D that ComfyUI samples: one for each set of prompts that it computes together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP

from vidrd_core.models.feature_cache import FeatureCache

from .model import FEATURE_CACHES, HOOKS, HostModel

_KEY = "vidrd_feature_cache"


@dataclass
class FeatureCaches:
    """What the network keeps while a clip is denoised.

    ComfyUI computes the prompts of a step together or one by one, as memory allows, and may use several GPUs; what is
    kept of some prompts on one device is not for others. Nor is it for other weights, as hooks change them from step
    to step.

    Args:
        prompt_interval: As in `FeatureCache`.
        deep_interval: Likewise.
    """

    prompt_interval: int
    deep_interval: int
    _caches: dict[Hashable, FeatureCache] = field(default_factory=dict, init=False)
    _replayed: int = field(default=0, init=False)

    def metadata(self) -> dict[str, int]:
        """The intervals that are not 1, as states have them."""
        return {name: value for name in ("prompt_interval", "deep_interval") if (value := getattr(self, name)) > 1}

    def replay(self, frames: int) -> None:
        """In the calls to come, the predictions of the first `frames` frames are not read."""
        self._replayed = frames

    def of_call(self, options: dict[str, Any], device: torch.device) -> FeatureCache | None:
        """The cache for a call with these transformer_options; None in a context window: all of it is computed."""
        prompts = options.get("uuids")
        if prompts is None or options.get("context_window") is not None:
            return None
        cache = self._caches.setdefault(
            (device, options[HOOKS], *prompts), FeatureCache(self.prompt_interval, self.deep_interval)
        )
        cache.replay(self._replayed)
        return cache


def cache_features(
    model: comfy.model_patcher.ModelPatcher, prompt_interval: int, deep_interval: int
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL whose UNet3D keeps features from call to call.

    Args:
        model: A MODEL of VidRD's.
        prompt_interval: As in `FeatureCache`.
        deep_interval: Likewise.

    Returns:
        A clone of it; where both intervals are 1 it computes the same.

    Raises:
        ValueError: The MODEL is of another kind.
    """
    if not isinstance(model.model, HostModel):
        raise ValueError(
            f"the MODEL is {type(model.model).__name__}, expected VidRD's UNet3D, from Load VidRD UNet3D or Inflate "
            "Checkpoint: use EasyCache for models of other kinds"
        )
    model = model.clone()
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, _KEY)  # of an earlier node
    if prompt_interval == deep_interval == 1:
        return model

    def sample_with_new_caches(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        before = guider.model_options
        guider.model_options = comfy.model_patcher.create_model_options_clone(before)
        of_network = guider.model_options.setdefault("transformer_options", {})
        of_network[FEATURE_CACHES] = FeatureCaches(prompt_interval, deep_interval)
        try:
            return executor(*args, **kwargs)
        finally:
            guider.model_options = before

    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _KEY, sample_with_new_caches)
    return model


def caches_of(guider: Any) -> FeatureCaches | None:
    """The caches of a guider that is sampling; None if its network keeps nothing."""
    options = getattr(guider, "model_options", {})
    found: FeatureCaches | None = options.get("transformer_options", {}).get(FEATURE_CACHES)
    return found
