"""The ComfyUI nodes, one file per feature: schemas, and thin calls into `host` and `vidrd_core`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .compare import CompareSettings, ContactSheet, DecodeNewFrames
from .custom_sampling import CollectState, Guidance, Noise
from .feature_cache import FeatureCache
from .footage import StateFromVideo
from .host.named_files import watch
from .host.state_files import serve
from .inflate import InflateCheckpoint
from .loaders import LoadTemporalVAE, LoadTextEncoder, LoadUNet3D
from .long_video import LongVideo
from .long_video_part import CheckVideo, LongVideoPart
from .prompts import EmptyClip, EncodePrompts
from .pseudo_video import PseudoVideo
from .reuse_map import ReuseMap
from .sampling import Extend, SampleClip
from .seam_report import SeamReport
from .state import LoadState, SaveState
from .video import WriteClip

NODES: list[type[io.ComfyNode]] = [
    LoadUNet3D,
    LoadTemporalVAE,
    LoadTextEncoder,
    InflateCheckpoint,
    EncodePrompts,
    EmptyClip,
    SampleClip,
    Extend,
    LongVideo,
    WriteClip,
    Noise,
    Guidance,
    CollectState,
    SaveState,
    LoadState,
    ReuseMap,
    SeamReport,
    CompareSettings,
    ContactSheet,
    PseudoVideo,
    StateFromVideo,
    FeatureCache,
]
# Which other nodes expand into: the page does not offer them.
INTERNAL: list[type[io.ComfyNode]] = [LongVideoPart, CheckVideo, DecodeNewFrames]


class VidRDExtension(ComfyExtension):
    """The extension that ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes of the pack, in the order of the documentation, and those that others expand into."""
        serve()  # versions before 0.33 do not call `on_load`
        watch()
        return [*NODES, *INTERNAL]
