"""The nodes of ComfyUI that workflows are read by and rewritten with: their inputs, widgets and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PACK, CORE = "vidrd", "comfy-core"
MAX_STEPS, MAX_PROMPT_FRAMES = 1000, 1024  # of the pack's nodes
AS_SET = "as set here"  # the nodes' preset that takes their own values
PRESETS = (AS_SET, "paper", "keep moving", "loop on purpose", "anchored", "for this model")
SEED_CONTROL = "control_after_generate"  # a widget that the page adds after a seed


@dataclass(frozen=True)
class Input:
    """An input of a node.

    Args:
        name: Its name.
        type: Its type, as in a link.
        default: The value of its widget; None for an input without a widget.
        optional: Whether it may stay unconnected.
    """

    name: str
    type: str
    default: Any = None
    optional: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether it has a widget."""
        return self.default is not None


@dataclass(frozen=True)
class Definition:
    """A node that is added to workflows.

    Args:
        inputs: In the page's order, optional ones last.
        outputs: Names and types.
        pack: The pack that has it, as workflows name it.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]
    pack: str = CORE

    @property
    def widgets(self) -> list[str]:
        """The names of its widgets in the order of a workflow's widgets_values."""
        names: list[str] = []
        for each in self.inputs:
            if each.is_widget:
                names += [each.name, SEED_CONTROL] if each.name in ("seed", "noise_seed") else [each.name]
        return names


def _socket(name: str, type_: str, optional: bool = False) -> Input:
    return Input(name, type_, None, optional)


_REUSE = (
    Input("prompt_frames", "INT", 4),
    Input("alpha", "FLOAT", 4.0),
    Input("beta", "FLOAT", 0.4),
    Input("order", "COMBO", "auto"),
)
_STATE = _socket("state", "VIDRD_STATE", True)
_MORE = (
    Input("preset", "COMBO", AS_SET, True),
    Input("noise_policy", "COMBO", "pns", True),
    Input("release", "COMBO", "hard", True),
    Input("drift", "FLOAT", 0.0, True),
    Input("loop", "COMBO", "none", True),
)
_STAGING = Input("staging", "COMBO", "paper", True)
_SEED = Input("seed", "INT", 0)

ADDED: dict[str, Definition] = {
    "VidRD_Extend": Definition(
        (
            _socket("model", "MODEL"),
            _socket("positive", "CONDITIONING"),
            _socket("negative", "CONDITIONING"),
            _socket("latent", "LATENT"),
            _SEED,
            Input("steps", "INT", 50),
            Input("cfg", "FLOAT", 10.0),
            Input("sampler_name", "COMBO", "euler"),
            Input("scheduler", "COMBO", "ddim_uniform"),
            *_REUSE,
            _STATE,
            *_MORE,
            _socket("positive_before", "CONDITIONING", True),
            _STAGING,
            _socket("model_low_noise", "MODEL", True),
            Input("switch_step", "INT", 0, True),
        ),
        (("new frames", "LATENT"), ("whole clip", "LATENT"), ("next state", "VIDRD_STATE")),
        PACK,
    ),
    "VidRD_WriteClip": Definition(
        (
            _socket("latent", "LATENT"),
            _socket("vae", "VAE"),
            Input("filename_prefix", "STRING", "vidrd/video"),
            Input("format", "COMBO", "mp4"),
            Input("fps", "FLOAT", 8.0),
            Input("scale", "INT", 1),
            _socket("before", "VIDEO", True),
            _socket("audio_vae", "VAE", True),
        ),
        (("video", "VIDEO"),),
        PACK,
    ),
    "VidRD_Noise": Definition(
        (
            _SEED,
            *(each for each in _REUSE if each.name != "beta"),
            _STATE,
            *(each for each in _MORE if each.name in ("preset", "noise_policy", "loop")),
        ),
        (("noise", "NOISE"),),
        PACK,
    ),
    "VidRD_Guidance": Definition(
        (
            _socket("sampler", "SAMPLER"),
            *_REUSE,
            _STATE,
            *(each for each in _MORE if each.name != "noise_policy"),
            _STAGING,
        ),
        (("guided sampler", "SAMPLER"),),
        PACK,
    ),
    "VidRD_CollectState": Definition(
        (_socket("sampler", "SAMPLER"), _socket("latent", "LATENT")),
        (("new frames", "LATENT"), ("next state", "VIDRD_STATE")),
        PACK,
    ),
    "SamplerCustomAdvanced": Definition(
        (
            _socket("noise", "NOISE"),
            _socket("guider", "GUIDER"),
            _socket("sampler", "SAMPLER"),
            _socket("sigmas", "SIGMAS"),
            _socket("latent_image", "LATENT"),
        ),
        (("output", "LATENT"), ("denoised_output", "LATENT")),
    ),
    "CFGGuider": Definition(
        (
            _socket("model", "MODEL"),
            _socket("positive", "CONDITIONING"),
            _socket("negative", "CONDITIONING"),
            Input("cfg", "FLOAT", 8.0),
        ),
        (("GUIDER", "GUIDER"),),
    ),
    "CLIPTextEncode": Definition(
        (Input("text", "STRING", ""), _socket("clip", "CLIP")), (("CONDITIONING", "CONDITIONING"),)
    ),
    "EmptyLTXVLatentVideo": Definition(
        (
            Input("width", "INT", 768),
            Input("height", "INT", 512),
            Input("length", "INT", 97),
            Input("batch_size", "INT", 1),
        ),
        (("LATENT", "LATENT"),),
    ),
    "LTXVSeparateAVLatent": Definition(
        (_socket("av_latent", "LATENT"),), (("video_latent", "LATENT"), ("audio_latent", "LATENT"))
    ),
    "GetVideoComponents": Definition(
        (_socket("video", "VIDEO"),), (("images", "IMAGE"), ("audio", "AUDIO"), ("fps", "FLOAT"))
    ),
    "PrimitiveInt": Definition((Input("value", "INT", 0),), (("INT", "INT"),)),
}

# Nodes that make latents, of which each after the first one stands for four frames.
SIZED = (
    *("EmptyHunyuanLatentVideo", "EmptyHunyuanVideo15Latent", "HunyuanImageToVideo", "HunyuanVideo15ImageToVideo"),
    *("Kandinsky5ImageToVideo", "WanAnimateToVideo", "WanAnimate2ToVideo", "WanCameraImageToVideo"),
    *("WanFirstLastFrameToVideo", "WanFunControlToVideo", "Wan22FunControlToVideo", "WanFunInpaintToVideo"),
    *("WanHuMoImageToVideo", "WanImageToVideo", "WanMoveTrackToVideo", "WanPhantomSubjectToVideo"),
    *("WanSoundImageToVideo", "WanVaceToVideo"),
)
_SIZE = ("width", "height", "length", "batch_size")

# Widgets of the nodes that are read, in the order of widgets_values.
WIDGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SIZED, _SIZE),
    **dict.fromkeys(("Wan22ImageToVideoLatent", "EmptyMochiLatentVideo", "EmptyCosmosLatentVideo"), _SIZE),
    "CosmosImageToVideoLatent": _SIZE,
    "WanTrackToVideo": ("tracks", *_SIZE),
    "WanMoveTrackToVideo": ("strength", *_SIZE),
    **{kind: tuple(each.widgets) for kind, each in ADDED.items()},
    "KSampler": ("seed", SEED_CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", SEED_CONTROL, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", SEED_CONTROL, "cfg"),
    "RandomNoise": ("noise_seed", SEED_CONTROL),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "SDTurboScheduler": ("steps", "denoise"),
    **dict.fromkeys(("AlignYourStepsScheduler", "OptimalStepsScheduler"), ("model_type", "steps", "denoise")),
    "GITSScheduler": ("coeff", "steps", "denoise"),
    "VidRD_EmptyClip": ("width", "height", "frames"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "RepeatLatentBatch": ("amount",),
    "TrimVideoLatent": ("trim_amount",),
    "ReplaceVideoLatentFrames": ("index",),
    "LTXVAddGuide": ("frame_idx", "strength"),
    "LTXVImgToVideo": ("width", "height", "length", "batch_size", "strength"),
    "LatentUpscaleModelLoader": ("model_name",),
    "VAEDecodeTiled": ("tile_size", "overlap", "temporal_size", "temporal_overlap"),
    "CreateVideo": ("fps", "bit_depth"),
    "SaveVideo": ("filename_prefix", "format", "codec", "encoding"),
    "SaveWEBM": ("filename_prefix", "codec", "fps", "crf"),
    "SaveAnimatedWEBP": ("filename_prefix", "fps", "lossless", "quality", "method"),
    "PrimitiveInt": ("value", SEED_CONTROL),
    "PrimitiveFloat": ("value",),
    "PrimitiveBoolean": ("value",),
    "PrimitiveString": ("value",),
}
