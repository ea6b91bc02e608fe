"""The nodes Contact Sheet and Compare Settings."""

from __future__ import annotations

from itertools import product
from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import GraphBuilder
from torch import Tensor

from vidrd_core.reports.contact_sheet_rows import SheetRow, add_clip, draw_sheet
from vidrd_core.state import ClipState

from .host.images import image_to_frames, picture_to_image
from .host.progress import show_clip_count
from .host.video import decode_clip
from .schema import (
    CATEGORY,
    RAW_LINK,
    check_choices,
    clip_inputs,
    internal_schema,
    more_reuse_inputs,
    reuse_inputs,
    schema,
    staging_input,
    state_input,
)
from .seam_report import prompt_of

Rows = io.Custom("VIDRD_ROWS")
DECODE = "VidRD_DecodeNewFrames"
MAX_COMBINATIONS = 36
_LINKED = ("model", "positive", "negative", "latent", "vae")


class ContactSheet(io.ComfyNode):
    """Lays clips out as rows of frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_ContactSheet",
            display_name="Contact Sheet",
            category=CATEGORY,
            description="Lays out the frames of a clip as a new row below the previous rows, or appends them to the "
            "last row after a bar. Rows of several clips also show figures for their seams.",
            search_aliases=["vidrd", "grid", "film strip", "compare"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames of a clip."),
                io.String.Input("label", default="", tooltip="The text above the row."),
                io.Int.Input(
                    "height", default=96, min=16, max=1024, tooltip="The height of a frame in the sheet, in pixels."
                ),
                io.Boolean.Input(
                    "same_row",
                    default=False,
                    tooltip="On: appends the clip to the last row and keeps that row's label.",
                ),
                Rows.Input("rows", optional=True, tooltip="The rows so far. Not connected: this is the first row."),
                state_input(
                    "The state of the clip. With that of a model of the drawn world, the figures also tell whether "
                    "its thing stays the same and moves on. Not connected: they do not."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The image that the node shows."),
                Rows.Output(display_name="rows", tooltip="All rows, for the next Contact Sheet."),
                io.String.Output(display_name="text", tooltip="The labels with their figures, one per line."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        label: str,
        height: int,
        same_row: bool,
        rows: tuple[SheetRow, ...] = (),
        state: ClipState | None = None,
    ) -> io.NodeOutput:
        rows = add_clip(rows, label, image_to_frames(images), same_row, prompt_of(state))
        picture = picture_to_image(draw_sheet(rows, height))
        text = "\n".join(row.summary() for row in rows)
        return io.NodeOutput(picture, rows, text, ui=ui.PreviewImage(picture, cls=cls))


class DecodeNewFrames(io.ComfyNode):
    """Decodes the new frames of a clip together with those before them, as Decode & Write Clip does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id=DECODE,
            display_name="VidRD Decode New Frames",
            description="The new frames of a clip of Compare Settings, which makes these nodes by itself.",
            inputs=[io.Latent.Input("latent"), io.Vae.Input("vae")],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(cls, latent: Any, vae: Any) -> io.NodeOutput:
        return io.NodeOutput(decode_clip(latent, vae))


class CompareSettings(io.ComfyNode):
    """Makes a short video with each combination of settings, laid out as a contact sheet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        sampling = [each for each in clip_inputs() if each.id not in _LINKED]
        links = {each.id: each for each in clip_inputs()}
        order = [each for each in reuse_inputs() if each.id == "order"]
        return schema(
            node_id="VidRD_CompareSettings",
            display_name="Compare Settings",
            category=CATEGORY,
            description="Makes a short video for each combination of M, alpha and beta, all from the same first "
            "clip, and shows them as a contact sheet with figures. Finished combinations are not made again.",
            search_aliases=["vidrd", "xy plot", "grid", "ablation", "compare"],
            enable_expand=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip=links["model"].tooltip, **RAW_LINK),
                io.Conditioning.Input("positive", tooltip=links["positive"].tooltip, **RAW_LINK),
                io.Conditioning.Input("negative", tooltip=links["negative"].tooltip, **RAW_LINK),
                io.Latent.Input("latent", tooltip=links["latent"].tooltip, **RAW_LINK),
                io.Vae.Input("vae", tooltip="The VAE that decodes the clips.", **RAW_LINK),
                *sampling,
                io.String.Input(
                    "prompt_frames_values",
                    default="2, 4",
                    tooltip="Values of M to compare, separated by commas: whole numbers.",
                ),
                io.String.Input(
                    "alpha_values", default="1, 4", tooltip="Values of alpha to compare, separated by commas."
                ),
                io.String.Input(
                    "beta_values", default="0.4", tooltip="Values of beta to compare, 0 to 1, separated by commas."
                ),
                *order,
                io.Int.Input("clips", default=3, min=2, max=16, tooltip="Clips per video."),
                io.Int.Input(
                    "height", default=96, min=16, max=1024, tooltip="The height of a frame in the sheet, in pixels."
                ),
                *(each for each in more_reuse_inputs() if each.id in ("noise_policy", "release", "drift")),
                staging_input(),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The image that the node shows."),
                io.String.Output(display_name="text", tooltip="The combinations with their figures, one per line."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        sampler_name: str | None = None,
        scheduler: str | None = None,
        order: str | None = None,
        noise_policy: str | None = None,
        release: str | None = None,
        staging: str | None = None,
    ) -> bool | str:
        return check_choices(
            cls,
            sampler_name=sampler_name,
            scheduler=scheduler,
            order=order,
            noise_policy=noise_policy,
            release=release,
            staging=staging,
        )

    @classmethod
    def execute(
        cls,
        prompt_frames_values: str,
        alpha_values: str,
        beta_values: str,
        clips: int,
        height: int,
        **settings: Any,
    ) -> io.NodeOutput:
        vae = settings.pop("vae")
        points = combinations(prompt_frames_values, alpha_values, beta_values)
        graph = GraphBuilder()

        def decoded(name: str, latent: Any) -> Any:
            return graph.node(DECODE, f"decode_{name}", latent=latent, vae=vae).out(0)

        # The first clip records as many frames as the combination with the most prompt frames needs.
        most = max(points, key=lambda point: point["prompt_frames"])
        first = graph.node("VidRD_Extend", "clip_1", **settings, **most)
        first_images = decoded("1", first.out(0))
        rows, sheet_node, made = None, None, 1
        for number, point in enumerate(points):
            state = first.out(2)
            for clip in range(clips):
                images = first_images
                if clip:
                    made += 1
                    extend = graph.node("VidRD_Extend", f"clip_{made}", **settings, **point, state=state)
                    state, images = extend.out(2), decoded(str(made), extend.out(0))
                row = {"images": images, "label": _label(point), "height": height, "same_row": clip > 0}
                row |= {} if clip else {"state": state}
                sheet_node = graph.node("VidRD_ContactSheet", f"sheet_{number + 1}_{clip + 1}", **row)
                sheet_node.set_input("rows", rows)
                rows = sheet_node.out(1)
        assert sheet_node is not None
        show_clip_count(made)
        return io.NodeOutput(sheet_node.out(0), sheet_node.out(2), expand=graph.finalize())


def combinations(counts: str, alphas: str, betas: str) -> list[dict[str, Any]]:
    """List all combinations of settings.

    Args:
        counts: Values of M, separated by commas.
        alphas: Values of alpha, separated by commas.
        betas: Values of beta, separated by commas.

    Returns:
        Values of `prompt_frames`, `alpha` and `beta`, as inputs of Reuse & Diffuse Extend; beta varies fastest.

    Raises:
        ValueError: For an entry that is not a number, an empty list, or more than `MAX_COMBINATIONS` combinations.
    """
    values = {
        "prompt_frames": _numbers("prompt_frames_values", counts, int),
        "alpha": _numbers("alpha_values", alphas, float),
        "beta": _numbers("beta_values", betas, float),
    }
    found = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    if len(found) > MAX_COMBINATIONS:
        raise ValueError(
            f"there are {len(found)} combinations, expected {MAX_COMBINATIONS} at most: give fewer values"
        )
    return found


def _numbers(name: str, text: str, kind: Any) -> list[Any]:
    """The distinct numbers of a text, in order."""
    try:
        found = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{name} is {text!r}, expected {what} separated by commas, such as 2, 4") from error
    if not found:
        raise ValueError(f"{name} is empty, expected one number or more, separated by commas")
    return list(dict.fromkeys(found))


def _label(point: dict[str, Any]) -> str:
    """The label of a combination in the sheet."""
    return f"M {point['prompt_frames']}, alpha {point['alpha']:g}, beta {point['beta']:g}"
