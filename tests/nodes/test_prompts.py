"""Prompts in `vidrd_core` and in ComfyUI's own text encoders: the same conditioning for the same text."""

import importlib
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from vidrd_core.models.clip_text_encoder import CLIPText, CLIPTextSettings
from vidrd_core.models.clip_tokenizer import load_tokenizer

LONG = ", ".join(f"tag number {number} of very many" for number in range(40))
PROMPTS = [
    "", "a cat", "a (red:1.3) cat", "((masterpiece)), best (quality:0.7)", r"a \(small\) cat, (at night", "a) (b) c",
    "(at 12:30) 🐈 naïve café", "一只红色的猫在雪地里慢慢地走着" * 8, LONG, f"(({LONG}))",
    f"{LONG} (short part) {LONG} (x:0)",
    "word " * 74 + "(two words:1.2)", ",".join(["tag"] * 90), "(a (nested (one:1.4) here) there:0.9)", "a (:2) b ()",
    "a cat, embedding:EasyNegative, blurry", "(embedding:bad-hands:1.2) x", "x\nembedding:one<two three embedding:4",
    "anembedding:x embedding:a,, b (c embedding:d:0.5)", "embedding:one,", "a\0b (\1)", "a \0\1 b",
    "a red fox!", "wow!! (hello!:1.2) world",
]  # fmt: skip


@pytest.mark.parametrize(("width", "activation", "layer"), [(768, "quick_gelu", "last"), (1024, "gelu", "hidden")])
@pytest.mark.filterwarnings("ignore:embedding:UserWarning")
@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_conditioning_is_comfyuis_for_the_same_text(host, tmp_path, width, activation, layer, pad):
    clip = importlib.import_module("comfy.sd1_clip")
    config = {
        "num_hidden_layers": 3, "hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 64,
        "hidden_act": activation, "vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407,
        "layer_norm_eps": 1e-5, "bos_token_id": 0,
    }  # fmt: skip
    is_sd2 = layer == "hidden"
    words = clip.SDTokenizer(pad_with_end=not is_sd2, embedding_size=width, embedding_directory=str(tmp_path))
    theirs = clip.SDClipModel(
        layer=layer, layer_idx=-2 if is_sd2 else None, textmodel_json_config=config, dtype=torch.float32,
        special_tokens={"start": 49406, "end": 49407, "pad": 0 if is_sd2 else 49407},
    )  # fmt: skip
    settings = CLIPTextSettings(
        hidden_size=width, inner_size=64, layers=2 if is_sd2 else 3, heads=width // 64, activation=activation
    )
    folder = CLIPTokenizer.from_pretrained(Path(host.sd.__file__).parent / "sd1_tokenizer")
    folder.pad_token = pad  # "!" in the folders of Stable Diffusion 2.x
    folder.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path, 49408)
    with torch.inference_mode(False), torch.no_grad():
        ours = CLIPText(settings, tokenizer).eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in ours.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        weights = {f"transformer.text_model.{name}": t for name, t in ours.file_state_dict().items()}
    known = theirs.state_dict()
    theirs.load_state_dict({**known, **{name: t for name, t in weights.items() if name in known}})
    assert weights.keys() <= known.keys()
    # Older versions take "<" as part of an embedding's name.
    old = len(words._try_get_embedding("gone")) == 2
    for prompt in (each for each in PROMPTS if not (old and "embedding:one<two" in each)):
        assert ours.rows(prompt) == words.tokenize_with_weights(prompt), prompt
        expected = theirs.encode_token_weights(words.tokenize_with_weights(prompt))[0].cpu().float()
        found = ours.encode([prompt])
        assert found.shape == expected.shape, prompt
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=lambda text, p=prompt: f"{p}: {text}")
