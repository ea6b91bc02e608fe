"""ComfyUI's templates that became long videos, run to their files with small random models in place of weights."""

import asyncio
import copy
import importlib
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow
from vidrd_core.video import read_video

from ..real.conftest import carried  # noqa: F401
from ..stand_in.define import stock_definition
from ..workflows import convert
from ..workflows.files import nodes
from ..workflows.templates import PACKAGE, video_templates
from .families import FAMILIES, build
from .small_models import small_model, small_vae
from .test_sound_written import audio_vae, video_vae
from .test_third_party_examples import Text

pytestmark = pytest.mark.real
SIZES = {"width": 32, "height": 32, "steps": 2, "batch_size": 1}
MORE = {
    "ltxv": {"width": 64, "height": 64, "cfg": 1.0},  # without guidance: see test_any_model's CFG
    # Two experts, of two steps each.
    **{f"video_wan2_2_14B_{name}": {"steps": 4, "switch_step": 2} for name in ("t2v", "i2v", "fun_camera")},
}
# Each template's small model, the length of a clip, and the frames of the video of two: a latent of the second one
# warms up, and three replay (MiniMax H3: none, and two).
RUNS = {
    "text_to_video_wan": ("wan", 25, 25 + 12),
    "video_wan2.1_alpha_t2v_14B": ("wan", 25, 25 + 12),
    "image_to_video_wan": ("wan i2v", 25, 25 + 12),
    "wan2.1_flf2v_720_f16": ("wan i2v", 25, 25 + 12),
    "wan2.1_fun_inp": ("wan i2v", 25, 25 + 12),
    "video_wan_ati": ("wan i2v", 25, 25 + 12),
    "video_wanmove_480p": ("wan i2v", 25, 25 + 12),
    "wan2.1_fun_control": ("wan control", 25, 25 + 12),
    "video_wan2.1_fun_camera_v1.1_1.3B": ("wan camera", 25, 25 + 12),
    "video_wan_vace_14B_t2v": ("wan vace", 25, 25 + 12),
    "video_wan_vace_outpainting": ("wan vace", 25, 25 + 12),
    "video_wan_vace_14B_ref2v": ("wan vace", 25, 25 + 16),  # the reference picture is the latent that warms up
    "video_wan_vace_14B_v2v": ("wan vace", 25, 25 + 16),
    "video_wan2_2_5B_ti2v": ("wan 5b", 25, 25 + 12),
    "video_wan2_2_14B_t2v": ("wan", 25, 25 + 12),
    "video_wan2_2_14B_i2v": ("wan i2v", 25, 25 + 12),
    "video_wan2_2_14B_fun_camera": ("wan camera", 25, 25 + 12),
    "video_hunyuan_video_1.5_720p_t2v": ("Hunyuan Video 1.5", 25, 25 + 12),
    "video_kandinsky5_t2v": ("kandinsky", 25, 25 + 12),
    "video_kandinsky5_i2v": ("kandinsky", 25, 25 + 12),
    "ltxv_text_to_video": ("ltxv", 49, 49 + 24),
    "ltxv_image_to_video": ("ltxv", 49, 49 + 24),
    "hunyuan_video_text_to_video": ("hunyuan", 25, 25 + 12),
    "video_minimax_h3_t2v": ("h3", 39, 39 + 34),
}


class UnmaskedText(Text):
    """Without an attention mask, as Hunyuan Video's own text encoders leave out one that masks nothing."""

    def encode_from_tokens_scheduled(self, text, **more):
        return [[text, {"pooled_output": known["pooled_output"]}]
                for text, known in super().encode_from_tokens_scheduled(text, **more)]  # fmt: skip


def definitions_of(known, workflow):
    """The definitions of a workflow's nodes; tests of those with nodes that this host lacks are skipped."""
    types = {node["type"] for node in nodes(workflow)}
    if lacking := sorted(types - known.NODE_CLASS_MAPPINGS.keys()):
        pytest.skip(f"this host lacks {', '.join(lacking)}")
    return {name: stock_definition(known, name) for name in types}


def replace_loaders(host, monkeypatch, loaders):
    """Put functions, from a node's inputs to its outputs, in the place of the host's nodes: {node: function}."""
    for name, load in loaders.items():
        if name not in host.nodes.NODE_CLASS_MAPPINGS:
            continue
        definition = stock_definition(host.nodes, name)
        given = {
            input_name: (kind_,) if isinstance(kind_, str) and kind_ != "COMBO" else ("STRING",)
            for input_name, (kind_, *_) in definition["input"]["required"].items()
        }
        methods = {
            "INPUT_TYPES": classmethod(lambda cls, given=given: {"required": given}), "FUNCTION": "run",
            "RETURN_TYPES": tuple(definition["output"]), "run": lambda self, load=load, **inputs: load(**inputs),
        }  # fmt: skip
        monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, name, type(name, (), methods))


@pytest.fixture
def small(host, pack, monkeypatch):
    """A function that replaces the loaders by small random models of a family."""
    asyncio.run(host.nodes.init_builtin_extra_nodes())
    host.nodes.NODE_CLASS_MAPPINGS.update(pack)

    def small(kind):
        if kind in FAMILIES:
            model = build(host, kind).model
            video = small_vae(host, FAMILIES[kind].shape[1], FAMILIES[kind].time)
        else:
            model, *_ = small_model(kind)
            channels = {"h3": 24, "wan 5b": 48, "ltxv": 128}.get(kind, 16)
            video = video_vae(host, kind) if kind == "h3" else small_vae(host, channels, 8 if kind == "ltxv" else 4)
        if kind == "ltxv":  # whose own VAE makes one latent of 32 x 32 pixels, not 8 x 8
            encode = video.encode
            video.encode = lambda pixels: encode(pixels)[..., ::4, ::4]
        generator = torch.Generator().manual_seed(3)
        picture = torch.rand(1, 64, 64, 3, generator=generator)
        latest = importlib.import_module("comfy_api.latest")
        parts = latest.Types.VideoComponents(
            images=torch.rand(25, 32, 32, 3, generator=generator), frame_rate=Fraction(16)
        )
        film = latest.InputImpl.VideoFromComponents(parts)
        hidden = torch.randn(1, 257, 16 if kind == "Hunyuan Video 1.5" else 1280, generator=generator)
        seen = SimpleNamespace(
            encode_image=lambda image, crop=True: SimpleNamespace(
                penultimate_hidden_states=hidden, last_hidden_state=hidden, image_embeds=hidden[:, 0]
            )
        )

        def vae(vae_name="", **_):
            return (audio_vae(host, kind) if "audio" in vae_name else video,)

        loaders = {
            "UNETLoader": lambda **_: (model,),
            "CheckpointLoaderSimple": lambda **_: (model, Text(), video),
            "CLIPLoader": lambda **_: (Text(),),
            "DualCLIPLoader": lambda **_: (UnmaskedText() if kind in FAMILIES else Text(),),
            "VAELoader": vae,
            "CLIPVisionLoader": lambda **_: (seen,),
            "LoadImage": lambda **_: (picture, picture[..., 0]),
            "LoadVideo": lambda **_: (film,),
            "LoraLoader": lambda model, clip, **_: (model, clip),
            "LoraLoaderModelOnly": lambda model, **_: (model,),
        }
        replace_loaders(host, monkeypatch, loaders)

    return small


@pytest.mark.parametrize("name", RUNS)
def test_a_long_template_runs(carried, host, execute, small, output, name):  # noqa: F811
    workflow = copy.deepcopy(video_templates(carried(PACKAGE))[f"{name}.json"])
    kind, length, frames = RUNS[name]
    extend_workflow(parse_workflow(workflow), 2)
    definitions = definitions_of(host.nodes, workflow)
    prompt = convert.to_prompt(workflow, definitions)
    small(kind)
    for node in prompt.values():
        changes = {**SIZES, "length": length} | MORE.get(kind, {}) | MORE.get(name, {})
        node["inputs"] |= {each: value for each, value in changes.items() if each in node["inputs"]}
    before = set(output.rglob("*.mp4"))
    _, errors, refused = execute(prompt)
    assert refused == {}
    assert [each["exception_message"] for each in errors] == []
    made = sorted(set(output.rglob("*.mp4")) - before)
    assert made
    assert {len(read_video(path)[0]) for path in made} == {frames}
