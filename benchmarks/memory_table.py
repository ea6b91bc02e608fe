"""How much memory does a clip take on a GPU? For the full-size networks, by size and number of frames.

    python benchmarks/memory_table.py                 # computed, without a GPU
    python benchmarks/memory_table.py --device cuda   # measured

Computed: the networks run on torch's "meta" device, where tensors have no data, and the bytes of the tensors that are
alive at once are counted. That is what torch's allocator would hold; cuDNN's workspaces and fragmentation come on
top. Measured: the same calls on the device, by the allocator's peak. Weights are random.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from memory import MIB
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vidrd_core.metrics.peak_memory import peak_memory_mib
from vidrd_core.model import store
from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.offload import blocks_of
from vidrd_core.models.streaming_decode import DecoderStream
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE

MODELS = {
    "VidRD on Stable Diffusion 2.1": UNet3DConfig(joint_resnet_norm=True, embed_to="stream", released_embedding=True),
    "ModelScope": UNet3DConfig(temp_attention="after", transformer_in=True, temporal_for_images=True),
}
FRAMES, SIZES = (8, 16, 24), (256, 512)
GUIDED, TOKENS, TEXT_WIDTH = 2, 77, 1024
TILE = 256  # pixels
TEXT_ENCODER = 340.4e6  # parameters of OpenCLIP ViT-H's text encoder as Stable Diffusion 2.x uses it


class LiveTensors(TorchDispatchMode):
    """A context that counts the bytes of the tensors that are created in it and alive at once.

    Attributes:
        now: The bytes that are alive.
        highest: The peak of `now`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.highest = 0
        self.known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for given in tree_leaves((args, kwargs)):  # tensors from before are not counted
            if isinstance(given, Tensor):
                self._note(given, 0)
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                self._note(made, made.untyped_storage().nbytes())
        return result

    def _note(self, tensor: Tensor, size: int) -> None:
        """Count a storage of `size` bytes, once, until it is freed."""
        storage = tensor.untyped_storage()
        number = id(storage)
        if number in self.known and self.known[number]() is storage:
            return

        def freed(_: Any) -> None:
            self.now -= size
            self.known.pop(number, None)

        self.known[number] = weakref.ref(storage, freed)
        self.now += size
        self.highest = max(self.highest, self.now)


class OffloadCount:
    """Subtracts the tensors of a decoder stream while it is offloaded: "meta" has no main memory to move them to."""

    def __init__(self, count: LiveTensors) -> None:
        self.count = count
        self.offloaded: weakref.WeakSet[DecoderStream] = weakref.WeakSet()

    def to(self, stream: DecoderStream, device: torch.device | str) -> None:
        """Count a stream's move to a device; in place of `DecoderStream.to`."""
        leaves = str(device) == "cpu"
        if leaves == (stream in self.offloaded):
            return
        (self.offloaded.add if leaves else self.offloaded.discard)(stream)
        size = sum(tensor.untyped_storage().nbytes() for tensor in stream.kept_tensors())
        self.count.now += -size if leaves else size
        self.count.highest = max(self.count.highest, self.count.now)


def held(work: Callable[[], Any], device: str) -> float:
    """The peak memory that a function allocates beside what there was before, in MiB."""
    if device != "meta":
        work()  # one-time setup is not counted
        return peak_memory_mib(work)
    count = LiveTensors()
    offloads = OffloadCount(count)
    with count, mock.patch.object(DecoderStream, "to", lambda stream, device: offloads.to(stream, device)):
        work()
    return count.highest / MIB


def fused(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """A stand-in for a fused attention kernel on "meta": it allocates only its result."""
    return torch.empty_like(q)


def network(config: UNet3DConfig | VAEConfig, device: str, dtype: torch.dtype) -> nn.Module:
    """A UNet3D or temporal VAE of random weights for inference."""
    kind: Any = UNet3D if isinstance(config, UNet3DConfig) else TemporalVAE
    more: dict[str, Any] = {"attention": fused} if device == "meta" else {}
    with torch.device(device):
        made: nn.Module = kind(config, **more).to(dtype)
    return made.eval().requires_grad_(False)


@torch.inference_mode()
def of_unet(unet: nn.Module, frames: int, size: int, device: str, dtype: torch.dtype) -> float:
    """The peak memory of a denoising step with guidance, in MiB, for frames of `size` pixels a side."""
    place: Any = {"device": device, "dtype": dtype}
    x = torch.zeros(GUIDED, 4, frames, size // 8, size // 8, **place)
    text = torch.zeros(GUIDED, TOKENS, TEXT_WIDTH, **place)
    timestep = torch.full((GUIDED,), 500, device=device)
    return held(lambda: unet(x, timestep, text), device)


@torch.inference_mode()
def of_vae(vae: Any, frames: int, size: int, device: str, tile: int | None) -> float:
    """The peak memory of decoding a clip as `VidRD.decode` does, in MiB, without the frames themselves."""
    latents = torch.zeros(1, 4, frames, size // 8, size // 8, device=device)
    together = vae.frames_at_once(size // 8, size // 8, tile)

    def work() -> None:
        for _ in vae.decode_stream([latents], tile=tile, frames_at_once=together):
            pass

    return held(work, device)


def size_of(module: nn.Module) -> float:
    """The memory of a module's weights, in MiB."""
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()) / MIB


def rows(name: str, device: str, dtype: torch.dtype) -> list[str]:
    """The rows of a network's Markdown table, one for each size and number of frames."""
    unet = network(MODELS[name], device, dtype)
    vae = network(VAEConfig(), device, torch.float32)
    whole, text, decoder = size_of(unet), TEXT_ENCODER * 4 / MIB, size_of(vae)
    blocks = sum(sorted(map(size_of, blocks_of(unet)))[-2:])
    small = whole
    if device == "meta":
        for module in unet.modules():  # weights that `store` would keep in 8 bits
            if isinstance(module, nn.Linear | nn.Conv2d):
                small -= module.weight.numel() * (module.weight.element_size() - 1) / MIB
    else:
        store(unet, torch.float8_e4m3fn)
        small = size_of(unet)
        unet.to(dtype)
    lines = []
    for size in SIZES:
        for frames in FRAMES:
            step = of_unet(unet, frames, size, device, dtype)
            decode, tiles = (of_vae(vae, frames, size, device, tile) for tile in (None, TILE))
            everything = whole + text + decoder + max(step, decode)
            parts = max(small + step, decoder + tiles, text)
            least = max(blocks + step, decoder + tiles, text)
            numbers = [step, decode, tiles, everything, parts, least]
            lines.append(f"| {size} | {frames} | " + " | ".join(f"{number / 1024:.2f}" for number in numbers) + " |")
    return lines


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="meta", help="cuda, to measure; by default everything is computed")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16", help="of the UNet")
    given = parser.parse_args()
    how = "computed" if given.device == "meta" else f"measured on {torch.cuda.get_device_name()}"
    print(f"GiB, {how}; UNet in {given.dtype}, VAE and text encoder in float32, guidance in one batch of two")
    for name in MODELS:
        print(f"\n{name}\n\n| px | frames | a UNet step | decoding | in tiles | all on the device "
              f"| fp8, parts offloaded, tiles | blocks offloaded, tiles |\n{'| --- ' * 8}|")  # fmt: skip
        print("\n".join(rows(name, given.device, getattr(torch, given.dtype))), flush=True)


if __name__ == "__main__":
    main()
