"""One LoRA in the formats of kohya, PEFT and diffusers."""

import json

import torch
from safetensors.torch import save_file

from vidrd_core.models.formats.unet_keys import ldm_keys_from_ours

from ..formats import originals

RANK, ALPHA = 3, 6


def stable_diffusion(folder, linear=False):
    """A diffusers folder, and its UNet and text encoder."""
    words = originals.tokenizer(folder / "tokenizer")
    parts = {
        "unet": originals.unet_2d(linear=linear),
        "vae": originals.vae(),
        "text_encoder": originals.text_encoder(len(words)),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return parts["unet"], parts["text_encoder"]


def metadata():
    config = {f"{part}.{name}": value for part in ("unet", "text_encoder")
              for name, value in (("r", RANK), ("lora_alpha", ALPHA))}  # fmt: skip
    return {"lora_adapter_metadata": json.dumps(config)}


def as_diffusers(tensors, path):
    save_file(tensors, path, metadata=metadata())


def as_peft(tensors, folder):
    """A folder as PEFT saves it for a UNet."""
    folder.mkdir()
    mine = {key.replace("unet.", "base_model.model.", 1): t for key, t in tensors.items() if key.startswith("unet.")}
    save_file(mine, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))


def layers(tensors):
    return sorted({key.rsplit(".lora_", 1)[0] for key in tensors})


def written(tensors, name, ends):
    """The LoRA under other names: `name` maps a layer's, `ends` are the endings of down and up."""
    found = {}
    for layer in layers(tensors):
        new = name(layer)
        found[f"{new}.{ends[0]}"] = tensors[f"{layer}.lora_A.weight"]
        found[f"{new}.{ends[1]}"] = tensors[f"{layer}.lora_B.weight"]
        found[f"{new}.alpha"] = torch.tensor(float(ALPHA))
    return found


def kohya(layer):
    part, name = layer.split(".", 1)
    return ("lora_unet_" if part == "unet" else "lora_te_") + name.replace(".", "_")


def kohya_ldm(layer):
    part, name = layer.split(".", 1)
    if part != "unet":
        return kohya(layer)
    theirs = ldm_keys_from_ours([*KEYS, name + ".weight"])[name + ".weight"]
    return "lora_unet_" + theirs.removesuffix(".weight").replace(".", "_")


KEYS = list(originals.unet_2d().state_dict())


def as_kohya(tensors, path):
    save_file(written(tensors, kohya, ("lora_down.weight", "lora_up.weight")), path)


def as_kohya_ldm(tensors, path):
    save_file(written(tensors, kohya_ldm, ("lora_down.weight", "lora_up.weight")), path)


def as_old_diffusers(tensors, path):
    found = written(tensors, lambda layer: layer, ("lora.down.weight", "lora.up.weight"))
    processors = {}
    for key, tensor in found.items():
        head, _, rest = key.rpartition(".to_q.lora.")
        processors[f"{head}.processor.to_q_lora.{rest}" if head else key] = tensor
    save_file({key: t for key, t in processors.items() if not key.endswith("to_q.alpha")}, path, metadata=metadata())


def as_comfyui(tensors, path):
    """As ComfyUI's Extract and Save LoRA writes it: the factor is in the matrices, and there is a text projection."""

    def name(layer):
        part, rest = layer.split(".", 1)
        if part != "unet":
            return f"text_encoders.clip_l.transformer.text_model.{rest.removeprefix('text_model.')}"
        theirs = ldm_keys_from_ours([*KEYS, rest + ".weight"])[rest + ".weight"]
        return "diffusion_model." + theirs.removesuffix(".weight")

    found = written(tensors, name, ("lora_down.weight", "lora_up.weight"))
    found = {key: tensor * ALPHA / RANK if ".lora_up." in key else tensor
             for key, tensor in found.items() if not key.endswith(".alpha")}  # fmt: skip
    projection = "text_encoders.clip_l.transformer.text_projection"
    save_file(found | {f"{projection}.lora_up.weight": torch.zeros(8, 1),
                       f"{projection}.lora_down.weight": torch.zeros(1, 8)}, path)  # fmt: skip


def as_comfyui_video(tensors, path):
    """The same of a VidRD MODEL, whose layers have diffusers' names."""
    prefixes = {"unet": "diffusion_model", "text_encoder": "text_encoders.clip_h.transformer"}
    found = {}
    for key, tensor in tensors.items():
        part, rest = key.split(".", 1)
        found[f"{prefixes[part]}.{rest}"] = tensor * ALPHA / RANK if ".lora_B." in key else tensor
    save_file({key.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): t for key, t in found.items()}, path)


WRITERS = {
    "diffusers": as_diffusers, "kohya": as_kohya, "kohya, LDM's blocks": as_kohya_ldm, "processors": as_old_diffusers,
    "ComfyUI": as_comfyui, "ComfyUI, of a video model": as_comfyui_video,
}  # fmt: skip
