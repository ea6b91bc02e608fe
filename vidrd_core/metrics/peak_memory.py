"""How much memory a piece of work takes at most, in tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MIB = 2**20


class Account:
    """What is held on the CPU, from what torch's profiler writes down between `begin` and `end`, again and again."""

    def __init__(self) -> None:
        self.held = self.highest = 0

    def begin(self) -> None:
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        self.profile.start()

    def end(self) -> None:
        self.profile.stop()
        profiler: Any = self.profile.profiler
        events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            self.held += event.nbytes()
            self.highest = max(self.highest, self.held)

    def turn(self, *_: Any) -> None:
        self.end()
        self.begin()


def allocated(work: Callable[[], Any], module: nn.Module | None = None) -> float:
    """The most memory that a piece of work holds in tensors of its own, in MiB, by torch's own account.

    On a CPU that account itself grows with the work: a `module` is one at whose every call it is added up anew.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    account = Account()
    hook = module.register_forward_pre_hook(account.turn) if module else None
    account.begin()
    try:
        work()
    finally:
        account.end()
        if hook:
            hook.remove()
    return account.highest / MIB
