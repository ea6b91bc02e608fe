"""The package's readers of foreign files, with files for each that are damaged, and the errors that each declares."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1e6  # of a weight or a latent that could be meant


class NonsenseError(AssertionError):
    """A reader accepted what cannot be meant."""


@dataclass(frozen=True)
class Kind:
    """A kind of foreign file.

    Args:
        name: Its name.
        make: Writes sample files into a folder; each entry of the folder is a sample, a folder one of several files.
        read: Reads a sample, as the commands do, and raises NonsenseError for what it should not have accepted.
        declared: The errors that its readers declare.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], None]
    declared: tuple[type[BaseException], ...] = (OSError, ValueError)


def _finite(what: str, tensors: Iterable[Any]) -> None:
    import torch

    for tensor in tensors:
        values = torch.as_tensor(tensor)
        if values.is_floating_point() and not bool(values.float().isfinite().all()):
            raise NonsenseError(f"{what} hold numbers that are not finite")


# --- models ---


def _make_models(folder: Path) -> None:
    from diffusers import DDIMScheduler
    from safetensors.torch import save_file

    from tests.conftest import TEXT, UNET, VAE, randomise
    from tests.core.models.formats import originals
    from vidrd_core.loading import pack
    from vidrd_core.models.inflate import write_temporal
    from vidrd_core.models.load_parts import save_text_encoder, save_unet, save_vae
    from vidrd_core.models.unet3d import UNet3D
    from vidrd_core.models.vae import TemporalVAE
    from vidrd_core.models.word_text_encoder import TextEncoder
    from vidrd_core.sampling import DiffusionConfig

    (folder / "ours").mkdir()
    diffusion = DiffusionConfig(prediction="v", frames=8, size=32, cfg=3.0)
    ours = randomise(UNet3D(UNET))
    save_unet(ours, diffusion, folder / "ours" / "unet.safetensors")
    save_vae(randomise(TemporalVAE(VAE), 1), folder / "ours" / "vae.safetensors")
    save_text_encoder(randomise(TextEncoder(TEXT), 2), folder / "ours" / "text_encoder.safetensors")
    pack(folder / "ours", folder / "packed.safetensors")
    scratch = folder.parent / f"scratch_{folder.name}"
    originals.modelscope(scratch / "a", DDIMScheduler)
    shutil.copytree(scratch / "a" / "model", folder / "diffusers")
    shutil.copytree(originals.stable_diffusion(scratch / "b"), folder / "image_model")
    unet = originals.unet_3d()
    save_file(unet.state_dict(), folder / "unet_alone.safetensors")
    save_file(originals.vae((32, 64), 32).state_dict(), folder / "vae_alone.safetensors")
    write_temporal(ours.state_dict(), ours.config, folder / "temporal_alone.safetensors")


def _read_model(path: Path) -> None:
    from vidrd_core.loading import find, load
    from vidrd_core.models.inflate import read_temporal
    from vidrd_core.models.load_parts import load_unet, load_vae

    if path.name.startswith("unet"):
        _finite("weights", load_unet(path)[0].state_dict().values())
        return
    if path.name.startswith("vae"):
        _finite("weights", load_vae(path).state_dict().values())
        return
    if path.name.startswith("temporal"):
        _finite("weights", read_temporal(path)[0].values())
        return
    model = load(find(path))
    for part in (model.unet, model.vae, model.text_encoder):
        _finite("weights", part.state_dict().values())
    model.text_encoder.rows("a red circle moving right")


# --- LoRAs ---


@cache
def _lora_model() -> tuple[Path, Any]:
    """A small Stable Diffusion in a folder, and as a model."""
    import tempfile

    from tests.core.models.lora.namings import stable_diffusion
    from vidrd_core.loading import load

    folder = Path(tempfile.mkdtemp(prefix="vidrd_fire_"))
    stable_diffusion(folder)
    return folder, load(folder)


def _make_loras(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from tests.core.models.lora import namings
    from tests.core.models.lora.test_lycoris import shapes_of_loha

    model = _lora_model()[1]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, weight in model.unet.state_dict().items():
        if name.endswith("to_q.weight") and "temporal" not in name:
            layer = f"unet.{name.removesuffix('.weight')}"
            tensors[f"{layer}.lora_A.weight"] = torch.randn(3, weight.shape[1], generator=generator)
            tensors[f"{layer}.lora_B.weight"] = torch.randn(weight.shape[0], 3, generator=generator)
    namings.as_diffusers(tensors, folder / "diffusers.safetensors")
    namings.as_peft(tensors, folder / "peft")
    (folder / "peft" / "adapter_config.json").write_text(
        json.dumps({"r": 3, "lora_alpha": 6, "alpha_pattern": {".*to_q": 4}, "rank_pattern": {"down.*": 3}})
    )
    namings.as_kohya(tensors, folder / "kohya.safetensors")
    namings.as_comfyui(tensors, folder / "comfyui.safetensors")
    layer = next(iter(tensors)).removeprefix("unet.").removesuffix(".lora_A.weight")
    weight = model.unet.state_dict()[f"{layer}.weight"]
    loha = {
        name: torch.randn(shape, generator=generator)
        for name, shape in shapes_of_loha(weight.shape[0], weight.shape[1], 1, False).items()
    }
    prefix = f"lora_unet_{layer.replace('.', '_')}"
    save_file({f"{prefix}.{name}": value for name, value in loha.items()}, folder / "loha.safetensors")


def _read_lora(path: Path) -> None:
    model = _lora_model()[1]
    before = {name: weight.clone() for name, weight in model.unet.state_dict().items()}
    try:
        model.load_lora(path, 0.7)
        _finite("merged weights", model.unet.state_dict().values())
        if max(float(weight.abs().max()) for weight in model.unet.state_dict().values()) > LARGEST:
            raise NonsenseError("merged weights are absurdly large")
    except (ValueError, OSError):
        after = model.unet.state_dict()
        if any(not bool((after[name] == weight).all()) for name, weight in before.items()):
            raise NonsenseError("a LoRA that was refused changed the model") from None
        raise
    finally:
        model.unload_loras()


# --- weights in torch's format ---


def _make_weights(folder: Path) -> None:
    import torch

    from tests.conftest import UNET, randomise
    from vidrd_core.models.unet3d import UNet3D

    state = randomise(UNet3D(UNET)).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, folder / "trained.pt")
    torch.save(state, folder / "older.ckpt", _use_new_zipfile_serialization=False)
    torch.save({name: weight.half() for name, weight in state.items()}, folder / "half.bin")


def _read_weights(path: Path) -> None:
    from vidrd_core.models.formats.weight_files import read_tensors

    for name, tensor in read_tensors(path).items():
        if not isinstance(name, str):
            raise NonsenseError("a tensor's name is no text")
        tensor.numel()


# --- states ---


def _make_states(folder: Path) -> None:
    import torch

    from tests.conftest import TEXT, UNET, VAE, randomise
    from vidrd_core.models.unet3d import UNet3D
    from vidrd_core.models.vae import TemporalVAE
    from vidrd_core.models.word_text_encoder import TextEncoder
    from vidrd_core.pipeline import VidRD
    from vidrd_core.sampling import DiffusionConfig

    parts = randomise(UNet3D(UNET)), randomise(TemporalVAE(VAE), 1), randomise(TextEncoder(TEXT), 2)
    model = VidRD(*parts, DiffusionConfig(prediction="v", frames=8, size=32, cfg=3.0))
    with torch.no_grad():
        for number, clip in enumerate(model.stream("a red circle", 2, steps=3)):
            clip.state.save(folder / f"clip_{number:04d}.safetensors")


def _read_state(path: Path) -> None:
    from vidrd_core.state import TENSORS, ClipState
    from vidrd_core.state_files import StateSummary, listing

    try:
        listing({path.name: StateSummary.of(path)})
    except (OSError, ValueError):
        pass
    else:
        ClipState.load(path)
        return
    state = ClipState.load(path)
    _finite("its tensors", (getattr(state, name) for name in TENSORS))


# --- shards ---


def _moving(frames: int, height: int, width: int) -> Any:
    """Frames of noise that moves, uint8 [F, H, W, 3]."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return np.stack([np.roll(noise, 2 * j, 1) for j in range(frames)])


def _make_shards(folder: Path) -> None:
    from vidrd_core.data.records import Record
    from vidrd_core.data.shards import SETTINGS, write_shard
    from vidrd_core.io.atomic import write_json

    out = folder / "shards"
    out.mkdir()
    records = [
        Record(
            f"film_{number}.mp4", digest=str(number) * 64, caption="a red circle", stop=1.0,
            frames=_moving(6, 32, 32), fps=8.0,
        )
        for number in range(2)
    ]  # fmt: skip
    records.append(Record("one.png", digest="9" * 64, caption="one", frames=_moving(1, 32, 32)))
    write_shard(out, 0, records, [f"source_{number}" for number in range(3)])
    write_json(out / SETTINGS, {"format": 1, "stage": "videos"})


def _read_shards(path: Path) -> None:
    from vidrd_core.data.runner import ExistingShards
    from vidrd_core.training.datasets import ShardClips

    again = path.parent / "again"
    shutil.copytree(path, again)  # what another run does there changes the folder
    try:
        clips = ShardClips(path)
        for number in range(len(clips)):
            if clips.frames(number).shape[:3] != clips.shape(number):
                raise NonsenseError(f"{clips.frames(number).shape} pixels, {clips.shape(number)} in the manifest")
            clips.caption(number, np.random.default_rng(0), False).encode()
        clips.fingerprint()
    finally:
        try:
            ExistingShards(again, False)
        finally:
            shutil.rmtree(again, ignore_errors=True)


# --- films and pictures ---


def _make_films(folder: Path) -> None:
    import av

    frames = _moving(12, 48, 64)
    made = {
        "h264.mp4": ("libx264", "yuv420p", {}),
        "h264.mov": ("libx264", "yuv420p", {}),
        "vp9.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime"}),
        "mpeg4.avi": ("mpeg4", "yuv420p", {}),
        "h264.mkv": ("libx264", "yuv420p", {}),
        "mpeg2.ts": ("mpeg2video", "yuv420p", {}),
        "gif.gif": ("gif", "rgb8", {}),
        "flv.flv": ("flv1", "yuv420p", {}),
    }
    for name, (codec, pixels, options) in made.items():
        with av.open(str(folder / name), "w") as container:
            stream: Any = container.add_stream(codec, rate=8, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            sound: Any = container.add_stream("aac", rate=44100) if name.endswith((".mp4", ".mkv")) else None
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
            if sound is not None:
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
                samples.sample_rate = 44100
                container.mux(sound.encode(samples))
                container.mux(sound.encode(None))


def _read_film(path: Path) -> None:
    from vidrd_core.data.decoding import facts_of, frames_at
    from vidrd_core.data.records import UnfitError
    from vidrd_core.video.reader import read_video

    try:
        facts = facts_of(path)
        if not (0 <= facts.seconds <= 1e8 and 0 < facts.fps <= 1e5 and facts.width * facts.height < 1e8):
            raise NonsenseError(f"a film of {facts}")
        frames_at(path, [0.0, min(1.0, facts.seconds / 2)], (32, 32))
    except UnfitError:
        pass
    frames, fps = read_video(path, 4)
    if not (0 < fps < 1e6 and frames.ndim == 4 and len(frames)):
        raise NonsenseError(f"{frames.shape} at {fps}")


def _make_pictures(folder: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(_moving(1, 40, 56)[0])
    frames = [Image.fromarray(frame) for frame in _moving(4, 40, 56)]
    picture.save(folder / "rgb.png")
    picture.convert("P").save(folder / "palette.png")
    Image.fromarray((np.arange(1600).reshape(40, 40) * 40).astype(np.uint16)).save(folder / "grey16.png")
    picture.save(folder / "photo.jpg", exif=Image.Exif())
    picture.save(folder / "still.webp")
    picture.save(folder / "lzw.tiff", compression="tiff_lzw")
    picture.save(folder / "still.bmp")
    picture.save(folder / "still.avif")
    for name in ("moving.png", "moving.webp", "moving.gif"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=100)


def _read_picture(path: Path) -> None:
    from vidrd_core.io.pictures import picture_facts, read_picture
    from vidrd_core.video.reader import read_video

    try:
        picture_facts(path)
        read_video(path, 4)
    except ValueError:
        pass
    pixels = read_picture(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or not pixels.size:
        raise NonsenseError(f"pixels {pixels.dtype} {pixels.shape}")


# --- texts ---


def _make_recipes(folder: Path) -> None:
    for path in sorted((ROOT / "vidrd_core" / "training" / "configs").glob("[!v]*.yaml")):  # video.yaml names a mix
        shutil.copy(path, folder / path.name)


def _read_recipe(path: Path) -> None:
    from vidrd_core.training.config import load_config

    load_config(path)


def _make_captions(folder: Path) -> None:
    rows = [("films/a.mp4", "a red circle"), ("films/b.mp4", "two, or three"), ('c "d".mp4', "über")]
    (folder / "captions.csv").write_text(
        "file,caption\n" + "".join(f'"{name.replace(chr(34), chr(34) * 2)}","{text}"\n' for name, text in rows),
        encoding="utf-8",
    )
    (folder / "captions.tsv").write_text(
        "video\ttext\n" + "".join(f"{name}\t{text}\n" for name, text in rows[:2]), encoding="utf-8"
    )
    (folder / "captions.jsonl").write_text(
        "".join(json.dumps({"file_name": name, "text": text}) + "\n" for name, text in rows), encoding="utf-8"
    )
    (folder / "beside.txt").write_text("a red circle\nover a field\n", encoding="utf-8")


def _read_captions(path: Path) -> None:
    from vidrd_core.data.files import one_line, read_table
    from vidrd_core.io.tables import read_text

    texts = [one_line(read_text(path))] if path.suffix == ".txt" else read_table(path).values()
    for text in texts:
        text.encode()  # what cannot be written again must not be read


def _make_prompts(folder: Path) -> None:
    (folder / "prompts.csv").write_text(
        "prompt,seed,clips,cfg,name,prompt-frames,alpha,beta\n"
        "a red circle,1,2,3.5,one,4,4,0.4\na blue square,2,3,,two,2,1,0.8\n",
        encoding="utf-8",
    )
    (folder / "prompts.jsonl").write_text(
        json.dumps({"prompt": ["a red circle", "a blue one"], "seed": 3, "clips": 2}) + "\n", encoding="utf-8"
    )
    (folder / "prompts.txt").write_text("a red circle\n# a comment\na blue square\n", encoding="utf-8")
    (folder / "run.yaml").write_text(
        "prompts: [a red circle, a blue one]\nclips: 4\nseed: 7\nsteps: 10\nprompt-frames: 4\nbeta: 0.4\ncfg: 3.5\n"
        "output: one.mp4\n",
        encoding="utf-8",
    )


def _read_prompts(path: Path) -> None:
    import typer

    from vidrd_core.cli import app
    from vidrd_core.cli.prompts_file import read_prompts_file
    from vidrd_core.cli.run_file import read_run

    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    context = command.context_class(command)
    with context:
        if path.suffix == ".yaml":
            read_run(context, path)
            return
        for row in read_prompts_file(context, path):
            if not row.error:
                " ".join(row.prompts).encode()
                row.name.encode()


def _make_workflows(folder: Path) -> None:
    from tests.core.comfy import graphs
    from tests.workflows.build import in_subgraph, to_page
    from tests.workflows.stock import definitions

    for make in (graphs.wan, graphs.image_to_video, graphs.custom):
        (folder / f"{make.__name__}.json").write_text(json.dumps(make()))
    page = to_page(graphs.wan(), definitions())
    (folder / "page.json").write_text(json.dumps(page))
    (folder / "subgraph.json").write_text(json.dumps(in_subgraph(page, {11})))


def _read_workflow(path: Path) -> None:
    from vidrd_core.comfy.extend import extend_workflow
    from vidrd_core.comfy.workflow import read_workflow

    workflow = read_workflow(path)
    extend_workflow(workflow, clips=3)
    json.dumps(workflow.data)


# --- measures, and what `vidrd info` says of all ---


def _make_measures(folder: Path) -> None:
    from vidrd_core.metrics.fvd import FeatureSource, FeatureStatistics

    mean, covariance = np.arange(4.0), np.eye(4)
    FeatureStatistics(mean, covariance, FeatureSource("i3d", 3, 8, 8.0)).save(folder / "statistics.safetensors")
    np.savez(folder / "statistics.npz", mu=mean, sigma=covariance)
    (folder / "records").mkdir()
    lines = [{"format": 1}, {"name": "a.mp4", "stamp": "x", "flow_jump": 1.0}, {"name": "b.mp4", "reason": "is cut"}]
    (folder / "records" / "records_0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copy(ROOT / "vidrd_core" / "evaluation" / "protocols" / "ucf101.yaml", folder / "ucf101.yaml")
    (folder / "trainlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi 1\nBiking/v_Biking_g01_c02.avi 2\n")
    shutil.copy(ROOT / "vidrd_core" / "models" / "tiny" / "preview.json", folder / "preview.json")


def _read_measure(path: Path) -> None:
    from vidrd_core.evaluation.protocols import class_counts, load_protocol
    from vidrd_core.evaluation.runner import read_records
    from vidrd_core.metrics.fvd import FeatureStatistics
    from vidrd_core.models.latent_preview import load_preview

    if path.is_dir():
        for record in read_records(path):
            record.get("name")
    elif path.name == "preview.json":
        _finite("its convolutions", (tensor for layer in load_preview(path) for tensor in layer))
    elif path.suffix == ".yaml":
        load_protocol(str(path))
    elif path.suffix == ".txt":
        class_counts(path)
    else:
        statistics = FeatureStatistics.load(path)
        _finite("the statistics", (statistics.mean, statistics.covariance))


def _make_all(folder: Path) -> None:
    """Two files of each kind that the command knows."""
    for name in ("models", "loras", "states", "films"):
        scratch = folder.parent / f"{name}_for_info"
        scratch.mkdir()
        kinds()[name].make(scratch)
        for path in sorted(scratch.iterdir())[:2]:
            path.rename(folder / f"{name}_{path.name}")


def _read_info(path: Path) -> None:
    import typer

    from vidrd_core.cli import app

    command = typer.main.get_command(app)
    for arguments in (["info", str(path)], ["info", str(path), "--json"]):
        command.main(arguments, standalone_mode=False)


# --- what the harness itself is tried on ---

FAULTS = ("none", "refused", "undeclared", "foreign", "nonsense", "hang", "memory", "crash")


def _make_faults(folder: Path) -> None:
    (folder / "none.txt").write_text("none")


def _read_fault(path: Path) -> None:
    """Do what a file says; a damaged one is read."""
    wanted = path.read_text(errors="replace") if path.is_file() else ""
    if wanted == "refused":
        one_of_ours(path)
    elif wanted == "undeclared":
        raise KeyError(wanted)
    elif wanted == "foreign":
        int(wanted)
    elif wanted == "nonsense":
        raise NonsenseError(wanted)
    elif wanted == "hang":
        time.sleep(1000)
    elif wanted == "memory":
        np.ones(3 * 2**28).sum()
        time.sleep(1000)
    elif wanted == "crash":
        os._exit(1)


def one_of_ours(path: Path) -> None:
    """An error that the package raises."""
    from vidrd_core.io.configs import from_dict

    from_dict(Kind, {str(path): 1})


def kinds() -> dict[str, Kind]:
    """All kinds by their names; the last one is for trying the harness itself."""
    from vidrd_core.cli.errors import CommandError

    texts = (OSError, ValueError, CommandError)
    every = (
        Kind("models", _make_models, _read_model),
        Kind("loras", _make_loras, _read_lora),
        Kind("weights", _make_weights, _read_weights),
        Kind("states", _make_states, _read_state),
        Kind("shards", _make_shards, _read_shards),
        Kind("films", _make_films, _read_film),
        Kind("pictures", _make_pictures, _read_picture),
        Kind("recipes", _make_recipes, _read_recipe),
        Kind("captions", _make_captions, _read_captions),
        Kind("prompts", _make_prompts, _read_prompts, texts),
        Kind("workflows", _make_workflows, _read_workflow),
        Kind("measures", _make_measures, _read_measure),
        Kind("info", _make_all, _read_info, texts),
        Kind("faults", _make_faults, _read_fault),
    )
    return {kind.name: kind for kind in every}
