"""LoRAs against PEFT and diffusers: every format makes the same change, and none is left after removal."""

import json
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from vidrd_core import load
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.lora import settings
from vidrd_core.models.lora.files import read_lora
from vidrd_core.models.lora.settings import Matcher, PatternError
from vidrd_core.reuse import ReuseSettings

from ..formats import originals
from .namings import ALPHA, RANK, WRITERS, as_diffusers, as_kohya, as_peft, stable_diffusion

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.0.proj", "ff.net.2", "conv1", "conv_shortcut",
               "time_emb_proj", "conv_in"]  # fmt: skip
TEXT_LAYERS = ["q_proj", "out_proj", "fc1"]


def adapted(module, layers, seed):
    """A module with a PEFT LoRA of random matrices."""
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers, init_lora_weights=False)
    return get_peft_model(module, config).eval()


@pytest.fixture
def lora(tmp_path):
    """Our model, and diffusers' UNet and text encoder with LoRAs: (ours, unet, text encoder, matrices by layer)."""
    unet, text = stable_diffusion(tmp_path / "sd")
    ours = load(tmp_path / "sd")
    unet, text = adapted(unet, UNET_LAYERS, 1), adapted(text, TEXT_LAYERS, 2)
    tensors = {}
    for prefix, part in (("unet", unet), ("text_encoder", text)):
        for key, tensor in get_peft_model_state_dict(part).items():
            tensors[f"{prefix}.{key.removeprefix('base_model.model.')}"] = tensor.contiguous()
    return ours, unet, text, tensors


def inputs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 3, 16, 16, generator=generator)
    return x, torch.tensor([7, 901]), torch.randn(2, 77, originals.TEXT_WIDTH, generator=generator)


@pytest.mark.parametrize("naming", WRITERS)
@torch.no_grad()
def test_every_format_computes_what_peft_does(lora, tmp_path, naming):
    ours, unet, text, tensors = lora
    WRITERS[naming](tensors, tmp_path / "lora.safetensors")
    x, timestep, context = inputs()
    plain = ours.unet(x, timestep, context)
    ours.load_lora(tmp_path / "lora.safetensors")
    result = ours.unet(x, timestep, context)
    assert (result - plain).std() > 0.05 * plain.std()
    for frame in range(x.shape[2]):
        expected = unet(x[:, :, frame], timestep, context).sample
        torch.testing.assert_close(result[:, :, frame], expected, rtol=1e-5, atol=1e-5)
    tokens = ours.text_encoder.tokenize(["a cat"])
    expected = text(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(ours.text_encoder(tokens), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_strengths_equal_pefts_scales(lora, tmp_path):
    ours, unet, text, tensors = lora
    as_diffusers(tensors, tmp_path / "lora.safetensors")
    ours.load_lora(tmp_path / "lora.safetensors", 0.5, text_strength=-0.25)
    for part, scale in ((unet, 0.5), (text, -0.25)):
        for module in part.modules():
            if hasattr(module, "scaling"):
                module.scaling = {name: scale * value for name, value in module.scaling.items()}
    x, timestep, context = inputs()
    expected = unet(x[:, :, 0], timestep, context).sample
    torch.testing.assert_close(ours.unet(x, timestep, context)[:, :, 0], expected, rtol=1e-5, atol=1e-5)
    tokens = ours.text_encoder.tokenize(["a cat"])
    torch.testing.assert_close(
        ours.text_encoder(tokens), text(input_ids=tokens).last_hidden_state, rtol=1e-5, atol=1e-5
    )
    assert ours.loras == "lora.safetensors:0.5"


@torch.no_grad()
def test_a_peft_folder_is_read_with_its_config(lora, tmp_path):
    ours, unet, _, tensors = lora
    as_peft(tensors, tmp_path / "adapter")
    ours.load_lora(tmp_path / "adapter")
    x, timestep, context = inputs()
    expected = unet(x[:, :, 0], timestep, context).sample
    torch.testing.assert_close(ours.unet(x, timestep, context)[:, :, 0], expected, rtol=1e-5, atol=1e-5)


def test_rank_stabilised_and_patterned_alphas(lora, tmp_path):
    *_, tensors = lora
    folder = tmp_path / "adapter"
    as_peft(tensors, folder)
    config = {"r": RANK, "lora_alpha": ALPHA, "use_rslora": True, "alpha_pattern": {"conv_in": 1}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    found = read_lora(folder)
    scales = {layer: change.scale for layer, change in found.items()}
    assert scales.pop("base_model.model.conv_in") == pytest.approx(1 / RANK**0.5)
    assert list(scales.values()) == pytest.approx([ALPHA / RANK**0.5] * len(scales))


def weights(model):
    parts = (model.unet, model.text_encoder)
    return [tensor.clone() for part in parts for tensor in part.state_dict().values()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_removal_restores_all_weights(lora, tmp_path, dtype):
    *_, tensors = lora
    as_kohya(tensors, tmp_path / "lora.safetensors")
    ours = load(tmp_path / "sd", dtype=dtype)
    before, signature = weights(ours), ours.signature
    ours.load_lora(tmp_path / "lora.safetensors", 0.8)
    ours.load_lora(tmp_path / "lora.safetensors", -0.3)
    assert any((a != b).any() for a, b in zip(weights(ours), before, strict=True))
    assert ours.signature == signature
    ours.unload_loras()
    assert ours.loras == ""
    for now, then in zip(weights(ours), before, strict=True):
        assert torch.equal(now, then)


def test_order_makes_no_difference_and_opposites_cancel(lora, tmp_path):
    ours, *_, tensors = lora
    as_kohya(tensors, tmp_path / "one.safetensors")
    as_kohya({key: t.roll(1, 0) for key, t in tensors.items()}, tmp_path / "two.safetensors")
    before, results = weights(ours), []
    for order in (("one", "two"), ("two", "one")):
        for name in order:
            ours.load_lora(tmp_path / f"{name}.safetensors", 0.7)
        results.append(weights(ours))
        ours.unload_loras()
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)
    for strength in (1.0, -1.0):
        ours.load_lora(tmp_path / "one.safetensors", strength)
    for now, then in zip(weights(ours), before, strict=True):
        torch.testing.assert_close(now, then, rtol=1e-5, atol=1e-5)


def test_a_strength_of_zero_changes_nothing(lora, tmp_path):
    ours, *_, tensors = lora
    as_kohya(tensors, tmp_path / "lora.safetensors")
    before = weights(ours)
    ours.load_lora(tmp_path / "lora.safetensors", 0.0)
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), before, strict=True))
    assert not ours.merged.originals


def test_a_kernel_in_the_middle_is_multiplied_in(lora, tmp_path):
    ours, *_ = lora
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    down, mid, up = torch.randn(2, 32, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(32, 2, 1, 1)
    save_file(
        {f"{name}.lora_down.weight": down, f"{name}.lora_mid.weight": mid, f"{name}.lora_up.weight": up},
        tmp_path / "cp.safetensors",
    )
    weight = ours.unet.down_blocks[0].resnets[0].conv1.weight
    before = weight.detach().clone()
    ours.load_lora(tmp_path / "cp.safetensors")
    expected = torch.einsum("or,rskl,si->oikl", up[..., 0, 0], mid, down[..., 0, 0])
    torch.testing.assert_close(weight - before, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["lora_te_text_model_{}", "text_encoder.text_model.{}", "text_encoders.clip_h.transformer.text_model.{}"]
)
def test_text_layers_that_the_model_does_not_read_are_left_out(lora, tmp_path, name):
    """Stable Diffusion 2.x, and 1.x with its last layers left out, read fewer than LoRAs for them change."""
    ours, *_, tensors = lora
    as_kohya(tensors, tmp_path / "lora.safetensors")
    ours.load_lora(tmp_path / "lora.safetensors")
    expected = weights(ours)
    ours.unload_loras()
    more = load_file(tmp_path / "lora.safetensors")
    for layer in ("encoder.layers.3.self_attn.q_proj", "encoder.layers.11.mlp.fc1", "text_projection"):
        full = name.format(layer).replace(".text_model.text_p", ".text_p").replace("text_model_text_p", "text_p")
        full = full.replace(".", "_") if name.startswith("lora_") else full
        more |= {f"{full}.lora_down.weight": torch.ones(2, 9), f"{full}.lora_up.weight": torch.ones(9, 2)}
    save_file(more, tmp_path / "more.safetensors")
    with pytest.warns(UserWarning, match=r"changes 2 layers after the 3 of the text encoder .*they are left out"):
        ours.load_lora(tmp_path / "more.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), expected, strict=True))


def test_states_continue_with_another_lora_and_record_theirs(lora, tmp_path):
    ours, *_, tensors = lora
    as_kohya(tensors, tmp_path / "style.safetensors")
    settings = {"steps": 2, "cfg": 2.0, "frames": 4, "width": 32, "height": 32}
    plain = ours.generate("a cat", **settings)
    ours.load_lora(tmp_path / "style.safetensors", 0.5)
    styled = ours.generate("a cat", **settings)
    assert (styled.latents - plain.latents).abs().max() > 1e-3
    assert styled.state.made_with["lora"] == "style.safetensors:0.5"
    assert "lora" not in plain.state.made_with
    ours.extend(plain.state, "a cat", ReuseSettings(prompt_frames=2))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_conv_in.hada_w1_a": (2, 2)}, r"half of a LoHa \(lora_unet_conv_in\), expected all"),
        ({"lora_unet_conv_in.lokr_w1": (2, 2)}, "half of a LoKr"),
        ({"lora_unet_conv_in.dora_scale": (2, 2)}, "half of a DoRA"),
        ({"oft_unet_conv_in.oft_blocks": (2, 2, 2)}, "is an OFT or BOFT .*not supported: expected a LoRA"),
        ({"lora_unet_conv_in.weight": (32,), "lora_unet_conv_in.on_input": (1,)}, "is an IA3"),
        ({"lora_unet_conv_in.a1.weight": (2, 2)}, "is a GLoRA"),
        ({"lora_unet_conv_in.diff": (32, 4, 3, 3), "lora_unet_conv_in.dora_scale": (7,)}, "it has 7 lengths"),
        ({"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.diff_b": (32,)}, "has no bias"),
        ({"lora_unet_conv_in.hada_w1_a": (32, 2), "lora_unet_conv_in.hada_w1_b": (3, 36),
          "lora_unet_conv_in.hada_w2_a": (32, 2), "lora_unet_conv_in.hada_w2_b": (2, 36)},
         r"lora_unet_conv_in has matrices that cannot be multiplied \(hada_w1_a \[32, 2\]"),
        ({"lora_unet_conv_in.lora_down.weight": (1, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": (32, 1, 1, 1),
          "lora_unet_conv_in.alpha": (2,)}, "alpha of lora_unet_conv_in has 2 numbers, expected one"),
        ({"a.lora_A.weight": (2, 4), "a.lora_B.weight": (4, 2), "b": (1,)}, r"tensors that are no LoRA \(b\)"),
        ({"lora_unet_conv_in.lora_down.weight": (2, 4, 3, 3)}, r"half of a LoRA \(lora_unet_conv_in\)"),
        ({"some.weight": (2, 2)}, "is no LoRA: it holds no known part of a model"),
        ({"lora_te2_x.lora_down.weight": (1, 2), "lora_te2_x.lora_up.weight": (2, 1)}, "for SDXL"),
        ({"lora_unet_odd.lora_down.weight": (1, 2), "lora_unet_odd.lora_up.weight": (2, 1)},
         r"changes 1 layers that this model does not have \(lora_unet_odd\)"),
        ({"lora_unet_conv_in.lora_down.weight": (1, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": (32, 2, 1, 1)},
         "cannot be multiplied"),
        ({"lora_unet_conv_in.lora_down.weight": (1, 8, 3, 3), "lora_unet_conv_in.lora_up.weight": (32, 1, 1, 1)},
         "for another model: 1 of its layers do not fit .*32 outputs of 72 inputs, the layer has 32 of 36"),
        ({"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (2, 768),
          "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight": (32, 2)},
         "which reads text of width 768, this one of 128"),
    ],
)  # fmt: skip
def test_unsuitable_loras_are_refused_and_change_nothing(lora, tmp_path, tensors, message):
    ours = lora[0]
    before = weights(ours)
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, tmp_path / "odd.safetensors")
    with pytest.raises(FormatError, match=message):
        ours.load_lora(tmp_path / "odd.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), before, strict=True))
    assert ours.loras == ""


def test_missing_files_and_invalid_strengths_are_refused(lora, tmp_path):
    ours, *_, tensors = lora
    with pytest.raises(FileNotFoundError, match="there is no LoRA"):
        ours.load_lora(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"expected pytorch_lora_weights\.safetensors or adapter_model"):
        ours.load_lora(tmp_path)
    as_kohya(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="strength is nan"):
        ours.load_lora(tmp_path / "lora.safetensors", float("nan"))


@torch.no_grad()
def test_projections_as_convs_and_linear_layers_take_each_others_loras(tmp_path):
    """Stable Diffusion 1.x has convs there, 2.x linear layers, and so have their LoRAs."""
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    for linear in (True, False):
        folder = tmp_path / str(linear)
        stable_diffusion(folder, linear)
        ours = load(folder)
        weight = ours.unet.down_blocks[0].attentions[0].proj_in.weight
        before = weight.clone()
        for number, shape in enumerate([(), (1, 1)]):
            path = tmp_path / f"{linear}{number}.safetensors"
            save_file({f"{name}.lora_down.weight": down.reshape(2, 32, *shape).contiguous(),
                       f"{name}.lora_up.weight": up.reshape(32, 2, *shape).contiguous()}, path)  # fmt: skip
            ours.load_lora(path)
            torch.testing.assert_close((weight - before).flatten(1), up @ down, rtol=1e-4, atol=1e-4)
            ours.unload_loras()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:0], r"is \[0, .*\]: it holds no numbers, expected a rank of 1 or more"),
        (lambda t: t.to(torch.int32), "holds int32 numbers, expected fractions"),
        (lambda t: t.index_fill(0, torch.tensor([0]), torch.nan), "holds numbers that are not finite"),
        (lambda t: t.index_fill(0, torch.tensor([0]), torch.inf), "holds numbers that are not finite"),
        (lambda t: t.flatten()[0], "has matrices that cannot be multiplied"),
        (lambda t: torch.full_like(t, 3e38), "makes .* overflow: give it a smaller strength"),
    ],
    ids=["rank 0", "integers", "NaN", "infinite", "scalar", "overflow"],
)
def test_numbers_that_no_training_makes_are_refused_and_change_nothing(lora, tmp_path, change, message):
    ours, *_, tensors = lora
    name = next(key for key in tensors if "lora_A" in key)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, tmp_path / "damaged.safetensors")
    before = weights(ours)
    with pytest.raises(FormatError, match=message):
        ours.load_lora(tmp_path / "damaged.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), before, strict=True))
    assert ours.loras == ""


def test_patterns_are_matched_in_bounded_time(monkeypatch):
    """The time limit itself, of a pattern and a name that are harmless."""
    assert Matcher()("to_[qk]", "blocks.0.to_q")
    assert not Matcher()("to_[qk]", "blocks.0.to_v")
    monkeypatch.setattr(settings, "SECONDS", -1.0)
    late = SimpleNamespace(compile=lambda pattern: SimpleNamespace(match=match), error=ValueError)

    def match(name, timeout):
        assert timeout == 1e-3
        raise TimeoutError

    monkeypatch.setattr(settings, "regex", late)
    with pytest.raises(PatternError, match=r"takes too long to match \('abc'\)"):
        Matcher()("abc", "abc")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?:a{30}){30}{30}", "counts to more than 10000"),
        (r"(?P<name>a)(?&name)", "is no regular expression"),
        ("a{e}", "has a brace that begins no count"),
        ("(", "is no regular expression"),
    ],
)
def test_patterns_that_could_take_memory_or_are_not_read_by_peft_are_refused(pattern, message):
    with pytest.raises(PatternError, match=message):
        Matcher()(pattern, "a")


def test_patterns_name_the_layers_that_they_name_in_peft():
    from peft.utils.other import get_pattern_key

    names = ["a.to_q", "b.to_q", "xto_q", "to_q", "b.to_qq", "a.b.to_k", "a.b.to_k.c"]
    patterns = ["to_q", "a.to_q", ".*to_k", "^a.b", "b.to_.", "to_(k|q)", r"b\.to_q{1,2}", "a", "c"]
    for pattern in patterns:
        for name in names:
            assert Matcher()(pattern, name) == (get_pattern_key([pattern], name) == pattern), (pattern, name)
