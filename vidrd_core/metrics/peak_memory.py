"""Peak memory of a piece of work, counted in tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MIB = 2**20


class CPUMemoryProfile:
    """Current and peak CPU memory of tensors, from the events that torch's profiler records between start and stop.

    It can be started again after a stop, and continues its counts.
    """

    def __init__(self) -> None:
        self.current = self.peak = 0

    def start(self) -> None:
        """Begin to record."""
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        self.profile.start()

    def stop(self) -> None:
        """Stop recording, and count what was recorded."""
        self.profile.stop()
        profiler: Any = self.profile.profiler
        events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            self.current += event.nbytes()
            self.peak = max(self.peak, self.current)

    def restart(self, *_: Any) -> None:
        """Count what was recorded so far and drop the events, which take memory themselves; a forward hook."""
        self.stop()
        self.start()


def peak_memory_mib(work: Callable[[], Any], module: nn.Module | None = None) -> float:
    """The peak memory of tensors that a function allocates beyond those that exist when it starts.

    On a GPU this is CUDA's own count, on a CPU that of torch's profiler, whose list of events grows with the work.

    Args:
        work: The function to measure.
        module: A module at whose every call the events are counted and dropped, for long work on a CPU.

    Returns:
        MiB.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    profile = CPUMemoryProfile()
    hook = module.register_forward_pre_hook(profile.restart) if module else None
    profile.start()
    try:
        work()
    finally:
        profile.stop()
        if hook:
            hook.remove()
    return profile.peak / MIB
