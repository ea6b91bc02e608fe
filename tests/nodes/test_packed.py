"""Files that `vidrd pack` made of third-party models."""

from pathlib import Path

import torch

from vidrd_core.models.clip_text_encoder import CLIPText, CLIPTextSettings
from vidrd_core.models.clip_tokenizer import load_tokenizer
from vidrd_core.models.load_parts import save_text_encoder


def test_a_packed_clip_loads_as_comfyuis_own(host, run, monkeypatch):
    """Its weights have ComfyUI's names, and leave out the tokenizer, which ComfyUI has."""
    words = load_tokenizer(Path(host.sd.__file__).parent / "sd1_tokenizer", 49408)
    encoder = CLIPText(CLIPTextSettings(hidden_size=64, inner_size=64, layers=1, heads=1), words)
    path = Path(host.folder_paths.models_dir) / "text_encoders" / "packed_clip.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text_encoder(encoder, path)
    host.folder_paths.filename_list_cache.clear()
    loaded = {}
    monkeypatch.setattr(
        host.sd, "load_text_encoder_state_dicts", lambda dicts, **_: loaded.update(dicts[0]) or "CLIP"
    )
    assert run("LoadTextEncoder", file="packed_clip.safetensors") == ("CLIP",)
    assert {"text_model.embeddings.token_embedding.weight", "text_model.encoder.layers.0.mlp.fc1.bias"} <= set(loaded)
    weights = {f"text_model.{name}": tensor for name, tensor in encoder.file_state_dict().items()}
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.items())
