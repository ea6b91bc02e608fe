"""How much memory a piece of work takes at most, in tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

MIB = 2**20


def allocated(work: Callable[[], Any]) -> float:
    """The most memory that a piece of work holds in tensors of its own, in MiB, by torch's own account."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    held = highest = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest / MIB
