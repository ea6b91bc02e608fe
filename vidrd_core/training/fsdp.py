"""Models that are spread over processes (FSDP), and how they come together again."""

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


class Pieces:
    """A model before it is spread: knows which parameters are trained, and takes them all in again.

    Of a model that is not spread it keeps nothing, and gives back itself.
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
        spread = accelerator.distributed_type == DistributedType.FSDP
        if spread and accelerator.state.fsdp_plugin.fsdp_version != 2:
            raise RecipeError("FSDP is of version 1: start with 'accelerate launch --use_fsdp --fsdp_version 2'")
        # A copy of the network alone: what else the task holds, latents among them, can be large.
        task = getattr(model, "task", None)
        self.model = copy.deepcopy(model, {id(task): task}) if spread else None
        if spread:  # whatever was configured: these are called, what is around them is not
            plugin = accelerator.state.fsdp_plugin
            found = {type(module).__name__ for module in model.modules() if isinstance(module, blocks)}
            plugin.auto_wrap_policy, plugin.transformer_cls_names_to_wrap = (
                transformer_auto_wrap_policy,
                sorted(found),
            )

    def trainable(self, prepared: nn.Module) -> dict[str, nn.Parameter]:
        """The trained parameters of the model as Accelerate gave it back, by their names."""
        own = dict(self.accelerator.unwrap_model(prepared).named_parameters())
        return {name: own[path] for name, path in self.names.items()}

    @torch.no_grad()
    def whole(self, prepared: nn.Module) -> Any:
        """The model in one piece, with the values of now; all processes have to ask."""
        model = self.accelerator.unwrap_model(prepared)
        if self.model is None:
            return model
        values = model.state_dict()
        for name, value in self.model.state_dict().items():
            value.copy_(whole(values[name]))
        return self.model

    def rest(self) -> None:
        """Take the copy of a model that is spread off the device again."""
        if self.model is not None:
            self.model.cpu()


def whole(value: Tensor) -> Tensor:
    """A tensor's pieces put together; all processes have to ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Give a tensor, or each process its piece of it, the values of a whole one."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)
