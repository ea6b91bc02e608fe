"""Models whose parameters are sharded over processes (PyTorch's FSDP 2), and gathering them again."""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from torch.distributed.tensor import DTensor, distribute_tensor

from vidrd_core.training.data import RecipeError


class ShardedModel:
    """Knows a model before Accelerate shards it, so that it can be gathered into one process again.

    Without FSDP nothing is copied, and the gathered model is the model itself.

    Args:
        model: The model before `Accelerator.prepare`.
        trainable: Its trained parameters by name.
        accelerator: What prepares it.
        blocks: Module types that are sharded as a unit, whatever Accelerate's configuration says.

    Raises:
        RecipeError: Accelerate was started with FSDP 1.
    """

    def __init__(
        self,
        model: nn.Module,
        trainable: dict[str, nn.Parameter],
        accelerator: Accelerator,
        blocks: tuple[type[nn.Module], ...],
    ) -> None:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.names = {name: names[id(parameter)] for name, parameter in trainable.items()}
        self.accelerator = accelerator
        sharded = accelerator.distributed_type == DistributedType.FSDP
        if sharded and accelerator.state.fsdp_plugin.fsdp_version != 2:
            raise RecipeError("FSDP is of version 1: start with 'accelerate launch --use_fsdp --fsdp_version 2'")
        # Of the network alone: what else the task holds, latents among them, can be large.
        task = getattr(model, "task", None)
        self.full_copy = copy.deepcopy(model, {id(task): task}) if sharded else None
        if sharded:
            plugin = accelerator.state.fsdp_plugin
            found = {type(module).__name__ for module in model.modules() if isinstance(module, blocks)}
            plugin.auto_wrap_policy, plugin.transformer_cls_names_to_wrap = (
                transformer_auto_wrap_policy,
                sorted(found),
            )

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP is in use."""
        return self.full_copy is not None

    def trainable(self, prepared: nn.Module) -> dict[str, nn.Parameter]:
        """The trained parameters of the model that Accelerate returned, by their names before."""
        own = dict(self.accelerator.unwrap_model(prepared).named_parameters())
        return {name: own[path] for name, path in self.names.items()}

    @torch.no_grad()
    def gathered(self, prepared: nn.Module) -> Any:
        """The unsharded model with its current values; every process has to call it."""
        model = self.accelerator.unwrap_model(prepared)
        if self.full_copy is None:
            return model
        values = model.state_dict()
        for name, value in self.full_copy.state_dict().items():
            value.copy_(full_tensor(values[name]))
        return self.full_copy

    def offload_copy(self) -> None:
        """Move the copy that a sharded model is gathered into to the CPU."""
        if self.full_copy is not None:
            self.full_copy.cpu()


def full_tensor(value: Tensor) -> Tensor:
    """A sharded tensor gathered into one; every process has to call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def copy_full(target: Tensor, value: Tensor) -> None:
    """Copy an unsharded tensor into a tensor, or each process's shard of it into the shard."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)
