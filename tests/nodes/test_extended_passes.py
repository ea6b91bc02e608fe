"""LTX-2's templates in two passes that became long videos, run with small random models in place of weights."""

import asyncio
import copy
import importlib
import inspect
from types import SimpleNamespace

import pytest
import torch

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow
from vidrd_core.video import read_video

from ..real.conftest import carried  # noqa: F401
from ..workflows import convert
from ..workflows.files import nodes
from ..workflows.templates import PACKAGE, video_templates
from .families import pooled_vae
from .small_models import small_model
from .test_extended_families import definitions_of, replace_loaders
from .test_extended_templates import read_by_name
from .test_sound_written import audio_vae, video_vae
from .test_third_party_examples import Text

pytestmark = pytest.mark.real
# Values of primitive nodes: pictures of 128 x 128, and clips of 49 to 51 frames, or 7 latents.
SMALL = {1280: 128, 720: 128, 704: 128, 121: 49, 5: 2}
NAMES = ["video_ltx2_t2v_distilled", "video_ltx2_i2v", "video_ltx2_3_i2v", "video_ltx2_5_t2v"]


class LongText(Text):
    """A text encoder stand-in for LTX-2: half of its numbers are for the sound."""

    def encode_from_tokens_scheduled(self, text, **_):
        generator = torch.Generator().manual_seed(len(text))
        return [[torch.randn(1, 8, 32, generator=generator), {}]]


def upscaler(host):
    """LTX-2's network that doubles the size of latents, small, with random weights, as the host's loader gives it."""
    kind = importlib.import_module("comfy.ldm.lightricks.latent_upsampler").LatentUpsampler
    sizes = {"mid_channels": 32, "num_blocks_per_stage": 1}
    if "operations" in inspect.signature(kind).parameters:
        sizes["operations"] = importlib.import_module("comfy.ops").disable_weight_init
    module = kind(**sizes)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            level = 1 / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 0.1
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * level + ("norm" in name))
    management, patcher = (importlib.import_module(f"comfy.{each}") for each in ("model_management", "model_patcher"))
    if not hasattr(patcher, "CoreModelPatcher"):  # older ones give the network itself
        return module.eval()
    return patcher.CoreModelPatcher(module.eval(), management.get_torch_device(), management.unet_offload_device())


@pytest.fixture
def seen(host, pack, monkeypatch):
    """Replace loaders by small random models; the latents of samplers by the sampler's node: {id: LATENT}."""
    pytest.importorskip("comfy_extras.nodes_lt_upsampler", reason="this host has no upscaler of latents")
    asyncio.run(host.nodes.init_builtin_extra_nodes())
    host.nodes.NODE_CLASS_MAPPINGS.update(pack)
    model, *_ = small_model("ltxav")
    video, sound = video_vae(host, "ltxav"), audio_vae(host, "ltxav")
    encoder = pooled_vae(host, 128, 8, 32)
    video.encode, video.downscale_index_formula = encoder.encode, encoder.downscale_index_formula
    statistics = importlib.import_module("comfy.ldm.lightricks.vae.causal_video_autoencoder").processor()
    generator = torch.Generator().manual_seed(2)
    statistics.get_buffer("std-of-means").copy_(torch.rand(128, generator=generator) + 0.5)
    statistics.get_buffer("mean-of-means").copy_(torch.randn(128, generator=generator) * 0.1)
    video.first_stage_model.per_channel_statistics = statistics
    picture = torch.rand(1, 128, 128, 3, generator=generator)
    known = SimpleNamespace(NODE_CLASS_MAPPINGS=dict(host.nodes.NODE_CLASS_MAPPINGS), NODE_DISPLAY_NAME_MAPPINGS={})
    read_by_name(monkeypatch)
    replace_loaders(host, monkeypatch, {
        "CheckpointLoaderSimple": lambda **_: (model, LongText(), video),
        "UNETLoader": lambda **_: (model,),
        "VAELoader": lambda vae_name="", **_: (sound if "audio" in vae_name else video,),
        "CLIPLoader": lambda **_: (LongText(),),
        "LTXAVTextEncoderLoader": lambda **_: (LongText(),),
        "LTXVAudioVAELoader": lambda **_: (sound,),
        "LatentUpscaleModelLoader": lambda **_: (upscaler(host),),
        "LoraLoader": lambda model, clip, **_: (model, clip),
        "LoraLoaderModelOnly": lambda model, **_: (model,),
        "LoadImage": lambda **_: (picture, picture[..., 0]),
        "ResizeImageMaskNode": lambda **_: (picture,),
        "ResolutionSelector": lambda **_: (128, 128),
    })  # fmt: skip
    found = {}

    class Seen:
        FUNCTION, OUTPUT_NODE, RETURN_TYPES, CATEGORY = "run", True, (), ""
        INPUT_TYPES = classmethod(lambda cls: {"required": {"latent": ("LATENT",), "name": ("STRING", {})}})

        def run(self, latent, name):
            found[name] = [each.clone() for each in latent["samples"].unbind()]
            return {}

    monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "Seen", Seen)
    return SimpleNamespace(found=found, known=known)


@pytest.fixture
def run_template(host, carried, execute, seen, page):  # noqa: F811
    """A function that runs a template, changed by another one: the latents of its samplers, by pass and clip."""

    def run_template(name, change):
        workflow = copy.deepcopy(video_templates(carried(PACKAGE))[f"{name}.json"])
        change(workflow)
        definitions = definitions_of(seen.known, workflow)
        prompt = convert.to_prompt(workflow, definitions)
        titles = {str(node["id"]): node.get("title") or "" for node in nodes(workflow)}
        plain = {key: node["inputs"]["prompt"] for key, node in prompt.items()
                 if node["class_type"] == "TextGenerateLTX2Prompt"}  # fmt: skip
        prompt = {
            key: node for key, node in prompt.items() if key not in plain and node["class_type"] != "PreviewAny"
        }
        for key, node in list(prompt.items()):
            inputs = node["inputs"]
            for each, value in inputs.items():  # no prompts by a language model
                inputs[each] = plain.get(value[0], value) if isinstance(value, list) else value
            for each, value in inputs.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    inputs[each] = (
                        SMALL.get(value, value) if each in ("value", "width", "height", "length") else value
                    )
            if node["class_type"] == "RandomNoise":  # of the same values
                node["class_type"] = "VidRD_Noise"
                inputs |= {"seed": inputs.pop("noise_seed"), "prompt_frames": 4, "alpha": 4.0, "order": "auto"}
            if node["class_type"] == "SamplerCustomAdvanced":
                sigmas = prompt[inputs["sigmas"][0]]
                number = 2 if "0.85," in str(sigmas) or "'0.909375" in str(sigmas) else 1
                clip = titles[key.split(":")[-1]].rpartition("clip ")[2]
                name = f"pass {number}, clip {clip if clip.isdecimal() else 1}"
                prompt[f"seen {key}"] = {"class_type": "Seen", "inputs": {"latent": [key, 0], "name": name}}
        seen.found.clear()
        _, errors, refused = execute(prompt)
        assert refused == {}
        assert [each["exception_message"] for each in errors] == []
        return dict(seen.found)

    return run_template


@pytest.mark.parametrize("name", NAMES)
def test_a_long_template_in_two_passes(run_template, output, name):
    before = set(output.rglob("*.mp4"))
    stock = run_template(name, lambda workflow: None)
    made = set(output.rglob("*.mp4"))
    assert stock.keys() == {"pass 1, clip 1", "pass 2, clip 1"}
    found = run_template(name, lambda workflow: extend_workflow(parse_workflow(workflow), 3, prompt_frames=4))
    assert found.keys() == {f"pass {number}, clip {clip}" for number in (1, 2) for clip in (1, 2, 3)}
    for key, parts in stock.items():
        for ours, theirs in zip(found[key], parts, strict=True):
            assert theirs.std() > 0.01
            assert torch.equal(ours, theirs)
    assert found["pass 2, clip 1"][0].shape[3] == 2 * found["pass 1, clip 1"][0].shape[3]
    for number in (1, 2):
        for clip in (2, 3):
            (old, heard), (new, hears) = (found[f"pass {number}, clip {each}"] for each in (clip - 1, clip))
            assert torch.equal(new[:, :, 1:5], old[:, :, -4:])
            assert not torch.allclose(new[:, :, 5:], old[:, :, -2:], atol=0.1)
            begin = round(hears.shape[2] / 49)
            count = round(hears.shape[2] * 33 / 49) - begin
            assert torch.equal(hears[:, :, begin : begin + count], heard[:, :, -count:])
    (plain,), (long,) = made - before, set(output.rglob("*.mp4")) - made
    short, after = (read_video(path)[0] for path in (plain, long))
    assert short.shape[1:] == after.shape[1:]
    assert (len(short), len(after)) == (49, 49 + 2 * 16)


@pytest.mark.parametrize("name", ["video_ltx2_3_flf2v", "video_ltx2_5_flf2v"])
def test_a_long_template_from_the_first_to_the_last_frame(run_template, output, name):
    """The stock template's clip has both guide frames, and so does a long one of a single clip."""
    stock = run_template(name, lambda workflow: None)
    (short,) = run_template(
        name, lambda workflow: extend_workflow(parse_workflow(workflow), 1, prompt_frames=4)
    ).values()
    for ours, theirs in zip(short, stock["pass 1, clip 1"], strict=True):
        assert theirs.std() > 0.01
        assert torch.equal(ours, theirs)
    before = set(output.rglob("*.mp4"))
    found = run_template(name, lambda workflow: extend_workflow(parse_workflow(workflow), 3, prompt_frames=4))
    assert [found[f"pass 1, clip {clip}"][0].shape[2] for clip in (1, 2, 3)] == [7 + 1, 7, 7 + 1]
    for clip in (2, 3):
        (old, heard), (new, hears) = (found[f"pass 1, clip {each}"] for each in (clip - 1, clip))
        assert torch.equal(new[:, :, 1:5], old[:, :, 3:7])
        begin = round(hears.shape[2] / 49)
        count = round(hears.shape[2] * 33 / 49) - begin
        assert torch.equal(hears[:, :, begin : begin + count], heard[:, :, -count:])
    (path,) = set(output.rglob("*.mp4")) - before
    assert len(read_video(path)[0]) == 49 + 2 * 16


@pytest.mark.parametrize("name", ["video_ltx2_t2v_distilled", "video_ltx2_3_flf2v"])
def test_the_pictures_of_a_template_without_its_sound(run_template, output, name):
    before = set(output.rglob("*.mp4"))

    def change(workflow):
        for each in nodes(workflow):
            if each["type"] == "LTXVAudioVAEDecode":
                each["mode"] = 2
        extend_workflow(parse_workflow(workflow), 2, prompt_frames=4)

    run_template(name, change)
    (path,) = set(output.rglob("*.mp4")) - before
    assert len(read_video(path)[0]) == 49 + 16
