"""The node VidRD Feature Cache."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.feature_cache import cache_features
from .schema import CATEGORY, schema

MOST = 100  # of an interval


class FeatureCache(io.ComfyNode):
    """A MODEL that computes only a part of its network in some calls."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_FeatureCache",
            display_name="VidRD Feature Cache",
            category=CATEGORY,
            description="Makes clips in less time, at a small loss of quality: what VidRD's UNet3D computes in one "
            "step is used in the next ones, too. Connect it between the loader and the sampler.",
            search_aliases=["vidrd", "faster", "speed", "deepcache", "easycache", "teacache"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL from Load VidRD UNet3D or Inflate Checkpoint."),
                io.Int.Input(
                    "prompt_interval",
                    default=1,
                    min=1,
                    max=MOST,
                    tooltip="While prompt frames replay, they are computed in every n-th call of the model only. 1: "
                    "in every call, which is exact. Acts where a clip extends another one.",
                ),
                io.Int.Input(
                    "deep_interval",
                    default=2,
                    min=1,
                    max=MOST,
                    tooltip="The deep levels of the UNet, with most of its work, are computed in every n-th call of "
                    "the model only, as in DeepCache. 1: in every call, which is exact.",
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def execute(cls, model: Any, prompt_interval: int, deep_interval: int) -> io.NodeOutput:
        return io.NodeOutput(cache_features(model, prompt_interval, deep_interval))
