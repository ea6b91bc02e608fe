"""The length of a workflow's clips, where its nodes tell it, and what clips of that length can reuse."""

from __future__ import annotations

from typing import Any

from vidrd_core.comfy.chains import DECODERS, SAMPLERS, WITH_REFERENCE, Chain
from vidrd_core.comfy.definitions import ADDED, AS_SET, SIZED
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.view import Key, View, refusal

# Frames that each latent after the first one stands for, in the latents that a node makes.
_FACTORS = {
    **dict.fromkeys(SIZED, 4),
    **dict.fromkeys(("WanTrackToVideo", "Wan22ImageToVideoLatent"), 4),
    **dict.fromkeys(("EmptyLTXVLatentVideo", "LTXVImgToVideo"), 8),
    **dict.fromkeys(("EmptyCosmosLatentVideo", "CosmosImageToVideoLatent"), 8),
    "EmptyMochiLatentVideo": 6,
}
# Those whose latents stand for one frame and several in turn: their number is not looked at.
_IN_TURN = ("EmptyMiniMaxH3LatentAV", "MiniMaxH3ImageToVideo", "MiniMaxH3ReferenceToVideo")
_REASON = "clips that cannot reuse what was chosen"
_WARM_UP = 1  # the first latent of a later clip, which stands for one frame and is sampled before the prompt frames


def check_reuse(view: View, chain: Chain, reuse: dict[str, Any]) -> None:
    """Check that clips can reuse what was chosen, where the order or their length makes it plain that they cannot.

    Args:
        view: The workflow.
        chain: A sampler of clips.
        reuse: The settings of reuse that are not the nodes' defaults.

    Raises:
        WorkflowError: Every clip would be refused when the workflow runs.
    """
    maker = _maker(view, chain)
    if maker is None:
        return
    preset = reuse.get("preset", AS_SET)
    if preset == "paper" or (preset == AS_SET and reuse.get("order") == "mirror"):
        what = "--preset paper takes the order mirror" if preset == "paper" else "--order is mirror"
        raise _refused(view, maker, f"{what}, but its latents stand for several frames each, which reversed ones do "
                       "not show in reverse; give --order forward, or another preset")  # fmt: skip
    latents = latents_of(view, maker)
    if latents is None:
        return
    if preset != AS_SET:
        least = 4 if preset == "loop on purpose" else 3
        if latents < least:
            raise _refused(
                view, maker, f"its clips have {latents} latents, expected {least} or more; make them longer"
            )
        return
    defaults = {each.name: each.default for each in ADDED["VidRD_Extend"].inputs}
    frames = reuse.get("prompt_frames", defaults["prompt_frames"])
    if frames and frames + _WARM_UP >= latents:
        most = latents - _WARM_UP - 1
        can = f"give -M {most} or less, or --preset 'for this model'" if most > 0 else "make them longer"
        raise _refused(
            view,
            maker,
            f"its clips have {latents} latents, of which the first one is a warm-up in later clips: {frames} prompt "
            f"frames are too many; {can}",
        )


def latents_of(view: View, maker: Key) -> int | None:
    """How many latents a node makes; None where the file does not tell."""
    length = None if view.kind(maker) in _IN_TURN else view.value(maker, "length")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        return None
    references = view.origins(maker).keys() & {"reference_image", "ref_image"}
    return (length - 1) // _FACTORS[view.kind(maker)] + 1 + (view.kind(maker) in WITH_REFERENCE and bool(references))


def _maker(view: View, chain: Chain) -> Key | None:
    """The node that makes the latents of a clip's first pass, of those whose length and VAE are known."""
    start = view.origin(chain.first_expert or chain.samplers[0], "latent_image")
    if start is None:
        return None
    stop = (*DECODERS, *SAMPLERS)
    makers = [start.key, *view.behind(start.key, lambda key: view.kind(key) in stop)]
    return next((key for key in makers if view.kind(key) in (*_FACTORS, *_IN_TURN)), None)


def _refused(view: View, maker: Key, why: str) -> WorkflowError:
    return refusal(view, _REASON, maker, why)
