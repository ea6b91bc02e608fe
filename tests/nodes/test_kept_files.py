"""Nothing is kept of a file, a list, a text encoder or a latent that is not the one at hand."""

import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.formats.vae import write_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE

from .graphs import executor, frames_of
from .test_kept_clips import SIX, long_video, restart

OPENED, LISTENING = [], []


def hear(event, arguments):
    """Note the files that Python opens; an audit hook cannot be taken away."""
    if LISTENING and event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        OPENED.append(Path(arguments[0]))


sys.addaudithook(hear)


@pytest.fixture
def named_files(kept):
    return importlib.import_module("custom_nodes_vidrd.nodes.host.named_files")


@pytest.fixture
def models(host):
    """A function that makes the path of a new file in a model folder."""
    made = []

    def path_of(kind, name):
        made.append(Path(host.folder_paths.get_folder_paths(kind)[0]) / name)
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        return made[-1]

    yield path_of
    for path in made:
        path.unlink(missing_ok=True)
    host.folder_paths.filename_list_cache.clear()


@pytest.fixture
def shown(host, output):
    """A function that runs a graph of one PNG video and returns its frames."""

    def frames(execute, graph):
        _, errors, refused = execute(graph)
        assert (errors, refused) == ([], {})
        (video,) = execute.server.shown.values()
        return np.stack([np.asarray(Image.open(path)) for path in sorted((output / folder_of(video)).glob("*.png"))])

    def folder_of(video):
        return video["images"][0]["subfolder"]

    return frames


def replace(path, number):
    """Write another file of the same name."""
    path.write_bytes(bytes(100 + number))
    os.utime(path, (time.time() + number, time.time() + number))


@pytest.mark.parametrize("kind", ["latent", "model"])
def test_each_item_of_a_list_has_a_clip_of_its_own(kept, shown, host, pack, monkeypatch, kind):
    class Two:
        FUNCTION, CATEGORY, RETURN_TYPES, OUTPUT_IS_LIST = "make", "test", (kind.upper(),), (True,)

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"one": (kind.upper(),)}}

        def make(self, one):
            if kind == "latent":
                samples = one["samples"]
                mask = torch.zeros(1, 1, *samples.shape[-2:])
                return ([{"samples": torch.full_like(samples, each), "noise_mask": mask} for each in (0.7, -0.7)],)
            other, name = one.clone(), "diffusion_model.conv_in.weight"
            other.add_patches({name: (torch.full_like(one.model_state_dict()[name], 0.05),)})
            return ([one, other],)

    monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "Two", Two)
    source = "empty" if kind == "latent" else "model"
    two = {"class_type": "Two", "inputs": {"one": [source, 0]}}

    def made(prefix):
        graph = long_video(SIX[:1], prefix=f"{prefix}_{kind}", format="png", scale=1, **{kind: ["two", 0]})
        return shown(executor(host, pack, "CLASSIC"), {**graph, "two": two})

    first = made("list")
    assert kept.clips == 2
    again = made("list_again")
    assert kept.clips == 2
    monkeypatch.setenv("VIDRD_KEEP_GB", "0")
    truth = made("list_truth")
    assert not np.array_equal(truth[:8], truth[8:])
    assert np.array_equal(first, truth)
    assert np.array_equal(again, truth)


def test_a_lora_that_was_replaced_while_comfyui_runs(kept, runs, host, pack, tiny, models, monkeypatch, output):
    """The stock loader has no IS_CHANGED: ComfyUI goes on with the old weights, whose clips the new file has not."""
    keys = sys.modules["comfy.lora"].model_lora_keys_unet(tiny.model.model, {})
    weights = tiny.model.model.state_dict()
    names = [name for name in keys if name.startswith("lora_unet") and name.endswith("attn1_to_q")]

    def write(path, seed):
        generator = torch.Generator().manual_seed(seed)
        lora = {}
        for name in names:
            shape = weights[keys[name]].shape
            lora[f"{name}.lora_up.weight"] = torch.randn(shape[0], 2, generator=generator)
            lora[f"{name}.lora_down.weight"] = torch.randn(2, shape[1], generator=generator)
        save_file(lora, path)
        os.utime(path, (seed, seed))

    def graph(prompts, prefix="lora"):
        node = {"model": ["model", 0], "lora_name": "replaced.safetensors", "strength_model": 1.0}
        return {
            **long_video(prompts, prefix=prefix, model=["lora", 0]),
            "lora": {"class_type": "LoraLoaderModelOnly", "inputs": node},
        }

    path = models("loras", "replaced.safetensors")
    write(path, 1)
    execute = executor(host, pack, "CLASSIC")
    assert runs(execute, graph(SIX[:2])) == (2, 2)
    write(path, 2)
    other = [SIX[0], "a green ring moving left"]
    assert runs(execute, graph(other)) == (1, 1)
    kept.forget()
    restart(host)
    assert runs(executor(host, pack, "CLASSIC"), graph(other, "lora_new")) == (2, 2)
    kept.forget()
    restart(host)
    assert runs(executor(host, pack, "CLASSIC"), graph(other, "lora_kept")) == (0, 0)
    monkeypatch.setenv("VIDRD_KEEP_GB", "0")
    assert runs(executor(host, pack, "CLASSIC"), graph(other, "lora_truth")) == (2, 2)
    videos = [frames_of(output / "of_kept" / f"lora_{name}" / "v_00001_.mp4") for name in ("new", "kept", "truth")]
    assert np.array_equal(videos[0], videos[2])
    assert np.array_equal(videos[1], videos[2])


@pytest.mark.parametrize(
    "value",
    [
        "mine.safetensors",
        {"on": True, "lora": "mine.safetensors", "strength": 1.0},
        [{"loras": [["mine.safetensors", 1.0]]}],
        "a fox\n<lora:mine:0.8>",
    ],
)
def test_a_file_is_found_wherever_a_value_names_it(kept, named_files, models, value):
    path = models("loras", "mine.safetensors")
    replace(path, 1)
    first = named_files.versions_of(value)
    assert first == named_files.versions_of(value) != []
    replace(path, 2)
    with pytest.raises(ValueError, match="has changed"):
        named_files.versions_of(value)
    assert named_files.versions_of(value, told="something new") != first
    kept.forget()
    assert named_files.versions_of(value) != first


@pytest.mark.parametrize(
    "text",
    [
        "embedding:style",
        "a fox embedding:style in snow",
        "a fox (embedding:style:1.2), in snow",
        "a fox, embedding:style.safetensors, in snow",
        "a fox embedding:sub/style in snow",
        f"{'a fox ' * 100}\nembedding:style",
    ],
)
def test_embeddings_that_the_host_reads_are_found(kept, named_files, models, host, text):
    path = models("embeddings", "sub/style.safetensors")
    save_file({"emb_params": torch.ones(2, 768)}, path)
    os.utime(path, (1, 1))
    clip = importlib.import_module("comfy.sd1_clip")
    tokenizer = clip.SDTokenizer(embedding_directory=host.folder_paths.get_folder_paths("embeddings"))
    rows = tokenizer.tokenize_with_weights(text)
    assert any(isinstance(token[0], torch.Tensor) for row in rows for token in row)
    first = named_files.versions_of(text)
    os.utime(path, (2, 2))
    kept.forget()
    assert named_files.versions_of(text) != first
    path.unlink()
    with pytest.raises(ValueError, match="has changed"):
        named_files.versions_of(text)


@pytest.mark.parametrize("place", ["input", "diffusers", "anywhere"])
def test_a_folder_has_the_versions_of_its_files(kept, named_files, host, tmp_path, place):
    root = tmp_path / "elsewhere"
    if place != "anywhere":
        root = Path(
            host.folder_paths.get_input_directory()
            if place == "input"
            else host.folder_paths.get_folder_paths(place)[0]
        )
    folder = root / "of_kept" / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    name = str(root / "of_kept") if place == "anywhere" else "of_kept"
    versions = []

    def see():
        kept.forget()
        versions.append(named_files.versions_of(name))

    file = folder / "a.safetensors"
    see()
    replace(file, 1)
    see()
    replace(file, 2)
    see()
    file.rename(folder / "b.safetensors")
    see()
    assert len(set(map(str, versions))) == 4
    (folder / "b.safetensors").unlink()
    assert named_files.versions_of("of_other") == []


def test_a_folder_of_very_many_files_is_not_told(kept, named_files, host, monkeypatch):
    folder = Path(host.folder_paths.get_input_directory()) / "many"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        (folder / str(number)).touch()
    assert named_files.versions_of("many")
    monkeypatch.setattr(named_files, "MOST_FILES", 3)
    with pytest.raises(ValueError, match="more than 3 files"):
        named_files.versions_of("many")


def test_texts_that_name_no_file(named_files, host):
    assert named_files.versions_of(["", ".", "..", "/", "../input", "a fox", "x" * 1000, "a\0b", 1, None, True]) == []


def test_files_are_seen_when_their_nodes_are_queued(kept, named_files, models, monkeypatch):
    handlers = []
    server = SimpleNamespace(add_on_prompt_handler=handlers.append)
    monkeypatch.setattr(importlib.import_module("server").PromptServer, "instance", server, raising=False)
    named_files.watch()
    (see,) = handlers
    path = models("loras", "queued.safetensors")
    replace(path, 1)
    request = {"prompt": {"1": {"inputs": {"lora_name": path.name, "model": ["2", 0]}}, "2": {}, "3": None}}
    for each in (request, {}, {"prompt": None}):
        assert see(each) is each
    replace(path, 2)
    with pytest.raises(ValueError, match="has changed"):
        named_files.versions_of(path.name)


def unet():
    config = UNet3DConfig(
        block_out_channels=(64, 128), attention_levels=(True, False), heads=(1, 2), cross_attention_dim=64,
        layers_per_block=1, temp_conv_depth=0, temp_attention="none",
    )  # fmt: skip
    settings = {"_class_name": "UNet2DConditionModel", "attention_head_dim": [1, 2]}
    return write_unet(config, UNet3D(config).state_dict(), "diffusers"), settings


def vae():
    decoder = TemporalVAE(VAEConfig(block_out_channels=(32, 64), layers_per_block=1, temp_conv_depth=0))
    return write_vae(decoder.config, decoder.state_dict(), "diffusers"), {"_class_name": "AutoencoderKL"}


def text_encoder():
    """A CLIP of two layers, in a width that ComfyUI knows."""
    layers = {f"self_attn.{name}_proj": (768, 768) for name in ("q", "k", "v", "out")}
    layers |= {"mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
    tensors = {
        f"encoder.layers.{number}.{name}.weight": torch.zeros(shape)
        for number in range(2)
        for name, shape in layers.items()
    }
    tensors["embeddings.token_embedding.weight"] = torch.zeros(49408, 768, dtype=torch.float16)
    tensors |= {
        "embeddings.position_embedding.weight": torch.zeros(77, 768),
        "final_layer_norm.weight": torch.ones(768),
    }
    settings = {"_class_name": "CLIPTextModel", "num_hidden_layers": 2, "num_attention_heads": 12}
    return {f"text_model.{name}": tensor for name, tensor in tensors.items()}, settings


@pytest.mark.parametrize(
    ("node", "kind", "part"),
    [
        ("LoadUNet3D", "diffusion_models", unet),
        ("LoadTemporalVAE", "vae", vae),
        ("LoadTextEncoder", "text_encoders", text_encoder),
    ],
)
def test_our_loaders_tell_all_files_that_they_read(host, run, pack, models, node, kind, part):
    """What Python opens in a diffusers folder, as an audit hook hears of it."""
    tensors, settings = part()
    path = models(kind, f"told/{part.__name__}/model.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    whole = path.parent.parent
    beside = {path.with_name("config.json"): settings}
    beside[whole / "scheduler" / "scheduler_config.json"] = {"_class_name": "DDIMScheduler", "clip_sample": False}
    for name in ("preview.json", "model_index.json", "configuration.json", "tokenizer/vocab.json", "vocab.json"):
        beside[path.parent / name] = beside[whole / name] = {}
    for file, data in beside.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(data))
    host.folder_paths.filename_list_cache.clear()
    inputs = {"file": f"told/{part.__name__}/model.safetensors"}
    inputs |= {"weight_dtype": "default"} if node == "LoadUNet3D" else {}

    def told():
        return pack[f"VidRD_{node}"].fingerprint_inputs(**inputs)

    OPENED.clear()
    LISTENING.append(True)
    try:
        run(node, **inputs)
    finally:
        LISTENING.clear()
    read = {file for file in OPENED if whole in file.parents} | {path}
    assert path.with_name("config.json") in read
    assert read <= {Path(version[0]) for version in told()}
    for file in read:
        before = told()
        os.utime(file, (1, 1))
        assert told() != before
    for file in beside:
        file.unlink()


def test_a_text_encoder_or_latent_that_computes_otherwise_makes_all_again(kept, runs, host, pack, monkeypatch):
    """As ComfyUI's flags change the data type of text encoders and VAEs, whatever the workflow says."""
    text = importlib.import_module("custom_nodes_vidrd.nodes.host.text")
    encode, value = text.HostTextEncoder.encode, [0.0]

    class Latent:
        FUNCTION, CATEGORY, RETURN_TYPES = "make", "test", ("LATENT",)

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"latent": ("LATENT",)}}

        def make(self, latent):
            return ({"samples": latent["samples"] + value[0]},)

    monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "Latent", Latent)
    graph = long_video(SIX[:2], latent=["other", 0])
    graph["other"] = {"class_type": "Latent", "inputs": {"latent": ["empty", 0]}}

    def made():
        restart(host)
        return runs(executor(host, pack, "CLASSIC"), graph)

    assert [made(), made()] == [(2, 2), (0, 0)]
    with monkeypatch.context() as patch:
        rounded = lambda self, tokens: (encode(self, tokens)[0].to(torch.float8_e4m3fn).float(), None)  # noqa: E731
        patch.setattr(text.HostTextEncoder, "encode", rounded)
        assert [made(), made()] == [(2, 2), (0, 0)]
    assert made() == (0, 0)
    value[0] = 0.5
    assert [made(), made()] == [(2, 2), (0, 0)]


def test_the_digest_of_tensors_is_of_their_values_types_shapes_and_places(kept):
    ones = torch.ones(2, 3)
    different = [
        None, ones, ones.T, ones.half(), ones.bfloat16(), ones.to(torch.float8_e4m3fn), ones > 0, torch.zeros(2, 3),
        ones[:0], torch.tensor(1.0), [ones], [None, ones], {"samples": ones}, {"noise_mask": ones},
        [[ones, {"a": ones}]],
    ]  # fmt: skip
    if importlib.util.find_spec("comfy.nested_tensor"):  # newer hosts
        nested = importlib.import_module("comfy.nested_tensor").NestedTensor
        different += [nested([ones, ones]), nested([ones, ones[:1]])]
    digests = [kept.module._digest_of_tensors(each) for each in different]
    assert len(set(digests)) == len(different)
    assert digests[1] == kept.module._digest_of_tensors(torch.ones(3, 2).T)
