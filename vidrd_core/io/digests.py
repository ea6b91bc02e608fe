"""What tells one model part from another."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from torch import nn


def signature(part: nn.Module, settings: str) -> str:
    """Twelve hex digits of a part's settings and of 64 to 127 values of each tensor: large parts take no time."""
    digest = hashlib.sha256(settings.encode())
    for name, tensor in part.state_dict().items():
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // 64)].float().cpu().numpy()
        digest.update(name.encode() + sample.tobytes())
    return digest.hexdigest()[:12]


def non_defaults(config: Any) -> str:
    """What a configuration has otherwise than by default: the same when later versions know more settings."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return repr(sorted((name, value) for name, value in values.items() if value != defaults[name]))
