"""Decode & Write Clip: one file that grows clip by clip."""

import importlib
from pathlib import Path

import av
import numpy as np
import pytest

from vidrd_core.video import read_video

from .graphs import chain, frames_of

LENGTHS = [8, 12, 16]  # forward order with M 4


def written(clips=3, kind="mp4", prefix="grow", changes=None, **settings):
    """A chain of clips, each written; `changes` are as for `chain`."""
    graph = chain(clips, **(changes or {}))
    for name in [name for name in graph if name.startswith(("see", "save"))]:
        del graph[name]
    for k in range(clips):
        before = {"before": [f"write{k - 1}", 0]} if k else {}
        inputs = {"filename_prefix": f"{prefix}/v", "format": kind, "fps": 8.0, "scale": 2, **settings, **before}
        graph[f"write{k}"] = {
            "class_type": "VidRD_WriteClip",
            "inputs": {"latent": [f"clip{k}", 0], "vae": ["vae", 0], **inputs},
        }
    return graph


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "png", "webp", "apng"])
def test_one_file_grows_and_is_shown(execute, output, kind):
    ran, errors, refused = execute(written(kind=kind, prefix=kind))
    assert (errors, refused) == ([], {})
    # Each clip is written before the next one is made.
    assert [name for name in ran if name.startswith(("clip", "write"))] == [
        "clip0", "write0", "clip1", "write1", "clip2", "write2",
    ]  # fmt: skip
    (path,) = (output / kind).iterdir()
    frames, fps = read_video(path)
    assert frames.shape == (16, 128, 128, 3)
    assert fps == 8
    shown = execute.server.shown["write2"]["images"]
    assert all((output / each["subfolder"] / each["filename"]).is_file() for each in shown)
    assert ("animated" in execute.server.shown["write2"]) == (kind != "png")
    assert {each["type"] for each in shown} == {"output"}
    assert execute(written(kind=kind, prefix=kind))[0] == []


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_what_an_earlier_clip_shows_does_not_change(execute, host, kind, linked, monkeypatch):
    if not linked:

        def no_links(*given):
            raise OSError("no links on this disk")

        monkeypatch.setattr("os.link", no_links)
    execute(written(kind=kind, prefix=f"shown_{kind}_{linked}"))
    temporary = Path(host.folder_paths.get_temp_directory())
    for k in range(2):
        (shown,) = execute.server.shown[f"write{k}"]["images"]
        assert shown["type"] == "temp"
        assert len(frames_of(temporary / shown["subfolder"] / shown["filename"])) == LENGTHS[k]
    assert execute.server.shown["write2"]["images"][0]["type"] == "output"


def test_frames_equal_those_of_a_video_decoded_at_once(execute, output, host, run, tiny):
    execute(written(kind="png", prefix="exact", scale=1))
    clips, state = [], None
    given = {"steps": 3, "cfg": 2.5, "seed": 3, "sampler_name": "euler", "scheduler": "ddim_uniform"}
    for _ in range(3):
        new, _, state = run(
            "Extend", model=tiny.model, positive=tiny.positive[0], negative=tiny.negative, latent=tiny.latent,
            **given, prompt_frames=4, alpha=4.0, beta=0.4, order="forward", state=state,
        )  # fmt: skip
        clips.append(new["samples"])
    torch = importlib.import_module("torch")
    image = host.nodes.VAEDecode().decode(tiny.vae, {"samples": torch.cat(clips, dim=2)})[0]
    expected = (image.numpy() * 255).round().astype(int)
    assert np.abs(frames_of(output / "exact" / "v_00001_") - expected).max() <= 1


def test_a_list_of_clips_is_written_as_one_video(execute, output):
    graph = written(1, prefix="list")
    graph["positive"] = {
        "class_type": "VidRD_EncodePrompts",
        "inputs": {"clip": ["text", 0], "prompts": "a red circle moving right\na blue star", "negative_prompt": ""},
    }
    ran, errors, _ = execute(graph)
    assert errors == []
    assert ran.count("write0") == 1
    assert len(frames_of(output / "list" / "v_00001_.mp4")) == 16


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_file_holds_the_workflow(execute, output, kind):
    execute(written(1, kind, "meta_" + kind))
    with av.open(str(output / ("meta_" + kind) / f"v_00001_.{kind}")) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["workflow"] == '{"version": 0.4}'
    assert '"class_type": "VidRD_WriteClip"' in tags["prompt"]


@pytest.mark.parametrize("kind", ["mp4", "png"])
def test_resampling_a_clip_keeps_the_earlier_file(execute, output, kind):
    folder, name = output / ("again_" + kind), "v_{:05}_" + (".mp4" if kind == "mp4" else "")
    first, second = (folder / name.format(number) for number in (1, 2))
    execute(written(kind=kind, prefix=folder.name))
    kept = frames_of(first)
    ran, _, _ = execute(written(kind=kind, prefix=folder.name, changes={"clip2": {"seed": 9}}))
    assert sorted(ran) == ["clip2", "write2"]
    assert np.array_equal(frames_of(first), kept)
    again = frames_of(second)
    assert np.array_equal(again[:8], kept[:8])
    assert not np.array_equal(again[12:], kept[12:])
    # What was thrown away, as people do, is there again when the next clip needs it.
    second.unlink() if kind == "mp4" else [*map(Path.unlink, second.iterdir()), second.rmdir()]
    execute(written(kind=kind, prefix=folder.name, changes={"clip2": {"seed": 10}}))
    assert len(frames_of(second)) == 16


def test_changed_file_settings_do_not_sample_again(execute):
    execute(written(prefix="settings"))
    ran, _, _ = execute(written(prefix="settings", scale=3))
    assert sorted(ran) == ["write0", "write1", "write2"]


def test_a_cancelled_run_keeps_the_finished_clips(execute, output, host, monkeypatch):
    management = importlib.import_module("comfy.model_management")
    calls = []
    original = host.samplers.CFGGuider.predict_noise

    def cancelled(self, *given, **options):
        calls.append(1)
        if len(calls) == 8:  # of three a clip
            management.interrupt_current_processing(True)
        return original(self, *given, **options)

    monkeypatch.setattr(host.samplers.CFGGuider, "predict_noise", cancelled)
    _, errors, _ = execute(written(prefix="cancelled"))
    assert errors[0]["node_id"] == "clip2"
    assert len(frames_of(output / "cancelled" / "v_00001_.mp4")) == 12


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "webp"])
def test_stock_nodes_get_the_video_as_it_was_at_their_clip(execute, output, host, kind):
    importlib.import_module("asyncio").run(host.nodes.init_builtin_extra_nodes())
    graph = written(kind=kind, prefix=f"stock_{kind}")
    for k in (0, 2):
        saved = {"video": [f"write{k}", 0], "filename_prefix": f"{kind}{k}", "format": "auto", "codec": "auto"}
        graph[f"save{k}"] = {"class_type": "SaveVideo", "inputs": saved}
    _, errors, refused = execute(graph)
    assert (errors, refused) == ([], {})
    graph["late"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["write0", 0]}}
    graph["see"] = {"class_type": "SaveImage", "inputs": {"images": ["late", 0], "filename_prefix": f"late_{kind}/f"}}
    _, errors, _ = execute(graph)
    assert errors == []
    assert len(list((output / f"late_{kind}").iterdir())) == 8
    saved = output / f"{kind}2_00001_.mp4"
    assert len(frames_of(saved)) == 16
    with av.open(str(saved)) as container:
        (stream,) = container.streams.video
        assert (stream.average_rate, stream.duration * stream.time_base) == (8, 2), "the last frame lasts as long"


def test_clips_that_do_not_fit_are_reported(execute, output, pack):
    graph = written(2, prefix="refused")
    graph["small"] = {
        "class_type": "VidRD_EmptyClip",
        "inputs": {"width": 32, "height": 32, "frames": 8, "vae": ["vae", 0]},
    }
    graph["write1"]["inputs"]["latent"] = ["small", 0]
    _, errors, _ = execute(graph)
    assert "the clip's latents are [8, 8], those of the video so far [16, 16]" in errors[0]["exception_message"]
    assert len(frames_of(output / "refused" / "v_00001_.mp4")) == 8
    _, errors, _ = execute(written(1, "gif", "refused", fps=60.0))
    assert "fps is 60, expected at most 50 for a GIF" in errors[0]["exception_message"]
    _, errors, _ = execute(written(1, "apng", "refused", fps=100.0))
    assert "fps is 100, expected at most 90 for an APNG" in errors[0]["exception_message"]
    _, errors, refused = execute(written(1, "mkv", "refused"))
    own = "format is 'mkv', expected one of mp4, webm, gif, png, webp, apng"  # as older hosts do not check choices
    assert own in str(errors) or "'mkv' not in" in str(refused)
    wrong = {
        "../outside": "leads out of the output folder", "x" * 300: "give a shorter one", "a\0b": "a null character",
        "..\\outside": "leads out of the output folder", "c:outside": "leads out of the output folder",
    }  # fmt: skip
    for prefix, message in wrong.items():
        ran, _, refused = execute(written(1, "mp4", prefix))
        assert ran == []
        told = [error for node in refused.values() for error in node["errors"]]
        assert [error["extra_info"]["input_name"] for error in told] == ["filename_prefix"]
        assert message in told[0]["details"]


def test_folders_that_cannot_be_made_are_reported(execute, output, monkeypatch):
    execute(written(1, prefix="a_file"))
    (path,) = (output / "a_file").iterdir()
    _, errors, _ = execute(written(1, prefix=f"a_file/{path.name}"))
    assert f"cannot write {path}" in errors[0]["exception_message"]

    def refuse(*given):
        raise Exception("not allowed")  # as hosts do for a link that leads out

    monkeypatch.setattr("folder_paths.get_save_image_path", refuse)
    _, errors, _ = execute(written(1, prefix="linked"))
    assert "leads out of the output folder by a link" in errors[0]["exception_message"]


def test_a_prefix_of_a_folder_alone_is_completed(execute, output):
    _, errors, refused = execute(written(1, filename_prefix="dot/."))
    assert (errors, refused) == ([], {})
    assert (output / "dot" / "video_00001_.mp4").exists()


def test_pictures_without_finite_numbers_are_reported(pack, tiny, monkeypatch):
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    settings, samples = video.VideoSettings("nan/v", "mp4", 8.0, 1), tiny.latent["samples"]
    with pytest.raises(ValueError, match=r"the latents hold no finite numbers \(NaN or infinity\)"):
        video.write_clip({"samples": samples * float("nan")}, tiny.vae, settings, None, {})
    monkeypatch.setattr(tiny.vae, "decode", lambda samples: samples[0, :3].movedim(0, -1) * float("nan"))
    with pytest.raises(ValueError, match=r"the VAE gave pictures without finite numbers.*--fp32-vae"):
        video.write_clip({"samples": samples}, tiny.vae, settings, None, {})
