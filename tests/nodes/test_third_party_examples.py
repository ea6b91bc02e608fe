"""The workflows for third-party models, with small random models in place of their files."""

import asyncio
from pathlib import Path

import pytest
import torch

from vidrd_core.video import read_video

from ..workflows.convert import to_prompt
from ..workflows.files import EXAMPLES, read
from ..workflows.stock import definitions
from .small_models import SHAPES, image_vae, small_model, small_vae

STEPS = 2
SMALL = {"width": 32, "height": 32, "steps": STEPS}
FRAMES = {  # of the videos that each makes, file by file, with these changes
    "11_wan_long_video": ({"frames": 33}, [33 + 24 + 24]),
    "12_ltxv_longer": ({"frames": 49, "cfg": 1.0}, [49 + 36]),  # no guidance: see test_any_model's CFG
    "13_animatediff_evolved": ({"batch_size": 16}, [16 + 12 + 12]),
}


class Text:
    """A text encoder stand-in: tokens from any text."""

    def tokenize(self, text, **_):
        return text

    def encode_from_tokens_scheduled(self, text, **_):
        generator = torch.Generator().manual_seed(len(text))
        known = {"pooled_output": torch.randn(1, 8, generator=generator), "attention_mask": torch.ones(1, 8)}
        return [[torch.randn(1, 8, 16, generator=generator), known]]


@pytest.fixture
def stand_ins(host, pack, monkeypatch):
    """Replace loaders: `stand_ins({node: function from its inputs to its outputs})`."""

    def put(loaders):
        for name, load in loaders.items():
            definition = definitions()[name]
            given = definition["input"]
            taken = {kind: {each: tuple(said) for each, said in given.get(kind, {}).items()} for kind in given}
            for kind in taken.values():
                for each, (type_, *_) in kind.items():
                    if isinstance(type_, list) or type_ == "COMBO":
                        kind[each] = ("STRING",)  # of any file

            def run(self, load=load, **inputs):
                return load(**inputs)

            methods = {
                "INPUT_TYPES": classmethod(lambda cls, taken=taken: taken),
                "RETURN_TYPES": tuple(definition["output"]), "FUNCTION": "run", "run": run,
            }  # fmt: skip
            monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, name, type(name, (), methods))

    return put


@pytest.mark.parametrize("name", FRAMES)
def test_it_runs_with_small_models(host, execute, stand_ins, name):
    asyncio.run(host.nodes.init_builtin_extra_nodes())
    changes, frames = FRAMES[name]
    kind = name.split("_")[1].replace("animatediff", "sd15")
    model, text = small_model(kind)[0], Text()
    vae = image_vae(host) if kind == "sd15" else small_vae(host, SHAPES[kind][1])
    stand_ins(
        {
            "UNETLoader": lambda **_: (model,),
            "CheckpointLoaderSimple": lambda **_: (model, text, vae),
            "CLIPLoader": lambda **_: (text,),
            "VAELoader": lambda **_: (vae,),
            "ADE_AnimateDiffLoaderGen1": lambda model, **_: (model,),
        }
    )
    prompt = to_prompt(read(EXAMPLES / f"{name}.json"), definitions())
    for node in prompt.values():
        node["inputs"] |= {key: value for key, value in {**SMALL, **changes}.items() if key in node["inputs"]}
    output = Path(host.folder_paths.get_output_directory())
    before = set(output.rglob("*.mp4"))
    _, errors, refused = execute(prompt)
    assert (errors, refused) == ([], {})
    made = sorted(set(output.rglob("*.mp4")) - before)
    assert [len(read_video(video)[0]) for video in made] == frames
