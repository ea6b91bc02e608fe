"""VidRD Decode & Write Clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from .host.video import KINDS, GrowingVideo, VideoSettings, preview_files, write_clip
from .schema import CATEGORY, check_choices, check_prefix, schema


def video_inputs() -> list[Any]:
    """How a video is written."""
    return [
        io.String.Input(
            "filename_prefix",
            default="vidrd/video",
            tooltip="The name, in the output folder; a number is put after it, so that nothing is overwritten.",
        ),
        io.Combo.Input(
            "format",
            options=list(KINDS),
            default="mp4",
            tooltip="mp4: H.264, plays everywhere. webm: VP9. gif: 50 frames a second at most. png: a folder.",
        ),
        io.Float.Input(
            "fps", default=8.0, min=0.01, max=1000.0, step=0.5, round=0.001, tooltip="Frames shown in a second."
        ),
        io.Int.Input(
            "scale",
            default=1,
            min=1,
            max=16,
            tooltip="Enlarges each pixel so many times along each side. 4 suits the built-in tiny model, whose small "
            "frames players would blur.",
        ),
    ]


def check_rate(kind: str, fps: float) -> None:
    """Raise ValueError for a rate that a GIF cannot have."""
    if kind == "gif" and fps > 50:
        raise ValueError(
            f"fps is {fps:g}, but a GIF shows at most 50 frames a second: write mp4 or webm, or give less"
        )


class WriteClip(io.ComfyNode):
    """A clip put at the end of a video file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_WriteClip",
            display_name="VidRD Decode & Write Clip",
            category=CATEGORY,
            description="Decodes a clip's new frames and writes them to a video file, or puts them at the end of the "
            "video that is wired to before. A frame is decoded beside those of the clips before, so there is no "
            "seam, and memory does not grow with the video. A run that is cancelled keeps the clips that are "
            "finished. The clips of a list, as loops give it, are written one after the other.",
            search_aliases=["save video", "vae decode", "video combine", "mp4", "append video", "vidrd"],
            is_output_node=True,
            not_idempotent=True,
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Latent.Input("latent", tooltip="What the clip adds: the new frames of Reuse & Diffuse Extend."),
                io.Vae.Input("vae", tooltip="The VAE that decodes them."),
                *video_inputs(),
                io.Video.Input(
                    "before",
                    optional=True,
                    tooltip="The video so far, from the Decode & Write Clip of the clip before: its file grows, and "
                    "its name, format, fps and scale stay. Nothing wired: a new file.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="The video so far, for the next clip or any video node."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, format: list[str] | None = None, filename_prefix: list[str] | None = None) -> bool | str:
        told = check_choices(cls, format=format[0] if format else None)
        return told if isinstance(told, str) else check_prefix(filename_prefix[0] if filename_prefix else None)

    @classmethod
    def execute(
        cls,
        latent: list[Any],
        vae: list[Any],
        filename_prefix: list[str],
        format: list[str],
        fps: list[float],
        scale: list[int],
        before: list[Any] | None = None,
    ) -> io.NodeOutput:
        if not before:
            check_rate(format[0], fps[0])
        settings = VideoSettings(filename_prefix[0], format[0], fps[0], scale[0])
        metadata = {**(cls.hidden.extra_pnginfo or {}), "prompt": cls.hidden.prompt}
        video: Any = before[0] if before else None
        for clip in latent:
            video = write_clip(clip, vae[0], settings, video, metadata)
        return io.NodeOutput(video, ui=_shown(video))


def _shown(video: GrowingVideo) -> ui.PreviewVideo | ui.SavedImages:
    """The video in the node; of PNG frames, those of the newest clip."""
    folder, names = preview_files(video)
    saved = [ui.SavedResult(name, folder, io.FolderType.output) for name in names]
    return ui.SavedImages(saved) if Path(names[0]).suffix == ".png" else ui.PreviewVideo(saved)
