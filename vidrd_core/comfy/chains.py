"""Finds what makes the video in a workflow: the sampler, its decoders, and the nodes that save the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.steps import (
    TAKEN,
    check_connected,
    check_custom,
    check_given,
    check_steps,
    check_switch,
    differences,
    first_expert,
)
from vidrd_core.comfy.view import Key, View, refusal, same_graph, unconnected

K_SAMPLERS = ("KSampler", "KSamplerAdvanced")
SAMPLERS = (*K_SAMPLERS, "SamplerCustom", "SamplerCustomAdvanced")
DECODERS = ("VAEDecode", "VAEDecodeTiled")
SOUND_DECODERS = {"VAEDecodeAudio": "vae", "VAEDecodeAudioTiled": "vae", "LTXVAudioVAEDecode": "audio_vae"}
RATES = {"CreateVideo": "fps", "SaveWEBM": "fps", "SaveAnimatedWEBP": "fps", "VHS_VideoCombine": "frame_rate"}
WRITERS = ("VidRD_WriteClip", "VidRD_LongVideo")  # of this pack
SAVERS = ("SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "VHS_VideoCombine")
PICTURES = ("LoadImage", "LoadVideo", "LoadImageMask", "LoadAudio", "VHS_LoadVideo", "VHS_LoadVideoPath")
# Nodes between a sampler and a decoder that leave a clip's latents as they are, with the input that they pass on.
_PASSED = {"LTXVSeparateAVLatent": "av_latent", "LTXVCropGuides": "latent", "TrimVideoLatent": "samples"}
# Nodes that change the beginning of a clip's latents, which later clips do not show: they stay, for the first clip.
AT_THE_BEGINNING = {
    "TrimVideoLatent": "samples", "NormalizeVideoLatentStart": "latent", "ReplaceVideoLatentFrames": "destination",
}  # fmt: skip
# Nodes that put one latent of a reference picture before a clip's others; it is the warm-up latent of later clips.
WITH_REFERENCE = ("WanVaceToVideo", "WanAnimateToVideo", "WanAnimate2ToVideo")
_GUIDES = ("LTXVAddGuide", "LTXVAddGuideMulti", "MiniMaxH3AddGuide")
_FILMS = ("LoadVideo", "VHS_LoadVideo", "VHS_LoadVideoPath", "GetVideoComponents")
_ENCODED_SOUND = ("LTXVAudioVAEEncode", "VAEEncodeAudio")
# Nodes that make latents of picture and sound together.
_MAKES_SOUND = ("LTXVConcatAVLatent", "EmptyMiniMaxH3LatentAV", "MiniMaxH3ImageToVideo", "MiniMaxH3ReferenceToVideo")
# Nodes that may be between two passes: they leave the number of latents as it is.
_BETWEEN = (
    *("LTXVSeparateAVLatent", "LTXVConcatAVLatent", "LTXVCropGuides", "LTXVLatentUpsampler"),
    *("LTXVImgToVideoInplace", "LatentUpscale", "LatentUpscaleBy"),
)
# Nodes that begin a clip with a picture, for models that need none, by the inputs that replace their outputs in later
# clips; None is an empty latent of the same size.
BEGINNINGS: dict[str, tuple[str | None, ...]] = {
    "LTXVImgToVideoInplace": ("latent",),
    "LTXVImgToVideo": ("positive", "negative", None),
    "LTXVAddGuide": ("positive", "negative", "latent"),
}
WITHOUT = {"Wan22ImageToVideoLatent": "start_image"}  # the same by leaving an input open
_CONDITIONERS = ("LTXVConditioning", "LTXVCropGuides", "LTXVAddGuide")  # they pass the prompt on
_GUIDERS = {"CFGGuider": "positive", "BasicGuider": "conditioning", "LTXVDualCFGGuider": "positive"}


@dataclass
class Decoder:
    """A decoder of a sampler's video.

    Args:
        key: The node.
        passed: The nodes between it and the sampler, from the decoder on.
        beginning: Those of them that stay, for the first clip: of `AT_THE_BEGINNING`.
    """

    key: Key
    passed: list[Key]
    beginning: list[Key]


@dataclass
class Chain:
    """A sampler of clips, and what decodes them.

    Args:
        sampler: The sampler.
        decoders: Its decoders whose frames are saved as a video.
        sound: The decoder of its sound, if there is any.
        passed_to_sound: The nodes between that and the sampler.
        pictures: Nodes that load pictures, films or sound on which each clip depends, or decode such pictures.
        first_expert: The sampler of the first steps, if another model takes those (Wan 2.2).
        passes: The samplers of the passes before it, the first one first: their latents it goes on with.
        beginnings: Nodes that begin the first clip with a picture: of `BEGINNINGS` and `WITHOUT`.
        endings: Nodes that end the last clip with one: of `BEGINNINGS`.
        holds_sound: Whether the latents are of picture and sound together.
    """

    sampler: Key
    decoders: list[Decoder] = field(default_factory=list)
    sound: Key | None = None
    passed_to_sound: list[Key] = field(default_factory=list)
    pictures: list[Key] = field(default_factory=list)
    first_expert: Key | None = None
    passes: list[Key] = field(default_factory=list)
    beginnings: list[Key] = field(default_factory=list)
    endings: list[Key] = field(default_factory=list)
    holds_sound: bool = False

    @property
    def samplers(self) -> list[Key]:
        """The samplers of all passes, in turn."""
        return [*self.passes, self.sampler]


def find_chains(view: View) -> list[Chain]:
    """The samplers whose frames a workflow saves as videos.

    Args:
        view: The workflow.

    Returns:
        The chains; one in most workflows.

    Raises:
        WorkflowError: There is none, or one cannot be extended; the message names the node in the way.
    """
    try:
        TopologicalSorter({key: [each.key for each in view.origins(key).values()] for key in view.keys}).prepare()
    except CycleError as error:
        why = "it depends on its own output, which ComfyUI does not run; take a link out of that circle"
        raise refusal(view, "a circle", error.args[1][0], why) from error
    savers = [key for key in view.keys if view.kind(key) in SAVERS]
    if not savers:
        _check_short(view, view.keys)
        _check_group(view, view.keys)
        expected = ", ".join(view.idle(SAVERS)) or f"expected one of {', '.join(SAVERS)}"
        raise WorkflowError("no video is saved", f"no node saves a video: {expected}")
    chains: dict[Key, Chain] = {}
    for decoder in [key for key in view.keys if view.kind(key) in DECODERS]:
        if not any(_is_saved(view, key) for key in view.ahead(decoder, lambda key: view.kind(key) in SAMPLERS)):
            continue
        sampler, passed = _trace(view, decoder)
        beginning = [key for key in passed if _changes_beginning(view, key)]
        chains.setdefault(sampler, Chain(sampler)).decoders.append(Decoder(decoder, passed, beginning))
    if not chains:
        raise _without_sampler(view, savers[0])
    for sound in [key for key in view.keys if view.kind(key) in SOUND_DECODERS]:
        maker, passed = _follow(view, sound)
        if maker in chains:
            chains[maker].sound, chains[maker].passed_to_sound = sound, passed
    for chain in chains.values():
        _check_uses(view, chain, chains)
        _check(view, chain, chains)
        chain.pictures = _pictures(view, chain)
    return list(chains.values())


def _is_saved(view: View, key: Key) -> bool:
    """Whether a node joins frames to a video that is saved."""
    kind = view.kind(key)
    return kind in RATES and (kind in SAVERS or any(view.kind(each) in SAVERS for each in view.ahead(key)))


def _follow(view: View, decoder: Key) -> tuple[Key | None, list[Key]]:
    """From a decoder to the node that makes its latents, None at an open end; and the nodes of `_PASSED` between."""
    passed: list[Key] = []
    known = {**_PASSED, **AT_THE_BEGINNING}
    origin = view.origin(decoder, "samples")
    while origin is not None and view.kind(origin.key) in known:
        passed.append(origin.key)
        origin = view.origin(origin.key, known[view.kind(origin.key)])
    return (None if origin is None else origin.key), passed


def _trace(view: View, decoder: Key) -> tuple[Key, list[Key]]:
    """The sampler of a decoder's latents, and the nodes between. Raises WorkflowError for others in the way."""
    maker, passed = _follow(view, decoder)
    if maker is None:
        last = [decoder, *passed][-1]
        raise unconnected(view, last, {**_PASSED, **AT_THE_BEGINNING}.get(view.kind(last), "samples"))
    if view.kind(maker) not in SAMPLERS:
        _check_group(view, [maker])
        if any(view.kind(key) in SAMPLERS for key in view.behind(maker, lambda key: view.kind(key) in DECODERS)):
            raise WorkflowError(
                "latents are changed before they are decoded",
                f"{view.label(maker)} is in the way: it changes the latents between the sampler and "
                f"{view.label(decoder)}, which would have to happen to each clip; bypass it first",
            )
        raise WorkflowError(
            "not from a sampler",
            f"{view.label(decoder)} decodes latents of {view.label(maker)}, expected those of a sampler: "
            + (", ".join(view.idle(SAMPLERS)) or ", ".join(SAMPLERS)),
        )
    return maker, passed


def _changes_beginning(view: View, key: Key) -> bool:
    """Whether a node changes a clip's first latents. Raises WorkflowError for one that changes others, too."""
    kind = view.kind(key)
    if kind == "ReplaceVideoLatentFrames" and view.value(key, "index") != 0:
        raise refusal(
            view,
            "latents are changed before they are decoded",
            key,
            "it changes latents in the middle of each clip; bypass it first",
        )
    if kind != "TrimVideoLatent":
        return kind in AT_THE_BEGINNING
    origin = view.origin(key, "trim_amount")
    # WanVaceToVideo and its like give the number of latents of the reference picture: none without one.
    if view.value(key, "trim_amount") == 0 or (
        origin is not None and not {"reference_image", "ref_image"} & view.origins(origin.key).keys()
    ):
        return False
    if origin is None or view.kind(origin.key) not in WITH_REFERENCE:
        raise refusal(
            view,
            "a reference picture is part of each clip's latents",
            key,
            "it cuts off latents, which a clip cannot hand on to the next; expected that of a reference picture, by "
            f"{', '.join(WITH_REFERENCE)}; take the picture out first",
        )
    return True


def _without_sampler(view: View, saver: Key) -> WorkflowError:
    """The error for a video that no sampler of the workflow makes: it names the node that does."""
    _check_short(view, [*view.behind(saver)])
    maker, name = saver, "video"
    while (origin := view.origin(maker, name) or view.origin(maker, "images")) is not None:
        maker, name = origin.key, "images"
    for key in (saver, *view.behind(saver)):
        for each in view.gaps(key):
            if each in ("video", "images", "image", "samples"):
                return unconnected(view, key, each)
    _check_group(view, [*view.behind(saver)])
    if maker == saver:
        return unconnected(view, saver, "video" if view.kind(saver) == "SaveVideo" else "images")
    return WorkflowError(
        "no sampler makes the video",
        f"{view.label(maker)} is in the way: the video of {view.label(saver)} comes from it, not from a sampler "
        f"({', '.join(SAMPLERS)}) and a decoder ({', '.join(DECODERS)})",
    )


def _check_group(view: View, keys: Sequence[Key]) -> None:
    """Raise WorkflowError for a group node, by which older pages put several nodes into one."""
    for key in keys:
        if view.kind(key).startswith(("workflow>", "workflow/")):
            why = (
                "it is a group node, which is not looked into; open the workflow in a newer page, which makes a "
                "subgraph of it, or choose Convert to Nodes in its menu, and save it again"
            )
            raise refusal(view, "a group node", key, why)


def _check_short(view: View, keys: Sequence[Key]) -> None:
    """Raise WorkflowError if a node of this pack writes a long video already."""
    for key in keys:
        if view.kind(key) in WRITERS:
            raise refusal(
                view, "it is long already", key, "it writes a long video already; run this on the original workflow"
            )


def _pictures(view: View, chain: Chain) -> list[Key]:
    """The nodes that load or make what each clip depends on: not where only the size counts, or the first clip."""
    found: list[Key] = []
    waiting, seen = list(chain.samplers), set(chain.samplers)
    while waiting:
        key = waiting.pop(0)
        found += [key] if view.kind(key) in (*PICTURES, *DECODERS) else []
        if view.kind(key) in ("GetImageSize", *DECODERS):
            continue
        for name, origin in view.origins(key).items():
            if key in (*chain.beginnings, *chain.endings) and name in ("image", "start_image"):
                continue
            if origin.key not in seen:
                seen.add(origin.key)
                waiting.append(origin.key)
    return found


def _check_uses(view: View, chain: Chain, chains: dict[Key, Chain]) -> None:
    """Raise WorkflowError if a subgraph of the sampler has another use, whose video is not saved now."""
    ours = chain.sampler
    for key in view.keys:
        if key not in chains and key[-1] == ours[-1] and view.graph(key) is view.graph(ours):
            place = next(place for place, (one, other) in enumerate(zip(ours, key, strict=False)) if one != other)
            use, other = key[: place + 1], ours[: place + 1]
            raise refusal(
                view,
                "a subgraph with another use",
                use,
                f"it uses the same subgraph as {view.label(other)}, and would write its video, too, which nothing "
                "saves now; mute or delete it, or unpack it (Unpack Subgraph)",
            )


def _check(view: View, chain: Chain, chains: dict[Key, Chain]) -> None:
    """Raise WorkflowError if the clips of a chain cannot be extended; find its earlier passes."""
    for key in view.ahead(chain.sampler):
        if view.kind(key) == "EndLoop":
            raise refusal(
                view, "a loop", key, "the workflow makes its clips in a loop already; take it out of the loop"
            )
    through_latents = list(view.behind(chain.sampler, lambda key: view.kind(key) in DECODERS))
    for key in view.behind(chain.sampler):
        if key in chains and key in through_latents:
            decoders = [each.key for each in chains[key].decoders]
            ahead = [to for each in decoders for to in view.ahead(each, lambda key: view.kind(key) in SAMPLERS)]
            saver = next(to for to in ahead if view.kind(to) in SAVERS)
            raise refusal(
                view,
                "an earlier pass is saved, too",
                saver,
                f"it saves what {view.label(key)} makes, of which {view.label(chain.sampler)} makes the next pass; "
                "bypass or delete it, and keep the video of the last pass",
            )
        if key in chains:
            raise refusal(
                view,
                "the workflow makes several clips itself",
                chain.sampler,
                f"it continues frames of {view.label(key)}, so the workflow makes several clips already; keep the "
                "first sampler alone",
            )
    for decoder in chain.decoders:
        check_connected(view, decoder.key)
    if chain.sound and view.consumers(chain.sound):
        check_connected(view, chain.sound)
    passed = [view.kind(key) for decoder in chain.decoders for key in decoder.passed]
    chain.holds_sound = "LTXVSeparateAVLatent" in passed
    chain.first_expert = first_expert(view, chain.sampler)
    sampler: Key | None = chain.sampler
    while sampler is not None:
        earlier = _check_pass(view, chain, sampler)
        chain.passes[:0] = [] if earlier is None else [earlier]
        sampler = earlier


def _check_pass(view: View, chain: Chain, sampler: Key) -> Key | None:
    """Raise WorkflowError if a sampler's clips cannot be extended; find the sampler of the pass before it, if any."""
    expert = chain.first_expert if sampler == chain.sampler else None
    check_given(view, expert or sampler, TAKEN.get(view.kind(sampler), ()))
    check_connected(view, sampler)
    if expert:
        check_connected(view, expert)
        check_switch(view, expert, sampler)
    start = view.origin(expert or sampler, "latent_image")
    if start is None:
        raise unconnected(view, expert or sampler, "latent_image")
    makers = [start.key]
    if view.kind(start.key) not in (*DECODERS, *SAMPLERS):
        makers += view.behind(start.key, lambda key: view.kind(key) in (*DECODERS, *SAMPLERS))
    chain.holds_sound |= sampler == chain.sampler and any(view.kind(key) in _MAKES_SOUND for key in makers)
    for key in makers:
        for name in view.gaps(key):
            if "latent" in name or name == "samples":
                raise unconnected(view, key, name)
        if view.kind(key) in _GUIDES:
            _check_guide(view, chain, sampler, key)
        if view.kind(key) in _ENCODED_SOUND:
            raise refusal(
                view,
                "given sound is part of each clip's latents",
                key,
                "it gives each clip the same sound, which would begin anew in each; take it out, or make the clips "
                "one by one, each with its part of the sound",
            )
    before = [key for key in makers if view.kind(key) in SAMPLERS]
    if before:
        _check_passes(view, sampler, before, makers)
    if not expert:
        if view.kind(sampler) in K_SAMPLERS:
            check_steps(view, sampler)
        else:
            check_custom(view, sampler, bool(before))
    kinds = ({*BEGINNINGS, *WITHOUT}) - {"LTXVAddGuide"}
    chain.beginnings += [key for key in makers if view.kind(key) in kinds and key[:-1] == sampler[:-1]]
    return before[0] if before else None


def _check_guide(view: View, chain: Chain, sampler: Key, key: Key) -> None:
    """Tell which clips a node of guide frames is for. Raises WorkflowError for a film, and for several pictures."""
    reason = "guide frames are part of each clip's latents"
    if view.kind(key) != "LTXVAddGuide":
        raise refusal(
            view, reason, key, "it adds several pictures to each clip; take one LTXVAddGuide for each picture"
        )
    image = view.origin(key, "image")
    behind = [] if image is None else [image.key, *view.behind(image.key)]
    if any(view.kind(each) in _FILMS for each in behind):
        raise refusal(
            view,
            reason,
            key,
            "it guides each clip by the same film, frame by frame; make the clips one by one, each with its part of "
            "the film",
        )
    if view.origin(key, "iclora_parameters") is not None:
        return  # a reference for a LoRA that goes with each clip
    place = view.value(key, "frame_idx")
    if not isinstance(place, int):
        raise refusal(view, reason, key, "the place of its picture is not known; set frame_idx to a number")
    same_graph(view, sampler, key)
    (chain.beginnings if place >= 0 else chain.endings).append(key)


def _check_passes(view: View, sampler: Key, before: list[Key], makers: list[Key]) -> None:
    """Raise WorkflowError unless a sampler adds noise to the latents of one other, by nodes that can be copied."""
    upscaled = any("psampl" in view.kind(each) or "pscale" in view.kind(each) for each in makers)
    reason = "a second pass after an upscaler" if upscaled else "two samplers in a row"
    noise = view.origin(sampler, "noise")
    fresh = view.kind(sampler) not in K_SAMPLERS and (
        view.value(sampler, "add_noise") is not False
        if view.kind(sampler) == "SamplerCustom"
        else noise is not None and view.kind(noise.key) == "RandomNoise"
    )
    differing = differences(view, sampler)
    if len(before) > 1 or not fresh:
        raise refusal(
            view,
            reason,
            sampler,
            f"it goes on with the latents of {view.label(before[0])}; only a video of one sampler can be extended, "
            "or of several that are SamplerCustomAdvanced and add noise each"
            + (f"; two experts would need the same {differing}" if differing else ""),
        )
    after, behind = set(view.ahead(before[0])), set(view.behind(sampler))
    for key in makers:
        if key not in before and key in after and view.kind(key) not in _BETWEEN:
            raise refusal(
                view, reason, key, f"it changes the latents between two passes; expected {', '.join(_BETWEEN)}"
            )
    same_graph(view, sampler, before[0])
    for key in after & behind:
        if view.kind(key) in DECODERS:
            raise refusal(view, reason, key, f"{view.label(sampler)} depends on what it decodes")
        if key[: len(sampler) - 1] != sampler[:-1]:
            same_graph(view, sampler, key)
        upscaler = view.origin(key, "upscale_model")
        if upscaler is not None and "temporal" in str(view.value(upscaler.key, "model_name")):
            raise refusal(
                view, reason, key, "it changes the number of frames between two passes; take an upscaler of pixels"
            )


def check_together(view: View, chain: Chain) -> None:
    """Raise WorkflowError unless the sampler and the decoders of a chain are in one graph."""
    for decoder in chain.decoders:
        for key in (decoder.key, *decoder.passed):
            same_graph(view, chain.sampler, key)
    for key in (*([chain.sound] if chain.sound else []), *chain.passed_to_sound):
        same_graph(view, chain.sampler, key)


def prompt_encoder(view: View, chain: Chain) -> Key:
    """The node that encodes the prompt of a chain.

    Args:
        view: The workflow.
        chain: Its samplers.

    Returns:
        A CLIPTextEncode in the same graph.

    Raises:
        WorkflowError: The positive conditioning is not plainly from one, or not from the same one in all passes.
    """
    encoder, *others = [_encoder_of(view, sampler) for sampler in chain.samplers]
    for other in others:
        if other != encoder:
            raise WorkflowError(
                "",
                f"{view.label(other)} is in the way of --prompt: expected one CLIPTextEncode for all passes; leave "
                "--prompt out to keep the workflow's conditioning for all clips",
            )
    return encoder


def _encoder_of(view: View, sampler: Key) -> Key:
    """The CLIPTextEncode of a sampler's positive conditioning. Raises WorkflowError."""
    at, name = sampler, "positive"
    if view.kind(at) == "SamplerCustomAdvanced":
        guider = view.origin(at, "guider")
        assert guider is not None
        at = guider.key
        if view.kind(at) not in _GUIDERS:
            raise WorkflowError(
                "", f"{view.label(at)} is in the way of --prompt: expected one of {', '.join(_GUIDERS)}"
            )
        same_graph(view, sampler, at)
        name = _GUIDERS[view.kind(at)]
    origin = view.origin(at, name)
    while origin is not None and view.kind(origin.key) in _CONDITIONERS:
        at, name = origin.key, "positive"
        same_graph(view, sampler, at)
        origin = view.origin(at, name)
    if origin is None or view.kind(origin.key) != "CLIPTextEncode":
        where = view.label(at if origin is None else origin.key)
        raise WorkflowError(
            "",
            f"{where} is in the way of --prompt: expected CLIPTextEncode at {name} of {view.label(at)}; leave "
            "--prompt out to keep the workflow's conditioning for all clips",
        )
    same_graph(view, sampler, origin.key)
    check_connected(view, origin.key)
    return origin.key
