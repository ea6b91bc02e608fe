"""config.json: of which part it is, what in it is not supported, and whether it is of the weights beside it."""

import contextlib
import inspect
import json
import shutil
import warnings

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, UNet2DConditionModel, UNet3DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig

from vidrd_core import load
from vidrd_core.cli.errors import format_warning
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats import detect
from vidrd_core.models.formats.config_files import READ, SERVED, UNUSED
from vidrd_core.models.formats.detect import find_unet
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.load_parts import find_clip_text, find_vae, load_unet

from . import originals

OTHER = {  # a value of each key that makes another network, as diffusers' and transformers' classes take them
    "unet": {
        "flip_sin_to_cos": False, "freq_shift": 1, "center_input_sample": True, "act_fn": "gelu", "norm_eps": 1e-6,
        "down_block_types": ["AttnDownBlock2D", "DownBlock2D"], "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ["UpBlock2D", "SimpleCrossAttnUpBlock2D"], "only_cross_attention": [False, True],
        "mid_block_only_cross_attention": True, "dual_cross_attention": True, "downsample_padding": 0,
        "mid_block_scale_factor": 1.5, "transformer_layers_per_block": [1, 2],
        "reverse_transformer_layers_per_block": [2, 1], "encoder_hid_dim": 512, "encoder_hid_dim_type": "text_proj",
        "class_embed_type": "timestep", "addition_embed_type": "text_time", "num_class_embeds": 10,
        "class_embeddings_concat": True, "projection_class_embeddings_input_dim": 2816,
        "resnet_time_scale_shift": "scale_shift", "resnet_skip_time_act": True, "resnet_out_scale_factor": 1.41,
        "time_embedding_type": "fourier", "time_embedding_dim": 512, "time_embedding_act_fn": "silu",
        "timestep_post_act": "silu", "time_cond_proj_dim": 256, "conv_in_kernel": 1, "conv_out_kernel": 1,
        "attention_type": "gated", "cross_attention_norm": "layer_norm", "upcast_attention": "always",
    },
    "vae": {"act_fn": "gelu", "mid_block_add_attention": False},
    "text_encoder": {"layer_norm_eps": 1e-6, "hidden_act": "relu"},
}  # fmt: skip
FOLDERS = {"unet": "unet", "vae": "vae", "text_encoder": "text_encoder"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return originals.stable_diffusion(tmp_path_factory.mktemp("sd"))


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_there_is_a_case_for_each_key():
    assert {part: set(values) for part, values in OTHER.items()} == {part: set(v) for part, v in SERVED.items()}


@pytest.mark.parametrize(("part", "key"), [(part, key) for part in OTHER for key in OTHER[part]])
def test_a_config_of_another_network_is_refused_by_name(whole, part, key):
    path = whole / FOLDERS[part] / "config.json"
    before = path.read_text()
    try:
        changed(path, **{key: OTHER[part][key]})
        with pytest.raises(
            FormatError, match=f"config.json says {key} .*, expected .*: such a .* is another network"
        ):
            load(whole)
    finally:
        path.write_text(before)


@pytest.mark.parametrize("upcast", [True, False])
@torch.no_grad()
def test_upcast_attention_changes_nothing_in_diffusers_either(whole, upcast):
    path = whole / "unet" / "config.json"
    before = path.read_text()
    try:
        changed(path, upcast_attention=upcast)
        theirs = type(originals.unet_2d()).from_pretrained(whole / "unet")
        ours = load(whole).unet
        x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, originals.TEXT_WIDTH)
        expected = theirs(x, torch.tensor(7), text).sample
        torch.testing.assert_close(
            ours(x[:, :, None], torch.tensor([7]), text)[:, :, 0], expected, rtol=1e-4, atol=1e-4
        )
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"block_out_channels": [64, 64]}, r"block_out_channels \[64, 64\], the tensors have \[32, 64\]"),
        ("unet", {"layers_per_block": [2, 2]}, r"layers_per_block \[2, 2\], the tensors have \[1, 1\]"),
        ("unet", {"cross_attention_dim": 768}, "cross_attention_dim 768, the tensors have 128"),
        ("unet", {"in_channels": 9}, "in_channels 9, the tensors have 4"),
        ("vae", {"latent_channels": 16}, "latent_channels 16, the tensors have 4"),
        ("text_encoder", {"vocab_size": 5}, "vocab_size 5, the tensors have 190"),
    ],
)
def test_a_config_of_other_weights_is_refused(whole, part, values, message):
    path = whole / part / "config.json"
    before = path.read_text()
    try:
        changed(path, **values)
        with pytest.raises(FormatError, match=message):
            load(whole)
    finally:
        path.write_text(before)


@pytest.fixture
def checkpoint(tmp_path):
    """A UNet's file in a folder of its own, with LDM's names and norms of 8 groups, which tensors do not show."""
    found = find_unet(originals.stable_diffusion(tmp_path) / "unet")[0]
    (tmp_path / "alone").mkdir()
    written = write_unet(found.config, found.tensors, "LDM")
    save_file({key: t.contiguous() for key, t in written.items()}, tmp_path / "alone" / "model.safetensors")
    return tmp_path / "alone" / "model.safetensors", found.config


def test_a_config_without_a_class_is_read_if_its_keys_fit(checkpoint):
    path, expected = checkpoint
    with pytest.raises(FormatError, match="attention heads"):
        find_unet(path)
    path.with_name("config.json").write_text(json.dumps({"norm_num_groups": 8, "attention_head_dim": 4}))
    assert find_unet(path)[0].config == expected
    path.with_name("config.json").write_text(json.dumps({"norm_num_groups": 8, "freq_shift": 1}))
    with pytest.raises(FormatError, match="freq_shift 1, expected 0"):
        find_unet(path)


def test_a_config_of_no_part_is_said_to_be_unused(checkpoint):
    path, _ = checkpoint
    path.with_name("config.json").write_text(json.dumps({"norm_num_groups": 8, "attention_heads": 4}))
    with (
        pytest.warns(
            UserWarning, match="config.json is not used: it names no class, and 'attention_heads' is no sett"
        ),
        pytest.raises(FormatError, match="attention heads"),
    ):
        find_unet(path)
    shown = format_warning("it is not used", UserWarning, detect.__file__, 7)
    assert shown == "vidrd: warning: it is not used\n"
    assert format_warning("it is not used", UserWarning, json.__file__, 7).startswith(
        f"{json.__file__}:7: UserWarning"
    )


@pytest.mark.parametrize("named", [None, "", "UNet2DConditionModel"])
def test_a_whole_config_of_diffusers_is_read_with_and_without_its_class(checkpoint, named):
    path, expected = checkpoint
    config = {key: value for key, value in originals.unet_2d().config.items() if not key.startswith("_")}
    path.with_name("config.json").write_text(json.dumps({**config, "_class_name": named, "_diffusers_version": "1"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_unet(path)[0].config == expected


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("unet", [UNet2DConditionModel, UNet3DConditionModel]),
        ("vae", [AutoencoderKL, AutoencoderKLTemporalDecoder]),
        ("text_encoder", [CLIPTextConfig]),
    ],
)
def test_all_settings_of_the_classes_are_known(part, kinds):
    known = {*READ[part], *SERVED[part], *UNUSED[part]}
    for kind in kinds:
        keys = set(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}
        keys |= set(kind().to_dict()) - {"_name_or_path"} if kind is CLIPTextConfig else set()
        assert keys <= known
    assert all(values[0] is not None or None in values for values in SERVED[part].values())


@pytest.mark.parametrize("name", ["UNet2DModel", "UNetMotionModel", "MyUNet", "StableDiffusionPipeline"])
def test_a_config_of_a_class_of_no_part_is_said_to_be_unused(checkpoint, name):
    path, _ = checkpoint
    path.with_name("config.json").write_text(json.dumps({"_class_name": name, "norm_num_groups": 8}))
    with (
        pytest.warns(
            UserWarning, match=f"config.json is not used: its class is {name}, which is none of a UNet, a VAE"
        ),
        pytest.raises(FormatError, match="attention heads"),
    ):
        find_unet(path)


@torch.no_grad()
def test_a_2d_unet_without_its_number_of_heads_has_eight(tmp_path):
    theirs = originals.unet_2d(heads=8)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["attention_head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = type(theirs).from_pretrained(tmp_path)
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, originals.TEXT_WIDTH)
    ours, _ = load_unet(tmp_path)
    expected = theirs(x, torch.tensor(7), text).sample
    torch.testing.assert_close(ours(x[:, :, None], torch.tensor([7]), text)[:, :, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    """A whole model in one file, with the norms and heads that are taken for granted without a config."""
    parts = {
        "unet.": originals.unet_2d(heads=[1, 2], linear=True, widths=(64, 128), groups=32),
        "vae.": originals.vae(widths=(32, 64), groups=32),
        "text_encoder.text_model.": originals.text_encoder(190),
    }
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    tensors = {
        prefix + key.removeprefix("text_model."): tensor.contiguous()
        for prefix, part in parts.items()
        for key, tensor in part.state_dict().items()
    }
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("with_type", [True, False])
def test_a_text_config_without_architectures_is_read(whole_file, with_type):
    config = CLIPTextConfig(
        vocab_size=190, hidden_size=128, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        hidden_act="gelu",
    ).to_dict()  # fmt: skip
    assert (config["architectures"], config["model_type"]) == (None, "clip_text_model")
    if not with_type:
        del config["model_type"]
    whole_file.with_name("config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = find_clip_text(whole_file)[0]
    assert (settings.heads, settings.activation, settings.layers) == (4, "gelu", 3)


@pytest.mark.parametrize(
    ("widths", "channels", "groups"), [([64, 128], 4, (16, 32)), ([32, 64], 3, (32, 16)), ([8, 16], 5, (32, 32))]
)
def test_a_config_that_unet_and_vae_share_is_of_the_part_whose_tensors_it_fits(whole_file, widths, channels, groups):
    config = {"norm_num_groups": 16, "in_channels": channels, "out_channels": channels, "block_out_channels": widths}
    whole_file.with_name("config.json").write_text(json.dumps(config))
    unused = "|".join(part for part, found in zip(("UNet", "VAE"), groups, strict=True) if found == 32)
    with pytest.warns(
        UserWarning, match=f"config.json is not used for the ({unused}): config.json says .* other weig"
    ):
        assert (find_unet(whole_file)[0].config.norm_groups, find_vae(whole_file)[1].norm_groups) == groups


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "AutoencoderKL", "norm_num_groups": 4, "act_fn": "gelu"},
        {"architectures": ["CLIPTextModel"], "num_attention_heads": 3},
        {"latent_channels": 4, "scaling_factor": 0.13},
        {"hidden_size": 128, "num_attention_heads": 3},
    ],
)
def test_the_config_of_another_part_is_not_the_unets(checkpoint, config):
    path, expected = checkpoint
    tensors = find_unet_with(path, {"norm_num_groups": 8, "attention_head_dim": 4})
    path.with_name("config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FormatError, match="attention heads"):
            find_unet(path)
    assert tensors == expected


def find_unet_with(path, config):
    path.with_name("config.json").write_text(json.dumps(config))
    return find_unet(path)[0].config


def test_each_part_of_a_folder_has_its_own_config(whole):
    assert find_vae(whole)[1].norm_groups == 8
    assert find_clip_text(whole)[0].vocabulary == 190
    assert not set(READ["vae"]) & set(SERVED["text_encoder"])


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_file_that_lacks_a_part_says_how_to_go_on(whole, part, tmp_path, monkeypatch):
    loaded = load(whole)
    prefixes = {"unet": "unet.", "vae": "vae.", "text_encoder": "text_encoder."}
    tensors = {}
    for name, prefix in prefixes.items():
        if name != part:
            state = getattr(loaded, name).state_dict()
            tensors |= {f"{prefix}{key.removeprefix('clip.')}": tensor.clone() for key, tensor in state.items()}
    save_file(tensors, tmp_path / "m.safetensors")
    config = {"_class_name": "UNet2DConditionModel", "norm_num_groups": 8, "attention_head_dim": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    option = part.replace("_", "-")
    monkeypatch.setattr(detect, "find_unet", None)  # said before gigabytes are read
    with pytest.raises(FileNotFoundError, match=rf"m.safetensors has no .*: name one with --{option} \({part}=\)"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("model", "kept", "message"),
    [
        (
            ".",
            ("unet", "vae", "tokenizer"),
            r"has no text encoder: name one with --text-encoder \(text_encoder=\), as",
        ),
        (
            ".",
            ("unet", "text_encoder", "tokenizer"),
            r"has no VAE: name one with --vae \(vae=\), as the folder vae of",
        ),
        (
            "unet",
            ("unet", "vae", "text_encoder"),
            r"unet has no VAE: name one with --vae \(vae=\), as the folder vae",
        ),
    ],
)
def test_a_folder_that_lacks_a_part_says_how_to_go_on(whole, model, kept, message, tmp_path, monkeypatch):
    for part in kept:
        shutil.copytree(whole / part, tmp_path / part)
    monkeypatch.setattr(detect, "find_unet", None)
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path / model)


def test_a_tokenizer_for_a_model_without_a_text_encoder_is_said_to_be_no_more(whole, tmp_path):
    shutil.copytree(whole / "unet", tmp_path / "unet")
    shutil.copytree(whole / "vae", tmp_path / "vae")
    with pytest.raises(
        FileNotFoundError, match=r"has no text encoder, and .*tokenizer has at most a tokenizer: name"
    ):
        load(tmp_path, text_encoder=whole / "tokenizer")
    assert load(tmp_path, text_encoder=whole).text_encoder.config.layers == 3


@pytest.mark.parametrize("variant", [None, "fp16", "bf16", "non_ema", "mine"])
@pytest.mark.parametrize("shard", ["100KB", "1GB"])
@pytest.mark.parametrize("safe", [True, False])
def test_variants_and_their_shards_are_found(variant, shard, safe, tmp_path):
    unet = originals.unet_2d()
    unet.save_pretrained(tmp_path / "unet", variant=variant, max_shard_size=shard, safe_serialization=safe)
    found = find_unet(tmp_path / "unet")[0].tensors
    assert found.keys() == unet.state_dict().keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in unet.state_dict().items())


def test_of_several_variants_the_plain_one_is_taken(tmp_path):
    for number, variant in enumerate(["non_ema", "fp16", None, "bf16"]):
        unet = originals.unet_2d()
        with torch.no_grad():
            unet.conv_in.bias.fill_(number)
        unet.save_pretrained(tmp_path, variant=variant)
    assert find_unet(tmp_path)[0].tensors["conv_in.bias"][0] == 2


def test_the_plain_variant_is_taken_though_it_is_a_bin(tmp_path):
    unet, other = originals.unet_2d(), originals.unet_2d()
    with torch.no_grad():
        other.conv_in.bias.fill_(7)
    unet.save_pretrained(tmp_path / "unet", safe_serialization=False)
    other.save_pretrained(tmp_path / "unet", variant="fp16")
    expected = type(unet).from_pretrained(tmp_path / "unet").conv_in.bias
    torch.testing.assert_close(find_unet(tmp_path / "unet")[0].tensors["conv_in.bias"], expected)


def test_the_plain_text_encoder_is_taken_though_it_is_a_bin(tmp_path):
    """Its files have two names: model.safetensors and pytorch_model.bin."""
    text = originals.text_encoder(190)
    text.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with torch.no_grad():
        text.get_input_embeddings().weight.fill_(7)
    text.save_pretrained(tmp_path, variant="fp16")
    expected = type(text).from_pretrained(tmp_path).get_input_embeddings().weight
    torch.testing.assert_close(find_clip_text(tmp_path)[1]["embeddings.token_embedding.weight"], expected)


def test_an_index_without_its_shards_does_not_hide_another_variant(tmp_path):
    unet = originals.unet_2d()
    unet.save_pretrained(tmp_path, max_shard_size="100KB")
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks diffusion_pytorch_model-00001-of-\d+.safetensors, .*, which"):
        find_unet(tmp_path)
    unet.save_pretrained(tmp_path, variant="fp16", max_shard_size="60KB")
    expected = type(unet).from_pretrained(tmp_path, variant="fp16").state_dict()
    found = find_unet(tmp_path)[0].tensors
    assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())


@pytest.mark.parametrize(
    ("model", "part", "find"),
    [("image", "unet", find_unet), ("image", "vae", find_vae), ("image", "text_encoder", find_clip_text),
     ("video", "unet", find_unet)],
)  # fmt: skip
def test_values_of_any_type_are_read_or_refused(whole, tmp_path, model, part, find):
    if model == "video":
        originals.modelscope(tmp_path)
        whole = tmp_path / "model"
    path = whole / FOLDERS[part] / "config.json"
    before = path.read_text()
    odd = [None, True, -1, 0, 0.5, 10**400, float("nan"), "8", [], [8, 8], ["x", "x"], {}, {"a": 1}]
    try:
        for key in [*json.loads(before), "text_config", "auto_map"]:
            for value in odd:
                changed(path, **{key: value})
                with contextlib.suppress(ValueError):
                    find(whole / FOLDERS[part])
    finally:
        path.write_text(before)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_number_that_no_float_is_near_is_refused(whole, tmp_path, part):
    shutil.copytree(whole, tmp_path / "model")
    changed(tmp_path / "model" / part / "config.json", norm_eps=10**400, scaling_factor=10**400)
    with pytest.raises(FormatError, match=r"config\.json is no readable JSON: a whole number of 401 digits"):
        load(tmp_path / "model")
