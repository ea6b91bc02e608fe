"""`--lora`, and what `info` reports about a LoRA."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .helpers import PROMPTS, error_line

NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(path, width=12):
    torch.manual_seed(0)
    save_file({f"{NAME}.lora_down.weight": torch.randn(4, width), f"{NAME}.lora_up.weight": torch.randn(16, 4)}, path)
    return path


def test_a_lora_is_applied_with_its_strength_and_recorded(vidrd, tmp_path):
    path = lora(tmp_path / "style.safetensors")
    for number, given in enumerate([(), ("--lora", f"{path}:0.5"), ("--lora", path, "--lora", f"{path}:-1")]):
        target = ("-o", f"{number}.gif", "--state-dir", f"states{number}")
        assert vidrd("generate", PROMPTS[0], "--steps", 2, *given, *target)[0] == 0
    made = [vidrd("info", f"states{number}/clip_0000.safetensors")[1] for number in range(3)]
    assert "lora" not in made[0]
    assert "lora style.safetensors:0.5" in " ".join(made[1].split())
    assert "style.safetensors:1, style.safetensors:-1" in " ".join(made[2].split())
    same, other = (Path(f"{number}.gif").read_bytes() for number in (0, 1))
    assert same != other


def test_resuming_with_another_lora_is_refused(vidrd, tmp_path):
    path = lora(tmp_path / "style.safetensors")
    command = ("generate", PROMPTS[0], "--clips", 2, "--steps", 2, "--state-dir", "kept", "-o", "one.gif")
    assert vidrd(*command, "--lora", path)[0] == 0
    code, out, err = vidrd(*command, "--resume")
    assert "made with lora 'style.safetensors:1', this run has None" in error_line(code, out, err)


def test_a_lora_that_does_not_fit_is_refused_in_one_line(vidrd, tmp_path):
    path = lora(tmp_path / "wide.safetensors", 768)
    message = error_line(*vidrd("generate", PROMPTS[0], "--lora", path, "-o", "one.gif"))
    assert "reads text of width 768, this one of 12" in message
    message = error_line(*vidrd("generate", PROMPTS[0], "--lora", "none.safetensors:2", "-o", "one.gif"))
    assert "there is no LoRA none.safetensors" in message


def test_info_reports_the_model_of_a_lora(vidrd, tmp_path):
    text = " ".join(vidrd("info", lora(tmp_path / "wide.safetensors", 1024))[1].split())
    assert "a LoRA of Stable Diffusion 2.x, of rank 4" in text
    assert "1 layers of the UNet, 0 of the text encoder" in text
    data = json.loads(vidrd("info", "wide.safetensors", "--json")[1])
    assert (data["family"], data["ranks"]) == ("Stable Diffusion 2.x", [4])
    assert data["changed_layers"] == {"unet": 1, "text_encoder": 0}


def test_info_names_the_kind_of_an_adapter(vidrd, tmp_path):
    layer = "lora_unet_conv_in"
    loha = {
        f"{layer}.hada_w{n}_{side}": torch.ones(shape)
        for n in (1, 2)
        for side, shape in (("a", (8, 3)), ("b", (3, 4)))
    }
    kinds = {
        "a LoHa, of rank 3": loha,
        "a LoHa with DoRA, of rank 3": loha | {f"{layer}.dora_scale": torch.ones(8, 1)},
        "a LoKr, of rank 5": {f"{layer}.lokr_w1": torch.ones(2, 2), f"{layer}.lokr_w2_a": torch.ones(8, 5),
                              f"{layer}.lokr_w2_b": torch.ones(5, 8)},
        "holds a LoKr changes": {f"{layer}.lokr_w1": torch.ones(2, 2), f"{layer}.lokr_w2": torch.ones(8, 8)},
        "holds full differences changes 1 layers of the UNet": {f"{layer}.diff": torch.ones(8, 4),
                                                               f"{layer}.diff_b": torch.ones(8)},
        "is an OFT or BOFT (lora_unet_conv_in.oft_blocks), which is not supported": {
            f"{layer}.oft_blocks": torch.ones(2, 2, 2)
        },
    }  # fmt: skip
    for number, (expected, tensors) in enumerate(kinds.items()):
        save_file(tensors, tmp_path / f"{number}.safetensors")
        code, out, _ = vidrd("info", tmp_path / f"{number}.safetensors")
        assert code == 0
        assert expected in " ".join(out.split())
