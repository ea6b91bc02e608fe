"""Adapters that PEFT and diffusers write themselves change every weight as PEFT's own merge does."""

import copy
import json
import warnings

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from vidrd_core import load
from vidrd_core.io.safetensors import FormatError

from ..formats import originals

UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.0.proj", "conv1", "conv_shortcut", "conv_in"]
TEXT = ["q_proj", "out_proj", "fc1", "fc2"]
FIRST = "down_blocks.0.attentions.0.transformer_blocks.0"


def adapted(module, config):
    """A copy of a module with an adapter whose trained tensors are all random."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(copy.deepcopy(module), config).eval()
    for tensor in model.parameters():
        if tensor.requires_grad:
            tensor.data += 0.2 * torch.randn_like(tensor)
    return model


def assert_equals(ours, part, merged):
    """Our part's weights are those of PEFT's merged module, and some are no longer what they were."""
    mine = {name.removeprefix("clip."): tensor for name, tensor in getattr(ours, part).state_dict().items()}
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(mine[name].reshape(tensor.shape), tensor, rtol=2e-5, atol=2e-5, msg=name)


def changed(ours):
    return len(ours.merged.originals)


def lora(**settings):
    return LoraConfig(**{"r": 3, "lora_alpha": 6, "target_modules": UNET, "init_lora_weights": False, **settings})


PATTERNS = {
    "a suffix": {"to_q": 1},
    "a longer suffix": {"attn1.to_q": 1, "transformer_blocks.0.attn2.to_k": 20},
    "no suffix at a dot": {"o_q": 1, "onv1": 20},
    "an anchor": {rf"^{FIRST}.attn1.to_q": 1, "^conv_in": 20},
    "an anchor at a part": {"^to_q": 1, "^attn1.to_k": 20},
    "a whole name": {f"{FIRST}.attn1.to_q": 1},
    "an expression": {r".*\.attn[12]\.to_(q|k)": 1},
    "a beginning without end": {"down_blocks": 1, "mid_block": 20},
    "a beginning and anything": {"down_blocks.*": 1, r"^mid_block\..*": 20, "up_blocks.*to_out.0": 7},
    "the first of two": {"to_q": 1, "attn1.to_q": 20},
    "the first of two, turned": {"attn1.to_q": 20, "to_q": 1},
    "alternatives": {"to_q|conv1": 1, "to_k": -20},
    "an end": {"to_q$": 1, "to_out.0$": 2.5},
    "zero": {"to_q": 0},
    "a look-ahead": {r"(?!mid_block).*to_q": 1},
}


@pytest.mark.parametrize("patterns", PATTERNS.values(), ids=PATTERNS)
def test_patterns_of_alphas_and_ranks(models, ours, tmp_path, patterns):
    ranks = {pattern: 1 + number for number, pattern in enumerate(patterns)}
    config = lora(alpha_pattern=patterns, rank_pattern=ranks, use_rslora=len(patterns) > 1)
    adapted(models[1], config).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"  # PEFT sorts the patterns as it writes them, so that others come first
    file.write_text(json.dumps(json.loads(file.read_text()) | {"alpha_pattern": patterns, "rank_pattern": ranks}))
    ours.load_lora(tmp_path)
    assert changed(ours) > 20
    peft = PeftModel.from_pretrained(copy.deepcopy(models[1]), tmp_path)
    assert_equals(ours, "unet", peft.merge_and_unload())


SETTINGS = {
    "rank 1": {"r": 1},
    "alpha 0": {"lora_alpha": 0},
    "a negative alpha": {"lora_alpha": -5},
    "a fraction": {"lora_alpha": 0.5},
    "rank-stabilised": {"use_rslora": True},
    "fan in, fan out": {"fan_in_fan_out": True},
    "bias": {"lora_bias": True, "target_modules": ["to_out.0", "proj_in", "conv1", "time_emb_proj"]},
    "own biases": {"bias": "lora_only"},
    "all biases": {"bias": "all"},
    "whole modules": {"modules_to_save": ["conv_out", "time_embedding", "conv_norm_out"]},
    "DoRA": {"use_dora": True},
    "DoRA, rank-stabilised": {"use_dora": True, "use_rslora": True, "alpha_pattern": {"attn1.to_q": 1}},
    "some blocks": {"layers_to_transform": [0], "layers_pattern": "down_blocks"},
    "an expression": {"target_modules": r".*attn2\.to_[qk]"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_of_a_lora(models, ours, tmp_path, settings):
    targets = {"target_modules": [t for t in UNET if t != "conv_in"]} if "layers_pattern" in settings else {}
    peft = adapted(models[1], lora(**targets, **settings))
    peft.save_pretrained(tmp_path)
    ours.load_lora(tmp_path)
    assert changed(ours) >= 4
    assert_equals(ours, "unet", peft.merge_and_unload())


TEXT_SETTINGS = {
    "patterns": {"alpha_pattern": {r"^encoder\.layers\.1\..*": 1, "fc1": 20}, "rank_pattern": {"mlp.fc2": 1}},
    "some layers": {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
    "DoRA": {"use_dora": True},
    "all biases": {"bias": "all"},
    "whole modules": {"modules_to_save": ["final_layer_norm"]},
    "embeddings": {"target_modules": ["token_embedding", "position_embedding", "q_proj"]},
    "embeddings, DoRA": {"target_modules": ["token_embedding"], "use_dora": True},
}


@pytest.mark.parametrize("settings", TEXT_SETTINGS.values(), ids=TEXT_SETTINGS)
def test_every_setting_of_a_lora_for_the_text_encoder(models, ours, tmp_path, settings):
    peft = adapted(models[2], lora(**{"target_modules": TEXT, **settings}))
    peft.save_pretrained(tmp_path)
    ours.load_lora(tmp_path)
    assert_equals(ours, "text_encoder", peft.merge_and_unload())


OTHERS = {
    "LoHa": LoHaConfig(r=3, alpha=6, target_modules=UNET, init_weights=False),
    "LoHa, kernels": LoHaConfig(r=3, alpha=6, target_modules=UNET, init_weights=False, use_effective_conv2d=True),
    "LoHa, patterns": LoHaConfig(
        r=3, alpha=6, target_modules=UNET, alpha_pattern={"^conv_in": 1, "attn1.*": -9}, rank_pattern={"to_q": 1}
    ),
    "LoKr": LoKrConfig(r=2, alpha=6, target_modules=UNET, init_weights=False),
    "LoKr, whole": LoKrConfig(r=64, alpha=6, target_modules=UNET, init_weights=False),
    "LoKr, kernels": LoKrConfig(r=2, alpha=6, target_modules=UNET, init_weights=False, use_effective_conv2d=True),
    "LoKr, both factors": LoKrConfig(
        r=1, alpha=6, target_modules=UNET, decompose_both=True, decompose_factor=8, use_effective_conv2d=True
    ),
    "LoKr, patterns": LoKrConfig(
        r=2,
        alpha=6,
        target_modules=UNET,
        alpha_pattern={"^conv_in": 1, "to_k": 0},
        rank_pattern={"to_q": 64, "conv1": 1},
    ),
}


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
def test_loha_and_lokr_of_peft(models, ours, tmp_path, config):
    peft = adapted(models[1], copy.deepcopy(config))
    peft.save_pretrained(tmp_path)
    ours.load_lora(tmp_path)
    assert changed(ours) > 20
    assert_equals(ours, "unet", peft.merge_and_unload())


@pytest.mark.parametrize(
    ("config", "entries"),
    [(lora(r=8), ["lora_alpha", "r"]), (OTHERS["LoKr, whole"], ["alpha"]), (OTHERS["LoHa"], ["alpha"])],
    ids=["LoRA", "LoKr", "LoHa"],
)
def test_entries_that_a_config_lacks_are_pefts_defaults(models, ours, tmp_path, config, entries):
    adapted(models[1], copy.deepcopy(config)).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k not in entries}))
    ours.load_lora(tmp_path)
    peft = PeftModel.from_pretrained(copy.deepcopy(models[1]), tmp_path)
    assert_equals(ours, "unet", peft.merge_and_unload())


@pytest.mark.parametrize(
    "config",
    [lora(use_dora=True), LoHaConfig(r=3, alpha=5, target_modules=["to_q"], init_weights=False),
     LoKrConfig(r=3, alpha=5, target_modules=["to_q", "conv1"], init_weights=False)],
    ids=["DoRA", "LoHa", "LoKr"],
)  # fmt: skip
def test_an_adapter_of_any_name_in_a_state_dict_or_a_file_of_any_name(models, ours, tmp_path, config):
    peft = adapted(models[1], config)
    named = {key.replace(".default", ".style"): tensor.clone() for key, tensor in peft.state_dict().items()
             if ".default" in key}  # fmt: skip
    peft.save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    save_file(named, tmp_path / "style.safetensors")
    ours.load_lora(tmp_path / "style.safetensors")
    assert_equals(ours, "unet", peft.merge_and_unload())
    two = named | {key.replace(".style", ".other"): tensor.clone() for key, tensor in named.items()}
    save_file(two, tmp_path / "style.safetensors")
    with pytest.raises(FormatError, match="holds the adapters other, style, expected one"):
        ours.load_lora(tmp_path / "style.safetensors")


@pytest.mark.parametrize(
    ("targets", "fits"),
    [
        (["to_q"], True),
        ("all-linear", True),
        (r".*\.to_[qk]", True),
        (["q"], False),
        ("to_q", False),
        ("to_(q", False),
    ],
)
def test_a_config_beside_a_file_of_another_name_is_read_if_it_names_the_layers(models, ours, tmp_path, targets, fits):
    peft = adapted(models[1], lora(target_modules=["to_q"]))
    peft.save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "style.safetensors")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": targets}))
    weight = f"{FIRST}.attn1.to_q.weight"
    before = ours.unet.state_dict()[weight].clone()
    if fits:
        ours.load_lora(tmp_path / "style.safetensors")
        assert_equals(ours, "unet", peft.merge_and_unload())
        return
    with pytest.warns(UserWarning, match=r"adapter_config\.json is not used for style\.safetensors"):
        ours.load_lora(tmp_path / "style.safetensors")
    change = ours.unet.state_dict()[weight] - before
    expected = peft.merge_and_unload().state_dict()[weight] - before
    torch.testing.assert_close(change, expected / 2, rtol=1e-4, atol=1e-4)  # without alpha / rank


def test_patterns_over_the_names_of_transformers_4(models, ours, tmp_path):
    """There a text encoder's names, and so the patterns of its adapters, begin with "text_model."."""
    peft = adapted(models[2], lora(target_modules=TEXT, alpha_pattern={r"^encoder\.layers\.1\..*": 1, "fc1": 20}))
    peft.save_pretrained(tmp_path)
    weights, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    save_file({key.replace(".encoder.", ".text_model.encoder."): t for key, t in load_file(weights).items()}, weights)
    config.write_text(config.read_text().replace("^encoder", "^text_model.encoder"))
    ours.load_lora(tmp_path)
    assert_equals(ours, "text_encoder", peft.merge_and_unload())


@pytest.mark.parametrize("config", [lora(), lora(use_dora=True), OTHERS["LoKr"]], ids=["LoRA", "DoRA", "LoKr"])
@pytest.mark.parametrize("strength", [0.5, -1.25])
def test_strengths_are_pefts_scales(models, ours, tmp_path, config, strength):
    peft = adapted(models[1], copy.deepcopy(config))
    peft.save_pretrained(tmp_path)
    ours.load_lora(tmp_path, strength)
    for module in peft.modules():
        if isinstance(module, BaseTunerLayer):
            module.scale_layer(strength)
    assert_equals(ours, "unet", peft.merge_and_unload())


def test_the_files_that_diffusers_writes(models, ours, tmp_path):
    """One UNet's adapter without a prefix, and a pipeline's for both parts, with their own patterns each."""
    of_unet = lora(alpha_pattern={"^conv_in": 1, "to_k": 20}, rank_pattern={"to_q": 1}, use_rslora=True)
    of_text = lora(target_modules=TEXT, alpha_pattern={r"^encoder\.layers\.0\..*": 1}, use_dora=True)
    unet, text = adapted(models[1], of_unet), adapted(models[2], of_text)
    alone = copy.deepcopy(models[1])
    alone.add_adapter(copy.deepcopy(of_unet))
    alone.load_state_dict(unet.base_model.model.state_dict())
    alone.save_lora_adapter(tmp_path / "alone")
    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "both",
        unet_lora_layers=get_peft_model_state_dict(alone),
        text_encoder_lora_layers={
            key.removeprefix("base_model.model."): tensor for key, tensor in get_peft_model_state_dict(text).items()
        },
        unet_lora_adapter_metadata=alone.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=text.peft_config["default"].to_dict(),
    )
    unet, text = unet.merge_and_unload(), text.merge_and_unload()
    ours.load_lora(tmp_path / "alone")
    assert_equals(ours, "unet", unet)
    ours.unload_loras()
    ours.load_lora(tmp_path / "both")
    assert_equals(ours, "unet", unet)
    assert_equals(ours, "text_encoder", text)


@pytest.mark.parametrize(
    "config",
    [
        lora(target_modules=["conv1.2", "conv2.3", "proj_out", "to_v"], alpha_pattern={r".*temp_convs.*": 20}),
        LoKrConfig(r=2, alpha=6, target_modules=["proj_out", "to_v", "ff.net.2"], init_weights=False),
    ],
    ids=["LoRA", "LoKr"],
)
def test_temporal_layers_of_a_video_model(tmp_path, config):
    unet = originals.modelscope(tmp_path).unet
    ours = load(tmp_path / "model")
    peft = adapted(unet, config)
    peft.save_pretrained(tmp_path / "adapter")
    ours.load_lora(tmp_path / "adapter")
    assert any("temp" in key for _, key in ours.merged.originals)
    assert_equals(ours, "unet", peft.merge_and_unload())


SELF_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def processor(layer):
    """A UNet's projection, as diffusers 0.13 to 0.17 named it."""
    head, last = layer.removesuffix(".0").rsplit(".", 1)
    return f"{head}.processor.{last}_lora"


def own_projection(layer):
    """A text encoder's layer, as diffusers 0.17 to 0.19 named it."""
    head, last = layer.rsplit(".", 1)
    last = f"{SELF_ATTENTION[last]}_lora" if last in SELF_ATTENTION else f"{last}.lora_linear_layer"
    return f"text_encoder.text_model.{head}.{last}"


OLD_NAMES = {
    "0.13": (processor, None),
    "0.17": (lambda layer: f"unet.{processor(layer)}", own_projection),
    "0.20": (lambda layer: f"unet.{layer}.lora", lambda layer: f"text_encoder.text_model.{layer}.lora_linear_layer"),
}


@pytest.mark.parametrize("version", OLD_NAMES)
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_names_of_diffusers_before_peft(models, ours, tmp_path, version, ending):
    """diffusers' own converters and loaders read the same file."""
    torch.manual_seed(0)
    tensors = {}
    targets = (".to_q", ".to_k", ".to_v", ".to_out.0"), (*SELF_ATTENTION, "fc1", "fc2")
    for module, name, ends in zip(models[1:], OLD_NAMES[version], targets, strict=True):
        for layer, linear in module.named_modules() if name else ():
            if layer.endswith(ends):
                tensors[f"{name(layer)}.down.weight"] = torch.randn(2, linear.in_features)
                tensors[f"{name(layer)}.up.weight"] = 0.1 * torch.randn(linear.out_features, 2)
    file = tmp_path / f"pytorch_lora_weights.{ending}"
    torch.save(tensors, file) if ending == "bin" else save_file(tensors, file)
    ours.load_lora(file)
    assert changed(ours) == len(tensors) // 2

    unet, text = (copy.deepcopy(module) for module in models[1:])
    unet.load_lora_adapter(tensors, prefix="unet" if OLD_NAMES[version][1] else None)
    StableDiffusionPipeline.load_lora_into_text_encoder(tensors, None, text, prefix="text_encoder")
    for part, module in (("unet", unet), ("text_encoder", text)):
        for name, layer in list(module.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                module.set_submodule(name, layer.get_base_layer())
        assert_equals(ours, part, module)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_lora_weights": "pissa", "target_modules": TEXT}, "pissa, which changes the model's own weights"),
        ({"init_lora_weights": "olora", "target_modules": TEXT}, "has init_lora_weights olora"),
        ({"init_lora_weights": "lora_ga", "target_modules": TEXT}, "has init_lora_weights lora_ga"),
        ({"trainable_token_indices": [1, 2], "target_modules": TEXT}, "PEFT's trainable_token_indices, which is not"),
        ({"layer_replication": [(0, 1)]}, "trained with PEFT's layer_replication, which is not supported"),
        ({"peft_type": "VERA"}, "an adapter of PEFT's kind VERA, which is not supported: expected LORA, LO"),
        ({"alpha_pattern": {"to_(q": 1}}, "a pattern of .* is no regular expression"),
        ({"lora_alpha": "much"}, "alpha or rank of .* is no number"),
        ({"lora_alpha": float("nan")}, "gives the factor nan, expected a finite one"),
        ({"lora_alpha": 1e400}, "gives the factor inf, expected a finite one"),
        ({"alpha_pattern": 3}, "alpha_pattern is '3', expected names with numbers"),
        ({"alpha_pattern": {"x" * 2001: 1}}, "a pattern of .* is longer than 2000 characters"),
        ({"alpha_pattern": {"x{99999}": 1}}, "a pattern of .* counts to more than 10000"),
    ],
    ids=["pissa", "olora", "lora_ga", "tokens", "replication", "kind", "expression", "number", "nan", "infinite",
         "mapping", "long", "count"],
)  # fmt: skip
def test_settings_of_peft_that_the_matrices_do_not_tell_are_refused_by_name(
    models, ours, tmp_path, settings, message
):
    real = {
        k: v for k, v in settings.items() if k in ("init_lora_weights", "trainable_token_indices", "target_modules")
    }
    adapted(models[2 if "target_modules" in real else 1], lora(**real)).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with pytest.raises(FormatError, match=message):
        ours.load_lora(tmp_path)
    assert not changed(ours)
