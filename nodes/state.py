"""Save and Load VidRD State."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from vidrd_core.state import ClipState

from .host import folders, state_files
from .host.progress import show_status
from .schema import CATEGORY, State, check_prefix, schema

_CATEGORY = f"{CATEGORY}/state"


class SaveState(io.ComfyNode):
    """A state as a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_SaveState",
            display_name="Save VidRD State",
            category=_CATEGORY,
            description="Keeps what a next clip takes over in one safetensors file: to go on tomorrow, bit for bit, "
            "or to branch from this clip again and again.",
            search_aliases=["resume", "checkpoint", "vidrd"],
            is_output_node=True,
            inputs=[
                State.Input("state", tooltip="From Extend, Long Video, Sample Clip or Reuse & Diffuse State."),
                io.String.Input(
                    "filename_prefix",
                    default="vidrd/video",
                    tooltip="The name, in the output folder; the clip's number is put after it. No file is ever "
                    "overwritten.",
                ),
            ],
            outputs=[
                State.Output(display_name="same state", tooltip="The same state, to go on with."),
                io.String.Output(display_name="file", tooltip="The name, as Load VidRD State has it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return check_prefix(filename_prefix)

    @classmethod
    def execute(cls, state: ClipState, filename_prefix: str) -> io.NodeOutput:
        name = state_files.save(state, filename_prefix)
        show_status(f"saved as {name}", None)
        return io.NodeOutput(state, name, ui=ui.PreviewText(name))


class LoadState(io.ComfyNode):
    """A state from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadState",
            display_name="Load VidRD State",
            category=_CATEGORY,
            description="Takes up a video after a saved clip: wire the state into Reuse & Diffuse Extend.",
            search_aliases=["resume", "branch", "continue video", "vidrd"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=state_files.saved_states(),
                    tooltip="A state in the output or input folder, the newest first.",
                ),
            ],
            outputs=[
                State.Output(display_name="state", tooltip="For Reuse & Diffuse Extend."),
                io.Int.Output(display_name="clip", tooltip="The clip's number, from 0."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        # In place of the host's own check against the list, which files made since then are not on.
        if file is None:  # it is wired
            return True
        try:
            ClipState.load(state_files.path_of(file))
        except (ValueError, OSError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> Any:
        return None if file is None else folders.file_version(state_files.path_of(file))

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        state = ClipState.load(state_files.path_of(file))
        return io.NodeOutput(state, state.index)
