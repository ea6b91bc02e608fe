"""Adapters of LyCORIS, against the published formulas written out, and against the package where it is installed."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

CONV = "down_blocks.1.resnets.0.conv1"  # 3 x 3, 32 to 64 channels
POINT = "down_blocks.0.attentions.0.proj_in"  # 1 x 1, 32 channels
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj"
R = 3


def low_rank(a, b, kernel=None):
    """A sum of outer products; with a kernel, of each row of a with each of b."""
    if kernel is None:
        return sum(torch.outer(a[:, r], b[r]) for r in range(len(b)))
    pairs = [(r, s) for r in range(len(a)) for s in range(len(b))]
    return sum(torch.outer(a[r], b[s])[..., None, None] * kernel[r, s] for r, s in pairs)


def loha(parts):
    halves = [low_rank(parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"], parts.get(f"hada_t{n}")) for n in (1, 2)]
    return halves[0] * halves[1]


def lokr(parts):
    """Blocks of w2, each times an entry of w1."""
    factors = []
    for n in (1, 2):
        whole = parts.get(f"lokr_w{n}")
        kernel = parts.get("lokr_t2") if n == 2 else None
        factors.append(whole if whole is not None else low_rank(parts[f"lokr_w{n}_a"], parts[f"lokr_w{n}_b"], kernel))
    w1, w2 = factors
    return torch.cat([torch.cat([entry * w2 for entry in row], 1) for row in w1], 0)


def shapes_of_loha(out, width, size, tucker):
    a, b = ((R, out), (R, width)) if tucker else ((out, R), (R, width * size))
    side = round(size**0.5)
    kernels = {"hada_t1": (R, R, side, side), "hada_t2": (R, R, side, side)} if tucker else {}
    return {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": a, "hada_w2_b": b, **kernels}


LOKR = {
    "whole": {"lokr_w1": (4, 8), "lokr_w2": (16, 4, 3, 3)},
    "low second": {"lokr_w1": (4, 8), "lokr_w2_a": (16, R), "lokr_w2_b": (R, 36)},
    "low first": {"lokr_w1_a": (4, R), "lokr_w1_b": (R, 8), "lokr_w2": (16, 4, 3, 3)},
    "low both": {"lokr_w1_a": (4, R), "lokr_w1_b": (R, 8), "lokr_w2_a": (16, R), "lokr_w2_b": (R, 36)},
    "kernel": {"lokr_w1": (4, 8), "lokr_w2_a": (R, 16), "lokr_w2_b": (R, 4), "lokr_t2": (R, R, 3, 3)},
    "kernel, low both": {"lokr_w1_a": (4, R), "lokr_w1_b": (R, 8), "lokr_w2_a": (R, 16), "lokr_w2_b": (R, 4),
                         "lokr_t2": (R, R, 3, 3)},
}  # fmt: skip
CASES = {
    "LoHa, linear": (LINEAR, loha, shapes_of_loha(256, 32, 1, False)),
    "LoHa, point": (POINT, loha, shapes_of_loha(32, 32, 1, False)),
    "LoHa, conv": (CONV, loha, shapes_of_loha(64, 32, 9, False)),
    "LoHa, kernels": (CONV, loha, shapes_of_loha(64, 32, 9, True)),
    **{f"LoKr, {name}": (CONV, lokr, shapes) for name, shapes in LOKR.items()},
    "LoKr, linear": (LINEAR, lokr, {"lokr_w1": (16, 4), "lokr_w2_a": (16, R), "lokr_w2_b": (R, 8)}),
    "LoKr, linear, whole": (LINEAR, lokr, {"lokr_w1": (2, 2), "lokr_w2": (128, 16)}),
    "LoKr, point": (POINT, lokr, {"lokr_w1": (4, 2), "lokr_w2": (8, 16, 1, 1)}),
}


def tensors(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def load_parts(ours, path, layer, parts, strength=1.0, prefix="lora_unet_"):
    name = prefix + layer.replace(".", "_")
    save_file({f"{name}.{part}": tensor for part, tensor in parts.items()}, path)
    weight = ours.unet.get_submodule(layer).weight
    before = weight.detach().clone()
    ours.load_lora(path, strength)
    return before, weight.detach()


@pytest.mark.parametrize("alpha", [None, 1.0, 0.0, -4.5])
@pytest.mark.parametrize("case", CASES)
def test_the_formulas_of_loha_and_lokr(ours, tmp_path, case, alpha):
    layer, formula, shapes = CASES[case]
    parts = tensors(shapes)
    whole = {"lokr_w1", "lokr_w2"} <= set(parts)  # has no rank: LyCORIS writes some alpha and computes with 1
    scale = 1.0 if alpha is None or whole else alpha / R
    extra = {} if alpha is None else {"alpha": torch.tensor(alpha)}
    before, after = load_parts(ours, tmp_path / "a.safetensors", layer, parts | extra, -0.5)
    expected = before - 0.5 * scale * formula(parts).reshape(before.shape)
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("said", "scale"), [("True", 3.0), ("False", 1.0), (None, 1.0)])
def test_a_rank_stabilised_lokr_of_whole_factors_is_known_by_kohyas_metadata(ours, tmp_path, said, scale):
    """LyCORIS 4.1.3 computes with the root of the dimension, here 9, and writes its product with it as alpha."""
    layer, formula, shapes = CASES["LoKr, linear, whole"]
    parts = tensors(shapes) | {"alpha": torch.tensor(27.0)}
    before = ours.unet.get_submodule(layer).weight.detach().clone()
    metadata = {"ss_network_args": json.dumps({"algo": "lokr", "rs_lora": said})} if said else {}
    name = "lora_unet_" + layer.replace(".", "_")
    save_file({f"{name}.{part}": t for part, t in parts.items()}, tmp_path / "a.safetensors", metadata=metadata)
    ours.load_lora(tmp_path / "a.safetensors")
    expected = before + scale * formula(parts)
    torch.testing.assert_close(ours.unet.get_submodule(layer).weight, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", ["LoRA", "LoHa, conv", "LoKr, linear"])
def test_weight_decomposition(ours, tmp_path, case, axis):
    """dora_scale holds the lengths of rows, or, from older versions, of columns."""
    low = {"lora_up.weight": (64, R, 1, 1), "lora_down.weight": (R, 32, 3, 3)}
    layer, formula, shapes = CASES.get(case, (CONV, None, low))
    parts = tensors(shapes)
    change = formula(parts) if formula else low_rank(*(parts[name].flatten(1) for name in low))
    weight = ours.unet.get_submodule(layer).weight.detach().clone()
    target = weight + (2 / R * change).reshape(weight.shape)
    rows = target.transpose(0, axis).flatten(1)  # one for each length
    lengths = torch.arange(1.0, 1 + len(rows))
    expected = torch.stack([row * length / row.norm() for row, length in zip(rows, lengths, strict=True)])
    expected = expected.reshape(target.transpose(0, axis).shape).transpose(0, axis)
    shape = [1] * weight.ndim
    shape[axis] = -1
    extra = {"alpha": torch.tensor(2.0), "dora_scale": lengths.reshape(shape)}
    for strength in (1.0, 0.25):
        before, after = load_parts(ours, tmp_path / "dora.safetensors", layer, parts | extra, strength)
        torch.testing.assert_close(after, before + strength * (expected - before), rtol=1e-4, atol=1e-4)
        ours.unload_loras()


def test_full_differences_and_norms(ours, tmp_path):
    norm = "down_blocks.0.resnets.0.norm1"
    flat = norm.replace(".", "_")
    names = {  # the file's -> the model's
        "lycoris_conv_in.diff": "conv_in.weight",
        "lycoris_conv_in.diff_b": "conv_in.bias",
        f"lycoris_{flat}.w_norm": f"{norm}.weight",
        f"lycoris_{flat}.b_norm": f"{norm}.bias",
    }
    before = {name: tensor.clone() for name, tensor in ours.unet.state_dict().items()}
    changes = {theirs: torch.randn_like(before[name]) for theirs, name in names.items()}
    save_file(changes, tmp_path / "full.safetensors")
    ours.load_lora(tmp_path / "full.safetensors", 0.5)
    expected = {name: before[name] + 0.5 * changes[theirs] for theirs, name in names.items()}
    for name, tensor in ours.unet.state_dict().items():
        torch.testing.assert_close(tensor, expected.get(name, before[name]))


def test_adapters_of_all_kinds_are_added_up_and_taken_out(ours, tmp_path):
    """Each changes the weight that the model itself has, so that their order makes no difference."""
    start = {name: tensor.clone() for name, tensor in ours.unet.state_dict().items()}
    results = []
    for order in (1, -1):
        for case in ["LoHa, conv", "LoKr, kernel", "DoRA"][::order]:
            layer, _, shapes = CASES.get(
                case, (CONV, None, {"lora_up.weight": (64, 1), "lora_down.weight": (1, 288)})
            )
            parts = tensors(shapes) | ({"dora_scale": torch.ones(64, 1, 1, 1)} if case == "DoRA" else {})
            load_parts(ours, tmp_path / f"{case}.safetensors", layer, parts, 0.5)
        results.append(ours.unet.get_submodule(CONV).weight.detach().clone())
        ours.unload_loras()
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, start[name]) for name, tensor in ours.unet.state_dict().items())


ALGORITHMS = {
    "LoRA": {"algo": "lora"},
    "LoRA, Tucker": {"algo": "lora", "use_tucker": True},
    "LoRA, rank-stabilised": {"algo": "lora", "rs_lora": True},
    "LoRA, scalars": {"algo": "lora", "use_scalar": True},
    "LoHa": {"algo": "loha"},
    "LoHa, Tucker": {"algo": "loha", "use_tucker": True},
    "LoHa, scalars": {"algo": "loha", "use_scalar": True},
    "LoKr": {"algo": "lokr", "factor": 4},
    "LoKr, both": {"algo": "lokr", "factor": 8, "decompose_both": True},
    "LoKr, Tucker": {"algo": "lokr", "factor": 4, "use_tucker": True},
    "LoKr, unbalanced": {"algo": "lokr", "factor": 4, "unbalanced_factorization": True},
    "LoKr, whole": {"algo": "lokr", "full_matrix": True},
    "LoKr, whole, rank-stabilised": {"algo": "lokr", "full_matrix": True, "rs_lora": True},
    "DoRA": {"algo": "lora", "dora_wd": True},
    "DoRA, columns": {"algo": "lora", "dora_wd": True, "wd_on_out": False},
    "LoHa with DoRA": {"algo": "loha", "dora_wd": True},
    "LoKr with DoRA": {"algo": "lokr", "factor": 4, "dora_wd": True},
    "full": {"algo": "full"},
    "norms": {"algo": "lora", "train_norm": True},
}


@pytest.mark.real
@pytest.mark.parametrize("settings", ALGORITHMS.values(), ids=ALGORITHMS)
@torch.no_grad()
def test_the_package_computes_the_same(models, ours, tmp_path, settings):
    """The trained network's own forward pass; its merge counts the scale of LoHa and LoKr twice (version 4.1.3)."""
    kohya = pytest.importorskip("lycoris.kohya")
    preset = tmp_path / "preset.toml"  # its own ones list the layers of "time_embedding" twice, and are then refused
    preset.write_text('unet_target_module = ["Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"]')
    unet, text = (copy.deepcopy(module) for module in models[1:])
    torch.manual_seed(0)
    settings = {"preset": str(preset), "conv_dim": 2, "conv_alpha": 1, **settings}
    network = kohya.create_network(1.0, 2, 1, None, text, unet, **settings)
    network.apply_to(text, unet, True, True)
    for tensor in network.parameters():
        tensor += 0.1 * torch.randn_like(tensor)
    network.eval()
    network.save_weights(tmp_path / "lycoris.safetensors", torch.float32, {"ss_network_args": json.dumps(settings)})
    x, timestep, context = (
        torch.randn(1, 4, 16, 16),
        torch.tensor([7]),
        torch.randn(1, 77, unet.config.cross_attention_dim),
    )
    tokens = torch.randint(0, 100, (1, 77))
    plain = ours.unet(x[:, :, None], timestep, context)
    ours.load_lora(tmp_path / "lycoris.safetensors")
    result = ours.unet(x[:, :, None], timestep, context)
    assert (result - plain).abs().max() > 0.01
    torch.testing.assert_close(result[:, :, 0], unet(x, timestep, context).sample, rtol=1e-4, atol=1e-4)
    expected = text(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(ours.text_encoder(tokens), expected, rtol=1e-4, atol=1e-4)
