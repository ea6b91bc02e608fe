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
# Those whose frames have a latent each, with the widget that tells their number.
_EACH = {"VidRD_EmptyClip": "frames", "EmptyLatentImage": "batch_size"}
# Those whose latents stand for one frame and several in turn: their number is not looked at.
_IN_TURN = ("EmptyMiniMaxH3LatentAV", "MiniMaxH3ImageToVideo", "MiniMaxH3ReferenceToVideo")
_REASON = "clips that cannot reuse what was chosen"
_WARM_UP = 1  # the first latent of a later clip, which stands for one frame and is sampled before the prompt frames


def check_reuse(view: View, chain: Chain, reuse: dict[str, Any]) -> None:
    """Check that clips can reuse what was chosen, where the order, their length or their number makes it plain.

    Args:
        view: The workflow.
        chain: A sampler of clips.
        reuse: The settings of reuse that are not the nodes' defaults.

    Raises:
        WorkflowError: Every clip would be refused when the workflow runs.
    """
    makers = _makers(view, chain)
    _check_batch(view, makers)
    maker = _maker(view, makers)
    if maker is None:
        return
    preset = reuse.get("preset", AS_SET)
    compresses = view.kind(maker) not in _EACH
    if compresses and (preset == "paper" or (preset == AS_SET and reuse.get("order") == "mirror")):
        what, mend = "--order is mirror", "give --order forward, or leave it out"
        if preset == "paper":
            what, mend = "--preset paper takes the order mirror", "leave it out, or give another preset"
        raise _refused(view, maker, f"{what}, but its latents stand for several frames each, which reversed ones do "
                       f"not show in reverse; {mend}")  # fmt: skip
    latents = latents_of(view, maker)
    if latents is None:
        return
    warm_up = _WARM_UP if compresses else 0
    if preset != AS_SET:
        least = warm_up + (3 if preset == "loop on purpose" else 2)
        if latents < least:
            raise _refused(
                view, maker, f"its clips have {latents} latents, expected {least} or more; make them longer"
            )
        return
    defaults = {each.name: each.default for each in ADDED["VidRD_Extend"].inputs}
    frames = reuse.get("prompt_frames", defaults["prompt_frames"])
    if frames and frames + warm_up >= latents:
        most = latents - warm_up - 1
        can = f"give -M {most} or less, or --preset 'for this model'" if most > 0 else "make them longer"
        first = ", of which the first one is a warm-up in later clips" if warm_up else ""
        raise _refused(
            view, maker, f"its clips have {latents} latents{first}: {frames} prompt frames are too many; {can}"
        )


def latents_of(view: View, maker: Key) -> int | None:
    """How many latents a node makes; None where the file does not tell."""
    kind = view.kind(maker)
    length = None if kind in _IN_TURN else view.value(maker, _EACH.get(kind, "length"))
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        return None
    if kind in _EACH:
        return length
    references = view.origins(maker).keys() & {"reference_image", "ref_image"}
    return (length - 1) // _FACTORS[kind] + 1 + (kind in WITH_REFERENCE and bool(references))


def _makers(view: View, chain: Chain) -> list[Key]:
    """The nodes behind the latents of a clip's first pass, the nearest first."""
    start = view.origin(chain.first_expert or chain.samplers[0], "latent_image")
    if start is None:
        return []
    stop = (*DECODERS, *SAMPLERS)
    return [start.key, *view.behind(start.key, lambda key: view.kind(key) in stop)]


def _maker(view: View, makers: list[Key]) -> Key | None:
    """Of these, that whose length and VAE are known."""
    for key in makers[:1]:
        vae = view.origin(key, "vae")
        if view.kind(key) in _EACH and (vae is None or view.kind(vae.key) == "VidRD_LoadTemporalVAE"):
            return key
    return next((key for key in makers if view.kind(key) in (*_FACTORS, *_IN_TURN)), None)


def _check_batch(view: View, makers: list[Key]) -> None:
    """Raise WorkflowError if nodes make several videos at once."""
    of_videos = any(view.kind(key) in (*_FACTORS, *_IN_TURN, "VidRD_EmptyClip") for key in makers)
    for key in makers:
        name = "amount" if view.kind(key) == "RepeatLatentBatch" and of_videos else "batch_size"
        number = view.value(key, name) if name == "amount" or view.kind(key) in _FACTORS else 1
        if isinstance(number, int) and number > 1:
            why = f"it makes {number} videos at once ({name}), and clips go on from one; set its {name} to 1"
            raise refusal(view, "several videos at once", key, why)


def _refused(view: View, maker: Key, why: str) -> WorkflowError:
    return refusal(view, _REASON, maker, why)
