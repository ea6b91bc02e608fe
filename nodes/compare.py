"""Contact Sheet, and Compare Settings."""

from __future__ import annotations

from itertools import product
from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import GraphBuilder
from torch import Tensor

from vidrd_core.reports.contact_sheet_rows import Row, added, sheet

from .host.images import image_to_frames, picture_to_image
from .host.progress import show_clip_count
from .schema import CATEGORY, check_choices, clip_inputs, more_reuse_inputs, reuse_inputs, schema

Rows = io.Custom("VIDRD_ROWS")
MOST = 36  # combinations
_LINKED = ("model", "positive", "negative", "latent", "vae")
_LINK: dict[str, Any] = {"extra_dict": {"rawLink": True}}


class ContactSheet(io.ComfyNode):
    """Clips as rows of frames, beneath those before."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_ContactSheet",
            display_name="Contact Sheet",
            category=CATEGORY,
            description="Lays the frames of a clip out as a row beneath the rows before, or at the end of the last "
            "one, after a bar. Rows of more than one clip say how these meet.",
            search_aliases=["vidrd", "grid", "film strip", "compare"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames of a clip."),
                io.String.Input("label", default="", tooltip="What is written above the row."),
                io.Int.Input("height", default=96, min=16, max=1024, tooltip="Pixels that a frame is high here."),
                io.Boolean.Input(
                    "same_row", default=False, tooltip="On: the clip goes on in the last row, whose label stays."
                ),
                Rows.Input("rows", optional=True, tooltip="The rows so far. Nothing wired: this is the first one."),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The picture that the node shows."),
                Rows.Output(display_name="rows", tooltip="For the next Contact Sheet."),
                io.String.Output(display_name="text", tooltip="The labels with their figures, a line each."),
            ],
        )

    @classmethod
    def execute(
        cls, images: Tensor, label: str, height: int, same_row: bool, rows: tuple[Row, ...] = ()
    ) -> io.NodeOutput:
        rows = added(rows, label, image_to_frames(images), same_row)
        picture = picture_to_image(sheet(rows, height))
        text = "\n".join(row.said() for row in rows)
        return io.NodeOutput(picture, rows, text, ui=ui.PreviewImage(picture, cls=cls))


class CompareSettings(io.ComfyNode):
    """What each of some settings makes of one prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        sampling = [each for each in clip_inputs() if each.id not in _LINKED]
        links = {each.id: each for each in clip_inputs()}
        kept = [each for each in reuse_inputs() if each.id == "order"]
        return schema(
            node_id="VidRD_CompareSettings",
            display_name="Compare Settings",
            category=CATEGORY,
            description="Makes a short video of each combination of M, alpha and beta, from the same first clip, and "
            "lays them out as a contact sheet with figures. Combinations that were made stay made.",
            search_aliases=["vidrd", "xy plot", "grid", "ablation", "compare"],
            enable_expand=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip=links["model"].tooltip, **_LINK),
                io.Conditioning.Input("positive", tooltip=links["positive"].tooltip, **_LINK),
                io.Conditioning.Input("negative", tooltip=links["negative"].tooltip, **_LINK),
                io.Latent.Input("latent", tooltip=links["latent"].tooltip, **_LINK),
                io.Vae.Input("vae", tooltip="The VAE that decodes the clips.", **_LINK),
                *sampling,
                io.String.Input(
                    "prompt_frames_values", default="2, 4", tooltip="Values of M, with commas between: whole numbers."
                ),
                io.String.Input("alpha_values", default="1, 4", tooltip="Values of alpha, with commas between."),
                io.String.Input("beta_values", default="0.4", tooltip="Values of beta, 0 to 1, with commas between."),
                *kept,
                io.Int.Input("clips", default=3, min=2, max=16, tooltip="Clips of each video."),
                io.Int.Input("height", default=96, min=16, max=1024, tooltip="Pixels that a frame is high here."),
                *(each for each in more_reuse_inputs() if each.id in ("noise_policy", "release", "drift")),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The picture that the node shows."),
                io.String.Output(display_name="text", tooltip="Each combination with its figures, a line each."),
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
    ) -> bool | str:
        return check_choices(
            cls,
            sampler_name=sampler_name,
            scheduler=scheduler,
            order=order,
            noise_policy=noise_policy,
            release=release,
        )

    @classmethod
    def execute(
        cls,
        prompt_frames_values: str,
        alpha_values: str,
        beta_values: str,
        clips: int,
        height: int,
        **given: Any,
    ) -> io.NodeOutput:
        vae = given.pop("vae")
        points = combinations(prompt_frames_values, alpha_values, beta_values)
        graph = GraphBuilder()

        def decoded(name: str, latent: Any) -> Any:
            return graph.node("VAEDecode", f"decode_{name}", samples=latent, vae=vae).out(0)

        most = max(points, key=lambda point: point["prompt_frames"])
        first = graph.node("VidRD_Extend", "clip_1", **given, **most)  # which keeps as much as any of them takes over
        begun = decoded("1", first.out(0))
        rows, drawn, made = None, None, 1
        for number, point in enumerate(points):
            state = first.out(2)
            for clip in range(clips):
                images = begun
                if clip:
                    made += 1
                    extend = graph.node("VidRD_Extend", f"clip_{made}", **given, **point, state=state)
                    state, images = extend.out(2), decoded(str(made), extend.out(0))
                shown = {"images": images, "label": _label(point), "height": height, "same_row": clip > 0}
                drawn = graph.node("VidRD_ContactSheet", f"sheet_{number + 1}_{clip + 1}", **shown)
                drawn.set_input("rows", rows)
                rows = drawn.out(1)
        assert drawn is not None
        show_clip_count(made)
        return io.NodeOutput(drawn.out(0), drawn.out(2), expand=graph.finalize())


def combinations(counts: str, alphas: str, betas: str) -> list[dict[str, Any]]:
    """All of them. Raises ValueError for what are no numbers, or for too many."""
    values = {
        "prompt_frames": _numbers("prompt_frames_values", counts, int),
        "alpha": _numbers("alpha_values", alphas, float),
        "beta": _numbers("beta_values", betas, float),
    }
    found = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    if len(found) > MOST:
        raise ValueError(f"there are {len(found)} combinations, expected {MOST} at most: give fewer values")
    return found


def _numbers(name: str, text: str, kind: Any) -> list[Any]:
    try:
        found = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{name} is {text!r}, expected {what} with commas between, such as 2, 4") from error
    if not found:
        raise ValueError(f"{name} is empty, expected one number or more, with commas between")
    return list(dict.fromkeys(found))


def _label(point: dict[str, Any]) -> str:
    return f"M {point['prompt_frames']}, alpha {point['alpha']:g}, beta {point['beta']:g}"
