"""Every video family of the host under Reuse and Diffuse: the table in docs/comfyui.md, cell by cell."""

import functools
import importlib
import inspect
import re
import traceback
from pathlib import Path

import pytest
import torch

from vidrd_core.state import ClipState

from .families import FAMILIES, IMAGES, N, build, node, pictures
from .graphs import frames_of
from .small_models import small_vae

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "comfyui.md"
STEPS, M = 2, 2
REUSE = {"prompt_frames": M, "alpha": 2.0, "beta": 0.6, "order": "forward", "loop": "keep"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These networks are so small that threads only wait for each other."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.fixture(scope="module", params=FAMILIES)
def built(request, host):
    return build(host, request.param)


@pytest.fixture(scope="module")
def extend(run, built):
    return extender(run, built)


def extender(run, built):
    """Extend with a family's parts, some of them changed."""

    def extend(state=None, **changes):
        clip = {"model": built.model, "positive": built.positive, "negative": built.negative, "latent": built.latent}
        family = built.family
        given = {"seed": 3, "steps": STEPS, "cfg": family.cfg, "sampler_name": family.sampler, "scheduler": "simple"}
        return run("Extend", **{**clip, **given, **REUSE, **changes}, state=state)

    return extend


@pytest.fixture(scope="module")
def first(extend):
    """A function that gives the family's first clip, made once."""
    return functools.cache(lambda: extend())


@pytest.fixture(scope="module")
def second(extend, first):
    """A function that gives the clip after it, made once."""
    return functools.cache(lambda: extend(first()[2]))


def parts_of(latent):
    """The tensors in a LATENT's samples."""
    samples = latent["samples"]
    return samples.unbind() if getattr(samples, "is_nested", False) else [samples]


def stock(built, state, **changes):
    """The clip of a state by ComfyUI alone."""
    samplers = importlib.import_module("comfy.samplers")
    model, latent = changes.get("model", built.model), changes.get("latent", built.latent)
    guider = samplers.CFGGuider(model)
    guider.set_conds(changes.get("positive", built.positive), changes.get("negative", built.negative))
    guider.set_cfg(built.family.cfg)
    scheduler = changes.get("scheduler", "simple")
    sigmas = samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, STEPS)
    noise = state.noise if built.family.time else state.noise[0].movedim(1, 0)
    if len(parts_of(latent)) > 1:
        sound = state.sound_noise[..., 0]
        sound = sound if sound.movedim(2, 2).shape == parts_of(latent)[1].shape else sound.movedim(2, 3)
        noise = importlib.import_module("comfy.nested_tensor").NestedTensor([noise, sound])
    sampler = samplers.sampler_object(built.family.sampler)
    mask = latent.get("noise_mask")
    return guider.sample(noise, latent["samples"], sampler, sigmas, denoise_mask=mask, seed=3)


def check_first(built, made, **changes):
    """Check that a first clip is the stock sampler's, bit for bit."""
    _, whole, state = made
    expected = parts_of({"samples": stock(built, state, **changes)})
    for ours, theirs in zip(parts_of(whole), expected, strict=True):
        assert theirs.std() > 0.01
        assert torch.equal(ours, theirs)


def near(expected):
    """Tolerances for latents that were computed in another order."""
    return {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().max())}


def check_replayed(old, made):
    """Check that the prompt frames of a clip are the last frames of the one before it."""
    state = made[2]
    first = state.repeated - M
    count = state.frames
    assert torch.equal(state.noise[:, :, first : first + M], old.noise[:, :, count - M :])
    ours, theirs = state.latents[:, :, first : first + M], old.latents[:, :, count - M :]
    torch.testing.assert_close(ours, theirs, **near(theirs))
    free = state.latents[:, :, first + M :]
    assert not torch.allclose(free[:, :, :M], theirs, atol=1e-2)


def first_clip(built, extend, first, **_):
    check_first(built, first())
    lower = extend(scheduler="ddim_uniform")
    assert lower[2].sigmas[0] < 0.999 * built.model.get_model_object("model_sampling").sigma_max
    check_first(built, lower, scheduler="ddim_uniform")


def replay(first, second, **_):
    check_replayed(first()[2], second())


def resume(extend, second, tmp_path, **_):
    state = second()[2]
    state.save(tmp_path / "state.safetensors")
    ours, theirs = extend(ClipState.load(tmp_path / "state.safetensors")), extend(state)
    for one, other in zip(parts_of(ours[1]), parts_of(theirs[1]), strict=True):
        assert torch.equal(one, other)


def loop(extend, first, second, **_):
    begun = first()[2]
    made = extend(begun, loop="close")[2]
    assert made.closed > 0
    head = second()[2].repeated - M  # 1 where the first latent decodes to a single frame
    expected = begun.latents[:, :, head : head + made.closed]
    torch.testing.assert_close(made.latents[:, :, -made.closed :], expected, **near(expected))


def footage(built, extend, run, **_):
    family = built.family
    generator = torch.Generator().manual_seed(23)
    images = torch.rand(family.frames, family.size["height"], family.size["width"], 3, generator=generator)
    given = {
        "frames": family.frames,
        "seed": 3,
        "steps": STEPS,
        "scheduler": "simple",
        "sampler_name": family.sampler,
    }
    parts = {"model": built.model, "vae": built.vae, "positive": built.positive, "images": images}
    state, latent = run("StateFromVideo", **parts, **given, method="inversion")
    assert torch.equal(latent["samples"], built.vae.encode(images).reshape(family.shape))
    check_replayed(state, extend(state, latent={"samples": torch.zeros(family.shape)}))


def image(built, extend, **_):
    family = built.family
    one, other = (family.image(family, built, picture) for picture in pictures(family))
    made = extend(**one)
    check_first(built, made, **one)
    assert not torch.equal(made[2].latents, extend(**other)[2].latents)
    check_replayed(made[2], extend(made[2], **one))


def lora(built, extend, first, host, **_):
    """A LoRA in the host's own names of keys, for every linear layer of a block."""
    generator, weights = torch.Generator().manual_seed(29), {}
    for key, weight in built.model.model.state_dict().items():
        if key.startswith("diffusion_model.") and key.endswith(".weight") and weight.ndim == 2 and "block" in key:
            name = key.removesuffix(".weight")
            weights[f"{name}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator) * 0.1
            weights[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
    model, _ = host.sd.load_lora_for_models(built.model, None, weights, 1.0, 0.0)
    made = extend(model=model)
    assert not torch.allclose(first()[2].latents, made[2].latents, atol=1e-3)
    check_first(built, made, model=model)
    check_replayed(made[2], extend(made[2], model=model))


def windows(built, extend, first, **_):
    """The host's node, with windows of 5 latents that overlap by 2."""
    family = built.family
    given = {
        "context_length": 5, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1,
        "closed_loop": False, "fuse_method": "pyramid", "freenoise": False, "dim": 2 if family.time else 0,
    }  # fmt: skip
    name = "ContextWindowsManualNode"
    if "wan" in family.unet.get("image_model", ""):  # in frames
        given |= {"context_length": 17, "context_overlap": 5}
        name = f"Wan{name}"
        del given["dim"]
    (model,) = node("comfy_extras.nodes_context_windows", name)(model=built.model, **given)
    made = extend(model=model)
    assert not torch.allclose(first()[2].latents, made[2].latents, atol=1e-4)
    check_first(built, made, model=model)
    check_replayed(made[2], extend(made[2], model=model))


COLUMNS = {
    "first clip": first_clip, "replay": replay, "resume": resume, "loop": loop, "footage": footage,
    "image to video": image, "LoRA": lora, "windows": windows,
}  # fmt: skip


BY_NODES = ("image to video", "windows")  # that use the host's own nodes
TABLE_VERSION = (0, 33, 0)


def host_version():
    """ComfyUI's version, as numbers."""
    return tuple(int(each) for each in importlib.import_module("comfyui_version").__version__.split("."))


def table():
    """The table in the manual: its columns, {family: its cells}, and the words of refusals by number."""
    text = (
        TABLE.read_text(encoding="utf-8").partition("<!-- families -->")[2].partition("<!-- end of families -->")[0]
    )
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    words = dict(re.findall(r"^(\d+)\. “(.*?)”", text, re.MULTILINE))
    return rows[0][1:], {row[0]: row[1:] for row in rows[2:]}, words


def refusal(error):
    """What this pack says, in one line; an error of anything else is raised again."""
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if not any(last.is_relative_to(ROOT / each) for each in ("nodes", "vidrd_core")):
        raise error
    return str(error)


def test_a_family_does_what_the_table_says(built, extend, first, second, run, host, tmp_path):
    given = {"built": built, "extend": extend, "first": first, "second": second, "run": run, "host": host}
    columns, rows, words = table()
    assert columns == list(COLUMNS)
    for column, cell in zip(columns, rows[built.name], strict=True):
        if column in BY_NODES and host_version() < TABLE_VERSION:
            continue  # with some families, older versions of these nodes fail by themselves
        assert (cell == "-") == (column == "image to video" and built.family.image is None)
        if cell == "-":
            continue
        try:
            COLUMNS[column](**given, tmp_path=tmp_path)
        except Exception as error:
            said = refusal(error)
            assert cell.startswith("✗"), f"{column}: {said}"
            assert words[cell[1:]] in said, column
        else:
            assert cell == "✓", column


def test_the_table_has_every_video_family_of_the_host(host):
    supported = importlib.import_module("comfy.supported_models").models
    video = {kind.__name__ for kind in supported if getattr(kind.latent_format, "latent_dimensions", 2) == 3}
    assert video - {family.kind for family in FAMILIES.values()} - set(IMAGES) == set()
    assert list(table()[1]) == list(FAMILIES)


@pytest.mark.parametrize("name", ["Wan 2.1 VACE", "Wan 2.2 Animate", "Wan Animate 2"])
def test_a_reference_picture_is_cut_from_the_first_clip_alone(host, run, name):
    built = build(host, name)
    vae = built.vae = small_vae(host)
    given = built.family.image(built.family, built, pictures(built.family)[0])
    extend = extender(run, built)
    new, whole, state = extend(**given)
    assert whole["samples"].shape[2] == N + 1
    (first,) = node("comfy_extras.nodes_wan", "TrimVideoLatent")(samples=new, trim_amount=1)
    second = extend(state, **given)[0]
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    written = None
    for clip in (first, second):
        written = video.write_clip(clip, vae, video.VideoSettings("trimmed/v", "png", 8.0, 1), written, {})
    expected = vae.decode(torch.cat([first["samples"], second["samples"]], 2))[0]
    shown = torch.from_numpy(frames_of(written.path)).float() / 255
    assert shown.shape == expected.shape
    torch.testing.assert_close(shown, expected.clamp(0, 1), rtol=0, atol=0.01)


@pytest.mark.parametrize("name", ["Wan 2.1 T2V, 2.2 T2V A14B", "LTX-Video", "Stable Diffusion 1.5 (AnimateDiff)"])
def test_windows_that_shuffle_noise_are_refused(host, run, name):
    """As those for Wan and LTX do by default."""
    built = build(host, name)
    maker = importlib.import_module("comfy_extras.nodes_context_windows").ContextWindowsManualNode
    if "freenoise" not in inspect.signature(maker.execute).parameters:
        pytest.skip("this host does not shuffle noise")
    given = {"context_length": 5, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1}
    more = {"closed_loop": False, "fuse_method": "pyramid", "dim": 2 if built.family.time else 0}
    (model,) = maker.execute(model=built.model, **given, **more, freenoise=True).args
    with pytest.raises(ValueError, match="turn freenoise off"):
        extender(run, built)(model=model)


def test_windows_without_the_frame_that_svd_cannot_take(host, run):
    built = build(host, "Stable Video Diffusion")
    nodes = importlib.import_module("comfy_extras.nodes_context_windows").ContextWindowsManualNode
    given = {"context_length": 5, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1}
    more = {"closed_loop": False, "fuse_method": "pyramid", "freenoise": False, "dim": 0}
    if "causal_window_fix" not in inspect.signature(nodes.execute).parameters:
        pytest.skip("this host adds no frame")
    (model,) = nodes.execute(model=built.model, **given, **more).args
    state = {"model": model, "vae": built.vae, "positive": built.positive, "images": torch.rand(8, 32, 32, 3)}
    state |= {"frames": 8, "seed": 3, "steps": STEPS, "sampler_name": "euler", "scheduler": "simple"}
    with pytest.raises(ValueError, match="turn causal_window_fix off"):
        run("StateFromVideo", **state, method="inversion")
    (model,) = nodes.execute(model=built.model, **given, **more, causal_window_fix=False).args
    extend = extender(run, built)
    made = extend(model=model)
    check_first(built, made, model=model)
    check_replayed(made[2], extend(made[2], model=model))
