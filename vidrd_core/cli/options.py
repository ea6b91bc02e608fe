"""The options that commands share: settings of the command line alone, and what every option is called there."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from vidrd_core.cli import completion
from vidrd_core.cli.errors import InputError
from vidrd_core.cli.settings_options import Group, Shape

WIDEST = 100  # columns of a help page
VIDEO, CLIP, REUSE, SINGLE = "The video", "Each clip", "From clip to clip", "Single clips"
MANY = "Many videos"
STATES, MODEL, MACHINE = "Stop, resume and repeat", "The model", "The machine"
RESULT, REST = "The result", "Options"


@dataclass(frozen=True)
class VideoOptions:
    """The video that is made.

    Args:
        output: Where the video goes: a name in .mp4, .webm, .gif, .webp or .apng, or 'folder/' for PNG frames.
        clips: Clips to make; the last prompt repeats.
        fps: Frames per second.
        scale: Enlarge each pixel to a square of this side, so that small frames stay sharp.
        travel: Clips over which a prompt fades in; -1: the first frames.
    """

    output: str
    clips: int | None = None
    fps: float = 8.0
    scale: int | None = None
    travel: int = 0


@dataclass(frozen=True)
class PresetOptions:
    """Reuse settings by name.

    Args:
        preset: Settings for a purpose, which the options below override: paper; 'keep moving', forward order;
            'loop on purpose', which also ends where it began; anchored, with the first clip's colours; 'for this
            model', which is 'keep moving' here.
    """

    preset: str | None = None


@dataclass(frozen=True)
class ApproximateOptions:
    """How closely a state has to fit.

    Args:
        approximate: Allow other --steps or another --solver than the state's; prompt frames then replay the old clip
            nearly, not exactly.
    """

    approximate: bool = False


@dataclass(frozen=True)
class PerClipOptions:
    """Values of single clips.

    Args:
        seed_per_clip: Seeds of single clips, with commas between: ',,7' sets the third clip's.
        cfg_per_clip: The same for --cfg.
        alpha_per_clip: The same for --alpha.
    """

    seed_per_clip: str = ""
    cfg_per_clip: str = ""
    alpha_per_clip: str = ""


@dataclass(frozen=True)
class StateOptions:
    """Where states are kept.

    Args:
        state_dir: Keep the state of each finished clip in this folder, to resume or to branch from.
    """

    state_dir: Path | None = None


@dataclass(frozen=True)
class ResumeOptions:
    """Resuming a run.

    Args:
        resume: Continue after the clips in --state-dir, bit for bit.
    """

    resume: bool = False


@dataclass(frozen=True)
class SaveStateOptions:
    """The state of the newest clip.

    Args:
        save_state: Keep only the newest clip's state, in this file.
    """

    save_state: Path | None = None


@dataclass(frozen=True)
class ManyOptions:
    """Many videos.

    Args:
        prompts_file: A video, in the folder -o, for each line of a text, or of a .csv with columns named as options.
        format: mp4, webm, gif, webp, apng or png (a folder each).
        batch: Videos sampled together; the last bits depend on it.
        ray: Make them on Ray (pip install 'ray[data]').
        ray_address: A cluster's address, or auto; implies --ray.
        workers: Ray's workers, each with a GPU if there are any.
    """

    prompts_file: Path | None = None
    format: str = "mp4"
    batch: int | None = None
    ray: bool = False
    ray_address: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class ModelOptions:
    """The model.

    Args:
        model: A built-in model (see 'vidrd models'), or a file or folder: VidRD, Stable Diffusion 1.x or 2.x,
            ModelScope or ZeroScope.
        vae: Another VAE for its latents.
        text_encoder: Another text encoder, or a folder with the tokenizer for its own.
        temporal: Temporal layers for an image model, whose frames would otherwise be unrelated.
        lora: A LoRA, with strength 1 by default; may be given several times.
        prediction: What the UNet predicts, if its file does not say.
        schedule: Its noise schedule, if its file does not say.
        dtype: The type that the UNet computes with. "auto" is float32, but in `vidrd generate` bfloat16 on a CPU that
            has AMX, and for a state's next clips the state's.
    """

    model: str = "tiny"
    vae: str | None = None
    text_encoder: str | None = None
    temporal: str | None = None
    lora: list[str] | None = None
    prediction: Literal["eps", "v"] | None = None
    schedule: Literal["scaled_linear", "linear"] | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


@dataclass(frozen=True)
class MachineOptions:
    """The machine.

    Args:
        device: auto (CUDA, else MPS, else the CPU), cpu, cuda, cuda:1 or mps.
        storage: Keep the UNet's weights in 8 bits: half the memory of float16, slightly lower quality.
        offload: What waits in main memory: parts, all but the part that computes; blocks, all but one block of the
            UNet (slower).
        tile: Decode frames larger than this in tiles of this size, in less memory.
        threads: CPU threads; their number can change the last bits.
    """

    device: str = "auto"
    storage: Literal["float8_e4m3fn", "float8_e5m2"] | None = None
    offload: Literal["none", "parts", "blocks"] = "none"
    tile: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class ReportOptions:
    """What is printed.

    Args:
        quiet: Print nothing but errors.
    """

    quiet: bool = False


SHAPES = {
    "output": Shape("FILE", ("--output", "-o")),
    "clips": Shape("COUNT", default="one for each prompt"),
    "fps": Shape("RATE"),
    "scale": Shape("FACTOR", default="what makes it 256 high"),
    "travel": Shape("CLIPS"),
    "preset": Shape("NAME", default="paper", complete=completion.presets),
    "prompt_frames": Shape("M"),
    "anchor": Shape("SHARE", ("--anchor", "--drift")),
    "beta": Shape("SHARE"),
    "alpha": Shape("RATIO"),
    "steps": Shape("T"),
    "cfg": Shape("SCALE", default="the model's"),
    "negative": Shape("PROMPT"),
    "frames": Shape("N", default="the model's"),
    "width": Shape("PIXELS", default="the model's"),
    "height": Shape("PIXELS", default="the model's"),
    "prompt_interval": Shape("CALLS"),
    "deep_interval": Shape("CALLS"),
    "seed_per_clip": Shape("LIST"),
    "cfg_per_clip": Shape("LIST"),
    "alpha_per_clip": Shape("LIST"),
    "state_dir": Shape("FOLDER"),
    "resume": Shape(names=("--resume",)),
    "approximate": Shape(names=("--approximate",)),
    "save_state": Shape("FILE"),
    "prompts_file": Shape("FILE"),
    "batch": Shape("COUNT", default="1 on a CPU, up to 8 on a GPU"),
    "ray": Shape(names=("--ray",)),
    "ray_address": Shape("ADDRESS", default="one started here"),
    "workers": Shape("COUNT", default="all GPUs"),
    "model": Shape("MODEL", complete=completion.models),
    "vae": Shape("FILE", default="the model's"),
    "text_encoder": Shape("FILE", default="the model's"),
    "temporal": Shape("FILE"),
    "lora": Shape("FILE[:STRENGTH]"),
    "tile": Shape("PIXELS"),
    "threads": Shape("COUNT", default="all cores"),
    "quiet": Shape(names=("--quiet", "-q")),
}
AS_STATE = "as the state"
_HERE = "vidrd_core.cli.options"
_SAMPLE, _REUSE = "vidrd_core.settings:SampleSettings", "vidrd_core.reuse:ReuseSettings"
VIDEO_GROUP = Group(f"{_HERE}:VideoOptions", VIDEO)
SAMPLE_GROUP = Group(_SAMPLE, CLIP, partial=True)
PRESET_GROUP = Group(f"{_HERE}:PresetOptions", REUSE)
REUSE_GROUP = Group(_REUSE, REUSE, partial=True, leave_out=("warmup_latents",))
PER_CLIP_GROUP = Group(f"{_HERE}:PerClipOptions", SINGLE)
STATE_GROUP = Group(f"{_HERE}:StateOptions", STATES)
RESUME_GROUP = Group(f"{_HERE}:ResumeOptions", STATES)
SAVE_STATE_GROUP = Group(f"{_HERE}:SaveStateOptions", STATES)
APPROXIMATE_GROUP = Group(f"{_HERE}:ApproximateOptions", REUSE)
MANY_GROUP = Group(f"{_HERE}:ManyOptions", MANY)
MODEL_GROUP = Group(f"{_HERE}:ModelOptions", MODEL)
MACHINE_GROUP = Group(f"{_HERE}:MachineOptions", MACHINE)
REPORT_GROUP = Group(f"{_HERE}:ReportOptions", MACHINE)

Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT", show_default=False, help="What each clip shows.")]
PromptsOrFile = Annotated[
    list[str] | None, typer.Argument(metavar="PROMPT", show_default=False, help="What each clip shows.")
]


def panel_option(panel: str, *names: str, default: str | bool = True, **details: Any) -> Any:
    """An option of one command alone, shown in a panel of its help."""
    return typer.Option(*names, rich_help_panel=panel, show_default=default, **details)


class Command(TyperCommand):
    """A command whose help shows its options under headings, with defaults and without types.

    Neither help nor completion shows the older names of options.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to a formatter."""
        formatter.write(help_page(self, ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises InputError for an option that is given by two of its names."""
        words = {word.partition("=")[0] for word in takewhile("--".__ne__, args)}
        for each in self.get_params(ctx):
            given = [name for name in _long(each.opts) if name in words]
            if len(given) > 1 and not ctx.resilient_parsing:
                raise InputError(f"{' and '.join(given)} are one option: give one of them")
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the name of an option."""
        hidden = {name for each in self.get_params(ctx) for name in _long(each.opts)[1:]}
        return [each for each in super().shell_complete(ctx, incomplete) if each.value not in hidden]


class Commands(TyperGroup):
    """A group of commands with such a help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to a formatter."""
        formatter.write(help_page(self, ctx, {name: self.commands[name] for name in self.list_commands(ctx)}))


def show_help(context: typer.Context) -> None:
    """Show the help of a group of commands that is called without one.

    Args:
        context: Its context.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def help_page(command: Any, ctx: Any, commands: dict[str, Any] | None = None) -> str:
    """Lay out the help of a command, as wide as the terminal but at most `WIDEST` columns.

    Args:
        command: Typer's command.
        ctx: Its context.
        commands: The commands of a group by name.

    Returns:
        Lines of plain text.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    panels: dict[str, list[tuple[str, str]]] = {}
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    for each in arguments:
        panels.setdefault("Arguments", []).append((_argument_name(each), each.help or ""))
    for each in command.get_params(ctx):
        if each.param_type_name == "option" and not each.hidden:
            last = next(reversed(panels), "Options") if each.name == "help" and not commands else "Options"
            panels.setdefault(each.rich_help_panel or last, []).append((_option_names(each), _about(each)))
    for name, inner in (commands or {}).items():
        panels.setdefault("Commands", []).append((name, next(_paragraphs(inner.help), "")))
    words = [ctx.command_path, "[OPTIONS]", *map(_argument_name, arguments), *["COMMAND ..."] * bool(commands)]
    lines = [f"Usage: {' '.join(words)}"]
    for paragraph in _paragraphs(command.help):
        lines += ["", *textwrap.wrap(paragraph, width)]
    first = min(24, max((len(name) for rows in panels.values() for name, _ in rows), default=0))
    for panel in sorted(panels, key=lambda panel: panel == "Options"):  # --help comes last
        lines += ["", f"{panel}:"]
        for name, about in panels[panel]:
            head, *rest = textwrap.wrap(about, width - first - 4) or [""]
            lines += (
                [f"  {name:{first}}  {head}".rstrip()]
                if len(name) <= first
                else [f"  {name}", " " * (first + 4) + head]
            )
            lines += [" " * (first + 4) + line for line in rest]
    if command.epilog:
        lines += ["", "Examples:", *(f"  {line}" for line in command.epilog.splitlines())]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in (text or "").split("\n\n"):
        if paragraph.strip():
            yield " ".join(paragraph.split())


def _argument_name(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()) + "..." * (
        argument.nargs == -1 and "..." not in str(argument.metavar)
    )
    return name if argument.required else f"[{name}]"


def _option_names(option: Any) -> str:
    """The names of an option and the placeholder of its value; aliases after its first long name are hidden."""
    names = [*(name for name in option.opts if not name.startswith("--")), *_long(option.opts)[:1]]
    names += option.secondary_opts[:1]
    return ", ".join(names) + (f" {option.metavar}" if option.metavar and not option.is_flag else "")


def _long(names: list[str]) -> list[str]:
    """The long ones of an option's names; those after the first are older names."""
    return [name for name in names if name.startswith("--")]


def _about(option: Any) -> str:
    about = option.help or ""
    if option.required:
        return f"{about} Required."
    shown = option.show_default
    if isinstance(shown, str):
        return f"{about} [default: {shown}]"
    if shown and not option.is_flag and option.default not in (None, "") and not callable(option.default):
        default = f"{option.default:g}" if isinstance(option.default, float) else option.default
        return f"{about} [default: {default}]"
    return about
