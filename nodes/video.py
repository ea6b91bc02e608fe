"""The node VidRD Decode & Write Clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from vidrd_core.video.sinks import FASTEST

from .host import kept_clips
from .host.named_values import value_of
from .host.progress import clip_position, show_output
from .host.video import KINDS, GrowingVideo, VideoSettings, preview_files, temporary_name, write_clip
from .schema import CATEGORY, SAID, THUMBNAILS, check_prefix, require_choices, schema


def video_inputs() -> list[Any]:
    """The inputs of a video file."""
    return [
        io.String.Input(
            "filename_prefix",
            default="vidrd/video",
            tooltip="The file name in the output folder, to which a counter is added. Files are never overwritten.",
        ),
        io.Combo.Input(
            "format",
            options=list(KINDS),
            default="mp4",
            tooltip="The file format. mp4: H.264, plays everywhere. webm: VP9. gif: at most 50 fps. png: a folder of "
            "frames. webp and apng: animated pictures in full colour, at most 90 fps; apng is lossless.",
        ),
        io.Float.Input(
            "fps",
            default=8.0,
            min=0.01,
            max=1000.0,
            step=0.5,
            round=0.001,
            tooltip="The frame rate, in frames per second.",
        ),
        io.Int.Input(
            "scale",
            default=1,
            min=1,
            max=16,
            tooltip="Enlarges the frames by this factor, without smoothing. 4 suits the built-in tiny model, whose "
            "small frames video players would blur.",
        ),
    ]


def audio_vae_input(**more: Any) -> Any:
    """The input of the VAE that decodes sound."""
    return io.Vae.Input(
        "audio_vae",
        optional=True,
        tooltip="The VAE of the sound, for models that make video and audio together (LTX-2, MiniMax H3): mp4 and "
        "webm files get the sound. Set fps to the clips' own. Not connected: for video alone.",
        **more,
    )


def check_rate(kind: str, fps: float) -> None:
    """Raise ValueError for a frame rate that browsers cannot show of this kind of file."""
    most = FASTEST.get(KINDS[kind], fps)
    if fps > most:
        name = {"gif": "a GIF", "apng": "an APNG"}.get(kind, "a WebP")
        raise ValueError(f"fps is {fps:g}, expected at most {most} for {name}: lower it, or choose mp4 or webm")


class WriteClip(io.ComfyNode):
    """Decodes a clip and appends it to a video file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_WriteClip",
            display_name="VidRD Decode & Write Clip",
            category=CATEGORY,
            description="Decodes the new frames of a clip and writes them to a video file, or appends them to the "
            "video in before. Frames are decoded together with the end of the previous clip, so there is no seam, "
            "and memory use does not grow with the video. A cancelled run keeps the finished clips. A list of clips, "
            "as from a loop, is written in sequence.",
            search_aliases=["save video", "vae decode", "video combine", "mp4", "webp", "append video", "vidrd"],
            is_output_node=True,
            not_idempotent=True,
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            inputs=[
                io.Latent.Input("latent", tooltip="The latents to append: new frames of Reuse & Diffuse Extend."),
                io.Vae.Input("vae", tooltip="The VAE that decodes the latents."),
                *video_inputs(),
                io.Video.Input(
                    "before",
                    optional=True,
                    tooltip="The video so far, from Decode & Write Clip of the previous clip: the clip is appended "
                    "to its file, with that file's name, format, fps and scale. Not connected: a new file.",
                ),
                audio_vae_input(),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="The video up to this clip, for the next clip or any video node."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: list[str] | None = None) -> bool | str:
        return check_prefix(filename_prefix[0] if filename_prefix else None)

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
        audio_vae: list[Any] | None = None,
    ) -> io.NodeOutput:
        require_choices(cls, format=format[0])
        if not before:
            check_rate(format[0], fps[0])
        settings = VideoSettings(filename_prefix[0], format[0], fps[0], scale[0])
        metadata = {**(cls.hidden.extra_pnginfo or {}), "prompt": cls.hidden.prompt}
        video: Any = value_of(before[0]) if before else None
        # Other packs' VAEs may lack these.
        decoders = [
            (getattr(each, "device", None), getattr(each, "vae_dtype", None))
            for each in (vae[0], *(audio_vae or [])[:1])
        ]
        key = kept_clips.key_of_running_node(*decoders, given=[latent, getattr(video, "tail", None)])
        for number, clip in enumerate(latent):
            with_sound = audio_vae[0] if audio_vae else None
            video = write_clip(clip, vae[0], settings, video, metadata, key and f"{key}_{number}", with_sound)
        position = clip_position()
        is_last = position is None or position.clip + 1 == position.clips
        # The page could not play a file that the next clip replaces meanwhile.
        if is_last and _is_carried_on(position.node if position else cls.hidden.unique_id, cls.hidden.prompt):
            video.keep_version()
        elif not is_last:
            video.keep_version(copying=False)
        shown = _shown(video, position.clip + 1 if position else 0)
        if position is None or is_last:
            return io.NodeOutput(video, ui=shown)
        show_output(shown, position)  # its file grows on: only the last clip's is a result of the run
        return io.NodeOutput(video)


def _is_carried_on(node_id: str, prompt: dict[str, Any] | None) -> bool:
    """Whether another node of a prompt, one that writes a file, appends to a node's video."""
    return any(
        "filename_prefix" in inputs and inputs.get("before") == [str(node_id), 0]
        for inputs in (node.get("inputs", {}) for node in (prompt or {}).values())
    )


def _shown(video: GrowingVideo, clips: int) -> dict[str, Any]:
    """The node's output on the page: the video, or the newest frames of PNG; that in words; thumbnails."""
    folder, names = preview_files(video)
    kind = io.FolderType.output
    if video.copy:
        kept = Path(temporary_name(video.copy))
        folder, names, kind = kept.parent.as_posix(), [kept.name], io.FolderType.temp
    saved = [ui.SavedResult(name, folder, kind) for name in names]
    preview = ui.SavedImages(saved) if Path(names[0]).suffix == ".png" else ui.PreviewVideo(saved)
    written = f"{video.path.name}: {video.frames} frames, {video.get_duration():.1f} s"
    pictures = [temporary_name(path) for path in video.thumbnails[-clips:]] if clips else []
    return {**preview.as_dict(), SAID: [written], **({THUMBNAILS: pictures} if pictures else {})}
