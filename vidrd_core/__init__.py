"""VidRD: long videos from short-clip diffusion models, clip by clip (arXiv 2309.03549)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidrd_core.loading import built_in_models, load
    from vidrd_core.pipeline import Video, VidRD
    from vidrd_core.reuse import ReuseSettings
    from vidrd_core.sample import Clip
    from vidrd_core.settings import SampleSettings
    from vidrd_core.state import ClipState
    from vidrd_core.video import contact_sheet, open_video

__version__ = "0.2.0"

__all__ = [
    "Clip",
    "ClipState",
    "ReuseSettings",
    "SampleSettings",
    "VidRD",
    "Video",
    "__version__",
    "built_in_models",
    "contact_sheet",
    "load",
    "open_video",
]

_HOMES = {
    "built_in_models": "loading",
    "load": "loading",
    "Clip": "sample",
    "SampleSettings": "settings",
    "VidRD": "pipeline",
    "Video": "pipeline",
    "ReuseSettings": "reuse",
    "ClipState": "state",
    "contact_sheet": "video",
    "open_video": "video",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: transformers alone takes seconds.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
