"""The node Inflate Checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .host import folders
from .host.model import inflate_model
from .loaders import WEIGHT_DTYPES, file_input, weight_dtype_input
from .schema import CATEGORY, check_choices, schema

FOLDER = "diffusion_models"
NONE = "none"


class InflateCheckpoint(io.ComfyNode):
    """A video model (MODEL) from an image model's UNet and temporal layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        known = folders.choices(FOLDER)
        return schema(
            node_id="VidRD_InflateCheckpoint",
            display_name="Inflate Checkpoint",
            category=f"{CATEGORY}/loaders",
            description="Turns an image model into a video model: the UNet of a Stable Diffusion checkpoint or "
            "fine-tune, with temporal layers from another file. The MODEL works like that of Load VidRD UNet3D.",
            search_aliases=["vidrd", "inflate", "temporal layers", "motion", "sd1.5 to video", "video model loader"],
            inputs=[
                file_input(
                    FOLDER,
                    "a Stable Diffusion 1 or 2 UNet for the spatial layers. Temporal layers of a video model are "
                    "ignored.",
                ),
                io.Combo.Input(
                    "temporal",
                    options=[known[0], NONE, *known[1:]],
                    default=known[0],
                    tooltip="The source of the temporal layers: a file with these only, or a VidRD, ModelScope or "
                    "ZeroScope UNet3D of the same widths. none: frames are independent images.",
                ),
                weight_dtype_input(),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def validate_inputs(
        cls, file: str | None = None, temporal: str | None = None, weight_dtype: str | None = None
    ) -> bool | str:
        return check_choices(cls, file=file, temporal=temporal, weight_dtype=weight_dtype)

    @classmethod
    def execute(cls, file: str, temporal: str, weight_dtype: str) -> io.NodeOutput:
        return io.NodeOutput(inflate_model(*_paths(file, temporal), *WEIGHT_DTYPES[weight_dtype]))

    @classmethod
    def fingerprint_inputs(cls, file: str, temporal: str, **_: Any) -> Any:
        return [path and folders.weights_version(path) for path in _paths(file, temporal)]


def _paths(file: str, temporal: str) -> tuple[Path, Path | None]:
    """The files of the UNet and of the temporal layers."""
    layers = None if temporal == NONE else folders.path_of(temporal, FOLDER, "unet")
    return folders.path_of(file, FOLDER, "unet"), layers
