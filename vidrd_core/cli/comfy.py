"""The commands `vidrd comfy`: workflows of ComfyUI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli import options as o
from vidrd_core.cli.errors import InputError, input_checked, note, say, set_quiet
from vidrd_core.cli.settings_options import Group, command, nonempty_path

_EPILOG = """vidrd comfy extend text_to_video_wan.json --clips 4 -o long.json
vidrd comfy extend wan.json --prompt "a fox runs" --prompt "the fox sleeps" -M 2 -o foxes.json"""
_REPORT = Group(o.REPORT_GROUP.settings, o.REST)

app = typer.Typer(
    name="comfy",
    help="Rewrite workflows of ComfyUI, as files.",
    callback=o.show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
    cls=o.Commands,
    epilog=_EPILOG,
)


@app.command(cls=o.Command, epilog=_EPILOG)
@command(shapes=o.SHAPES, report=_REPORT)
def extend(
    workflow: Annotated[
        Path,
        typer.Argument(
            metavar="WORKFLOW",
            parser=nonempty_path,
            help="A JSON file, as ComfyUI saves or exports it, in the page's or in the API format.",
        ),
    ],
    output: Annotated[
        Path,
        o.panel_option(
            o.RESULT, "--output", "-o", metavar="FILE", parser=nonempty_path, help="Where the long one goes."
        ),
    ],
    report: o.ReportOptions,
    clips: Annotated[
        int | None,
        o.panel_option(
            o.RESULT, "--clips", metavar="N", min=1, default="one for each prompt, or 4", help="The number of clips."
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        o.panel_option(
            o.RESULT,
            "--prompt",
            metavar="TEXT",
            default="the workflow's",
            help="A clip's prompt, given once for each; the last is used for clips that remain. The sampler must "
            "take it from CLIP Text Encode directly.",
        ),
    ] = None,
    prompt_frames: Annotated[
        int | None,
        o.panel_option(
            o.RESULT,
            "--prompt-frames",
            "-M",
            metavar="M",
            min=0,
            default="the preset's",
            help="The latents of a clip that replay the previous one. With --order alone it is 4.",
        ),
    ] = None,
    order: Annotated[
        str | None,
        o.panel_option(
            o.RESULT,
            "--order",
            metavar="mirror|forward|auto",
            default="the preset's",
            help="auto: forward for models whose VAE compresses time, else mirror. With -M alone it is auto.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        o.panel_option(
            o.RESULT,
            "--preset",
            metavar="NAME",
            default="for this model; as set here with -M or --order",
            help="What clips reuse, by the names of the nodes: paper, keep moving, loop on purpose, anchored, "
            "for this model, or as set here for the nodes' own values.",
        ),
    ] = None,
    overwrite: Annotated[bool, o.panel_option(o.RESULT, "--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Make the video of a workflow long: its sampler, decoder and saver give way to this pack's nodes.

    Models, LoRAs, conditioning, latents, notes and groups stay, and widgets keep their values. Where it cannot, it
    names the node in the way.
    """
    set_quiet(report.quiet)
    from vidrd_core.comfy.extend import extend_workflow
    from vidrd_core.comfy.graphs import WorkflowError
    from vidrd_core.comfy.workflow import read_workflow
    from vidrd_core.io.atomic import write_json

    prompts = prompt or []
    for number, text in enumerate(prompts, 1):
        if any("\ud800" <= each <= "\udfff" for each in text):  # bytes that Python could not decode
            raise InputError(f"--prompt {number} is no UTF-8 text: {text!a}; write it in UTF-8")
    with input_checked():
        found = read_workflow(workflow)
    if order not in (None, "mirror", "forward", "auto"):
        raise InputError(f"--order is {order!r}, expected mirror, forward or auto")
    if output.suffix.lower() != ".json":
        raise InputError(f"--output is {output}, expected a file name in .json, as long.json")
    if os.path.lexists(output) and not overwrite:
        raise InputError(f"{output} is there already: give another name, or --overwrite")
    try:
        done = extend_workflow(found, clips or len(prompts) or 4, prompts, prompt_frames, order, preset)
    except WorkflowError as error:
        raise InputError(f"{workflow}: {error}") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    with input_checked():
        target = Path(os.path.realpath(output))  # a link stays one
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_json(target, found.data)
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise InputError(
                f"{workflow} holds half a character, {half}, in a text: delete it in the page"
            ) from error
    for line in done.notes:
        note(line)
    say(f"{output}: {clips or len(prompts) or 4} clips by {', '.join(done.samplers)}")
