"""Finds what makes the video in a workflow: the sampler, its decoders, and the nodes that save the frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.view import Key, Output, View

K_SAMPLERS = ("KSampler", "KSamplerAdvanced")
SAMPLERS = (*K_SAMPLERS, "SamplerCustom", "SamplerCustomAdvanced")
DECODERS = ("VAEDecode", "VAEDecodeTiled")
SOUND_DECODERS = {"VAEDecodeAudio": "vae", "VAEDecodeAudioTiled": "vae", "LTXVAudioVAEDecode": "audio_vae"}
RATES = {"CreateVideo": "fps", "SaveWEBM": "fps", "SaveAnimatedWEBP": "fps", "VHS_VideoCombine": "frame_rate"}
SAVERS = ("SaveVideo", "SaveWEBM", "SaveAnimatedWEBP", "VHS_VideoCombine")
PICTURES = ("LoadImage", "LoadVideo", "LoadImageMask", "LoadAudio", "VHS_LoadVideo", "VHS_LoadVideoPath")
# Nodes between a sampler and a decoder that leave a clip's latents as they are, with the input that they pass on.
_PASSED = {"LTXVSeparateAVLatent": "av_latent", "LTXVCropGuides": "latent", "TrimVideoLatent": "samples"}
_GUIDES = ("LTXVAddGuide", "LTXVAddGuideMulti", "MiniMaxH3AddGuide")
_PARTS_OF_SIGMAS = ("SplitSigmas", "SplitSigmasDenoise", "SetFirstSigma", "FlipSigmas")
_OWN_LOOPS = {  # samplers that take frames a few at a time, or change their size
    "SamplerARVideo": "samples a few frames at a time",
    "SamplerLCMUpscale": "changes the size of the latents",
    "VOIDSampler": "scales its noise in its own way",
}
_GUIDERS = {"CFGGuider": "positive", "BasicGuider": "conditioning", "LTXVDualCFGGuider": "positive"}


@dataclass
class Decoder:
    """A decoder of a sampler's video.

    Args:
        key: The node.
        passed: The nodes between it and the sampler, from the decoder on.
    """

    key: Key
    passed: list[Key]


@dataclass
class Chain:
    """A sampler of clips, and what decodes them.

    Args:
        sampler: The sampler.
        decoders: Its decoders whose frames are saved as a video.
        sound: The decoder of its sound, if there is any.
        passed_to_sound: The nodes between that and the sampler.
        pictures: Nodes that load pictures, films or sound on which each clip depends.
        first_expert: The sampler of the first steps, if another model takes those (Wan 2.2).
    """

    sampler: Key
    decoders: list[Decoder] = field(default_factory=list)
    sound: Key | None = None
    passed_to_sound: list[Key] = field(default_factory=list)
    pictures: list[Key] = field(default_factory=list)
    first_expert: Key | None = None


def find_chains(view: View) -> list[Chain]:
    """The samplers whose frames a workflow saves as videos.

    Args:
        view: The workflow.

    Returns:
        The chains; one in most workflows.

    Raises:
        WorkflowError: There is none, or one cannot be extended; the message names the node in the way.
    """
    savers = [key for key in view.keys if view.kind(key) in SAVERS]
    if not savers:
        raise WorkflowError("no video is saved", f"no node saves a video: expected one of {', '.join(SAVERS)}")
    chains: dict[Key, Chain] = {}
    for decoder in [key for key in view.keys if view.kind(key) in DECODERS]:
        if not any(_is_saved(view, key) for key in view.ahead(decoder, lambda key: view.kind(key) in SAMPLERS)):
            continue
        sampler, passed = _trace(view, decoder)
        chains.setdefault(sampler, Chain(sampler)).decoders.append(Decoder(decoder, passed))
    if not chains:
        raise _without_sampler(view, savers[0])
    for sound in [key for key in view.keys if view.kind(key) in SOUND_DECODERS]:
        found = _follow(view, view.origin(sound, "samples"))
        if found is not None and found[0] in chains:
            chains[found[0]].sound, chains[found[0]].passed_to_sound = sound, found[1]
    for chain in chains.values():
        _check(view, chain, chains.keys() - {chain.sampler})
        behind = view.behind(chain.sampler)
        chain.pictures = [key for key in behind if view.kind(key) in PICTURES]
    return list(chains.values())


def _is_saved(view: View, key: Key) -> bool:
    """Whether a node joins frames to a video that is saved."""
    kind = view.kind(key)
    return kind in RATES and (kind in SAVERS or any(view.kind(each) in SAVERS for each in view.ahead(key)))


def _follow(view: View, origin: Output | None) -> tuple[Key, list[Key]] | None:
    """From an input to the node that makes the latents, and the nodes of `_PASSED` between; None at an open end."""
    passed: list[Key] = []
    while origin is not None and view.kind(origin.key) in _PASSED:
        passed.append(origin.key)
        origin = view.origin(origin.key, _PASSED[view.kind(origin.key)])
    return None if origin is None else (origin.key, passed)


def _trace(view: View, decoder: Key) -> tuple[Key, list[Key]]:
    """The sampler of a decoder's latents, and the nodes between. Raises WorkflowError for others in the way."""
    found = _follow(view, view.origin(decoder, "samples"))
    if found is None:
        raise WorkflowError("not connected", f"{view.label(decoder)} gets no latents: connect its input samples")
    maker, passed = found
    if view.kind(maker) not in SAMPLERS:
        if any(view.kind(key) in SAMPLERS for key in view.behind(maker, lambda key: view.kind(key) in DECODERS)):
            raise WorkflowError(
                "latents are changed before they are decoded",
                f"{view.label(maker)} is in the way: it changes the latents between the sampler and "
                f"{view.label(decoder)}, which would have to happen to each clip; bypass it first",
            )
        raise WorkflowError(
            "not from a sampler",
            f"{view.label(decoder)} decodes latents of {view.label(maker)}, expected those of a sampler: "
            f"{', '.join(SAMPLERS)}",
        )
    for key in passed:
        _check_passed(view, key)
    return maker, passed


def _check_passed(view: View, key: Key) -> None:
    """Raise WorkflowError if a node cuts frames of each clip away."""
    if view.kind(key) != "TrimVideoLatent" or view.value(key, "trim_amount") == 0:
        return
    origin = view.origin(key, "trim_amount")
    # WanVaceToVideo and its like give the number of latents of the reference picture: none without one.
    if origin is not None and not {"reference_image", "ref_image"} & view.origins(origin.key).keys():
        return
    raise WorkflowError(
        "a reference picture is part of each clip's latents",
        f"{view.label(key)} is in the way: it cuts off the latents of a reference picture, which a clip cannot hand "
        "on to the next; take the reference picture out first",
    )


def _without_sampler(view: View, saver: Key) -> WorkflowError:
    """The error for a video that no sampler of the workflow makes: it names the node that does."""
    maker, name = saver, "video"
    while (origin := view.origin(maker, name) or view.origin(maker, "images")) is not None:
        maker, name = origin.key, "images"
    if maker == saver:
        return WorkflowError("not connected", f"{view.label(saver)} gets no video: connect it")
    return WorkflowError(
        "no sampler makes the video",
        f"{view.label(maker)} is in the way: the video of {view.label(saver)} comes from it, not from a sampler "
        f"({', '.join(SAMPLERS)}) and a decoder ({', '.join(DECODERS)})",
    )


def _check(view: View, chain: Chain, others: set[Key]) -> None:
    """Raise WorkflowError if the clips of a chain cannot be extended."""
    sampler, kind = chain.sampler, view.kind(chain.sampler)

    def refuse(reason: str, key: Key, why: str) -> WorkflowError:
        return WorkflowError(reason, f"{view.label(key)} is in the way: {why}")

    for key in view.ahead(sampler):
        if view.kind(key) == "EndLoop":
            raise refuse("a loop", key, "the workflow makes its clips in a loop already; take it out of the loop")
    for key in view.behind(sampler):
        if key in others:
            raise refuse(
                "the workflow makes several clips itself",
                sampler,
                f"it continues frames of {view.label(key)}, so the workflow makes several clips already; keep the "
                "first sampler alone",
            )
    chain.first_expert = _first_expert(view, sampler)
    start = view.origin(chain.first_expert or sampler, "latent_image")
    if start is None:
        raise refuse("not connected", sampler, "its input latent_image is not connected; connect an empty latent")
    makers = [start.key, *view.behind(start.key, lambda key: view.kind(key) in DECODERS)]
    if view.kind(start.key) in DECODERS:
        makers = makers[:1]
    for key in makers:
        if view.kind(key) in SAMPLERS:  # two models in turn, or a second pass: each needs a state of its own
            upscaled = any("psampl" in view.kind(each) or "pscale" in view.kind(each) for each in makers)
            raise refuse(
                "a second pass after an upscaler" if upscaled else "two samplers in a row",
                sampler,
                f"it goes on with the latents of {view.label(key)}; only a video of one sampler can be extended",
            )
        if view.kind(key) in _GUIDES:
            raise refuse(
                "guide frames are part of each clip's latents",
                key,
                "it adds guide frames to the latents of a clip, which would come in the middle of the long video; "
                "bypass it first",
            )
    if chain.first_expert:
        return
    if kind in K_SAMPLERS:
        _check_steps(view, sampler, refuse)
    else:
        _check_custom(view, sampler, refuse)


def _first_expert(view: View, sampler: Key) -> Key | None:
    """The KSampler (Advanced) that takes the first steps of a clip, of which `sampler` takes the others."""
    origin = view.origin(sampler, "latent_image")
    if origin is None or {view.kind(sampler), view.kind(origin.key)} != {"KSamplerAdvanced"}:
        return None
    first = origin.key
    if first[:-1] != sampler[:-1] or any(to != sampler for to, _ in view.consumers(first)):
        return None

    def same(name: str, other: str) -> bool:
        one, two = view.value(first, name), view.value(sampler, other)
        return one == two and (one is not None or view.origin(first, name) == view.origin(sampler, other))

    whole = (
        view.value(first, "add_noise") == "enable"
        and view.value(sampler, "add_noise") == "disable"
        and view.value(first, "return_with_leftover_noise") == "enable"
        and _number(view.value(first, "start_at_step"), 0) == 0
        and _number(view.value(sampler, "end_at_step"), 10000) >= _number(view.value(sampler, "steps"), 0)
    )
    names = ("steps", "cfg", "sampler_name", "scheduler", "positive", "negative")
    alike = all(same(name, name) for name in names) and same("end_at_step", "start_at_step")
    return first if whole and alike else None


def _number(value: Any, otherwise: float) -> float:
    """The value of a widget; another one where it is not known."""
    return value if isinstance(value, int | float) else otherwise


def _check_steps(view: View, sampler: Key, refuse: Any) -> None:
    """Raise WorkflowError unless a KSampler takes all steps from noise."""
    given = {
        name: view.value(sampler, name)
        for name in ("denoise", "add_noise", "start_at_step", "end_at_step", "return_with_leftover_noise", "steps")
    }
    if (given["denoise"] or 1) < 1:
        raise refuse(
            "denoise is below 1", sampler, f"its denoise is {given['denoise']:g}, expected 1; set that first"
        )
    if view.kind(sampler) != "KSamplerAdvanced":
        return
    part = _number(given["start_at_step"], 0) > 0 or _number(given["end_at_step"], 10000) < _number(given["steps"], 0)
    if part or given["add_noise"] == "disable" or given["return_with_leftover_noise"] == "enable":
        raise refuse(
            "a part of the steps",
            sampler,
            "it takes a part of the steps only; expected all, with noise added to them",
        )


def _check_custom(view: View, sampler: Key, refuse: Any) -> None:
    """Raise WorkflowError unless the parts of a custom sampler take all steps from new noise."""
    if view.kind(sampler) == "SamplerCustom":
        if view.value(sampler, "add_noise") is False:
            raise refuse("no noise is added", sampler, "its add_noise is off; switch it on first")
    else:
        noise = view.origin(sampler, "noise")
        if noise is None or view.kind(noise.key) != "RandomNoise":
            raise refuse(
                "noise of another kind",
                sampler if noise is None else noise.key,
                "clips take their noise from each other; expected RandomNoise",
            )
        _same_graph(view, sampler, noise.key)
        if view.origin(sampler, "guider") is None:
            raise refuse("not connected", sampler, "its input guider is not connected; connect a guider")
    for name in ("sampler", "sigmas"):
        origin = view.origin(sampler, name)
        if origin is None:
            raise refuse("not connected", sampler, f"its input {name} is not connected; connect it")
        kind = view.kind(origin.key)
        if kind in _OWN_LOOPS:
            raise refuse("a sampler with rules of its own", origin.key, f"it {_OWN_LOOPS[kind]}; take KSamplerSelect")
        for key in [origin.key, *view.behind(origin.key)]:
            if name == "sigmas" and view.kind(key) in _PARTS_OF_SIGMAS:
                raise refuse("a part of the steps", key, "a clip needs all sigmas; connect the whole schedule")
            if view.kind(key) == "BasicScheduler" and _number(view.value(key, "denoise"), 1) < 1:
                raise refuse("denoise is below 1", key, "its denoise is below 1; set it to 1 first")


def _same_graph(view: View, one: Key, other: Key) -> None:
    """Raise WorkflowError unless both nodes are in the same graph."""
    if one[:-1] != other[:-1]:
        raise WorkflowError(
            "parts in several subgraphs",
            f"{view.label(other)} is in the way: it is in another subgraph than {view.label(one)}; put both into one",
        )


def check_together(view: View, chain: Chain) -> None:
    """Raise WorkflowError unless the sampler and the decoders of a chain are in one graph."""
    for decoder in chain.decoders:
        for key in (decoder.key, *decoder.passed):
            _same_graph(view, chain.sampler, key)
    for key in (*([chain.sound] if chain.sound else []), *chain.passed_to_sound):
        _same_graph(view, chain.sampler, key)


def prompt_encoder(view: View, chain: Chain) -> Key:
    """The node that encodes the prompt of a chain.

    Args:
        view: The workflow.
        chain: Its sampler.

    Returns:
        A CLIPTextEncode in the same graph.

    Raises:
        WorkflowError: The positive conditioning is not plainly from one.
    """
    at, name = chain.sampler, "positive"
    if view.kind(at) == "SamplerCustomAdvanced":
        guider = view.origin(at, "guider")
        assert guider is not None
        at = guider.key
        if view.kind(at) not in _GUIDERS:
            raise WorkflowError(
                "", f"{view.label(at)} is in the way of --prompt: expected one of {', '.join(_GUIDERS)}"
            )
        _same_graph(view, chain.sampler, at)
        name = _GUIDERS[view.kind(at)]
    origin = view.origin(at, name)
    if origin is None or view.kind(origin.key) != "CLIPTextEncode":
        where = view.label(at if origin is None else origin.key)
        raise WorkflowError(
            "",
            f"{where} is in the way of --prompt: expected CLIPTextEncode at {name} of {view.label(at)}; leave "
            "--prompt out to keep the workflow's conditioning for all clips",
        )
    _same_graph(view, chain.sampler, origin.key)
    return origin.key


def guider_input(kind: str) -> str:
    """The input of a guider that takes the prompt."""
    return _GUIDERS[kind]
