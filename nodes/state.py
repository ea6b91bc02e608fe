"""The nodes Save VidRD State and Load VidRD State."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from vidrd_core.state import ClipState

from .host import folders, state_files
from .schema import CATEGORY, SAID, State, check_prefix, schema

_CATEGORY = f"{CATEGORY}/state"


class SaveState(io.ComfyNode):
    """Saves a state to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_SaveState",
            display_name="Save VidRD State",
            category=_CATEGORY,
            description="Saves a state to a safetensors file, to resume the video later with bit-identical results, "
            "or to branch from this clip.",
            search_aliases=["resume", "checkpoint", "vidrd"],
            is_output_node=True,
            inputs=[
                State.Input(
                    "state",
                    tooltip="The state to save, from Extend, Long Video, Sample Clip or Reuse & Diffuse State.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="vidrd/video",
                    tooltip="The file name in the output folder, to which the clip's number and a counter are added. "
                    "Files are never overwritten.",
                ),
            ],
            outputs=[
                State.Output(display_name="same state", tooltip="The same state, passed through."),
                io.String.Output(display_name="file", tooltip="The file name, as listed by Load VidRD State."),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return check_prefix(filename_prefix)

    @classmethod
    def execute(cls, state: ClipState, filename_prefix: str) -> io.NodeOutput:
        name = state_files.save(state, filename_prefix)
        return io.NodeOutput(state, name, ui={"text": [name], SAID: [f"saved as {name}"]})


class LoadState(io.ComfyNode):
    """Loads a state from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadState",
            display_name="Load VidRD State",
            category=_CATEGORY,
            description="Loads a saved state, to resume or branch a video: connect it to Reuse & Diffuse Extend.",
            search_aliases=["resume", "branch", "continue video", "vidrd"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=state_files.saved_states(),
                    tooltip="A state file in the output or input folder, newest first.",
                ),
            ],
            outputs=[
                State.Output(display_name="state", tooltip="The state for Reuse & Diffuse Extend."),
                io.Int.Output(display_name="clip", tooltip="The number of the clip, starting at 0."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        # Replaces the host's check against the list of options, which lacks files saved since the page was loaded.
        if file is None:  # the input is connected
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
