"""What samplers are set to: a clip needs all steps, from noise, and settings that are known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidrd_core.comfy.definitions import MAX_STEPS
from vidrd_core.comfy.view import Key, View, refusal, same_graph, unconnected

_PARTS_OF_SIGMAS = ("SplitSigmas", "SplitSigmasDenoise", "SetFirstSigma", "FlipSigmas")
_OWN_LOOPS = {  # samplers that take frames a few at a time, or change their size
    "SamplerARVideo": "samples a few frames at a time",
    "SamplerLCMUpscale": "changes the size of the latents",
    "VOIDSampler": "scales its noise in its own way",
}
_SETTINGS = ("steps", "cfg", "sampler_name", "scheduler")
TAKEN = {  # the widgets of samplers that clips take over
    "KSampler": ("seed", *_SETTINGS),
    "KSamplerAdvanced": ("noise_seed", *_SETTINGS),
    "SamplerCustom": ("noise_seed", "cfg"),
}
_CONNECTED = {
    **dict.fromkeys((*TAKEN, "CFGGuider", "LTXVDualCFGGuider"), ("model", "positive", "negative")),
    "BasicGuider": ("model", "conditioning"),
    "CLIPTextEncode": ("clip",),
    **dict.fromkeys(("VAEDecode", "VAEDecodeTiled", "VAEDecodeAudio", "VAEDecodeAudioTiled"), ("vae",)),
    "LTXVAudioVAEDecode": ("audio_vae",),
}


def check_connected(view: View, key: Key) -> None:
    """Check that a node is connected to what clips take over from it.

    Args:
        view: The workflow.
        key: A sampler, guider, decoder or encoder.

    Raises:
        WorkflowError: An input gets nothing; the message tells why, and names a node that is missing or muted.
    """
    for name in _CONNECTED.get(view.kind(key), ()):
        if view.origin(key, name) is None:
            raise unconnected(view, key, name)


def first_expert(view: View, sampler: Key) -> Key | None:
    """The KSampler (Advanced) that takes the first steps of a clip, of which another one takes the others.

    Args:
        view: The workflow.
        sampler: The other one.

    Returns:
        The sampler of the first steps; None if there is none.
    """
    first = _of_the_first_steps(view, sampler)
    return None if first is None or _differing(view, first, sampler) else first


def check_switch(view: View, first: Key, sampler: Key) -> None:
    """Check that each of two experts takes some of the steps.

    Args:
        view: The workflow.
        first: The sampler of the first steps.
        sampler: The other one.

    Raises:
        WorkflowError: One takes none.
    """
    at, steps = view.value(first, "end_at_step"), _number(view.value(first, "steps"), MAX_STEPS)
    if isinstance(at, int | float) and not 0 < at < steps:
        idle, other = (first, sampler) if at <= 0 else (sampler, first)
        raise refusal(
            view,
            "a part of the steps",
            idle,
            f"it takes no steps, as end_at_step of {view.label(first)} is {at}, expected 1 to {steps - 1:g}; set it "
            f"and start_at_step of the other, or let {view.label(other)} take all steps alone",
        )


def dropped_seed(view: View, first: Key, sampler: Key) -> str:
    """A line on the seed of the second of two experts, which clips do without; "" where it changes nothing.

    Args:
        view: The workflow.
        first: The sampler of the first steps.
        sampler: The other one.

    Returns:
        The line.
    """
    name, ours, theirs = (view.value(key, each) for key, each in (
        (first, "sampler_name"), (first, "noise_seed"), (sampler, "noise_seed")))  # fmt: skip
    adds = any(part in str(name) for part in ("ancestral", "sde", "lcm", "seeds", "sa_solver", "ddpm"))
    if not adds or theirs is None or ours == theirs:
        return ""
    return (
        f"the noise that {name} adds in the last steps is of the seed of {view.label(first)}, not of "
        f"{view.label(sampler)} ({theirs})"
    )


def differences(view: View, sampler: Key) -> str:
    """How a KSampler (Advanced) differs from the one of the first steps before it, which makes them no two experts.

    Args:
        view: The workflow.
        sampler: The sampler of the last steps.

    Returns:
        What differs, in words; "" without such a pair.
    """
    first = _of_the_first_steps(view, sampler)
    parts: list[str] = []
    if first is None:
        return ""
    for name in _differing(view, first, sampler):
        other = "end_at_step" if name == "start_at_step" else name
        values = view.value(sampler, name), view.value(first, other)
        parts.append(name if None in values else f"{name} ({values[0]}; {other} of the first is {values[1]})")
    return ", ".join(parts)


def _of_the_first_steps(view: View, sampler: Key) -> Key | None:
    """The KSampler (Advanced) that takes the first steps for another one, which takes all others."""
    origin = view.origin(sampler, "latent_image")
    if origin is None or {view.kind(sampler), view.kind(origin.key)} != {"KSamplerAdvanced"}:
        return None
    first = origin.key
    if first[:-1] != sampler[:-1] or any(to != sampler for to, _ in view.consumers(first)):
        return None
    whole = (
        view.value(first, "add_noise") == "enable"
        and view.value(sampler, "add_noise") == "disable"
        and view.value(first, "return_with_leftover_noise") == "enable"
        and _number(view.value(first, "start_at_step"), 0) == 0
        and _number(view.value(sampler, "end_at_step"), 10000) >= _number(view.value(sampler, "steps"), 0)
    )
    return first if whole else None


def _differing(view: View, first: Key, sampler: Key) -> list[str]:
    """The inputs of the second sampler that are not what they would have to be."""

    def same(name: str, other: str) -> bool:
        one, two = view.value(first, other), view.value(sampler, name)
        return one == two and (one is not None or view.origin(first, other) == view.origin(sampler, name))

    names = ("steps", "cfg", "sampler_name", "scheduler", "positive", "negative")
    found = [name for name in names if not same(name, name)]
    return found + ([] if same("start_at_step", "end_at_step") else ["start_at_step"])


def _number(value: Any, otherwise: float) -> float:
    """The value of a widget; another one where it is not known."""
    return value if isinstance(value, int | float) else otherwise


def _check_known(view: View, key: Key, names: Sequence[str]) -> None:
    """Raise WorkflowError unless the values of widgets are known, also where nodes set them."""
    for name in names:
        if view.value(key, name) is None and name in view.graph(key).linked(key[-1]):
            origin = view.origin(key, name)
            if origin is None:
                raise unconnected(view, key, name)
            maker = view.label(origin.key)
            raise refusal(
                view,
                "a setting is not known",
                key,
                f"{maker} sets its {name} when the workflow runs; set it to a number or word of its own first",
            )


def check_given(view: View, key: Key, names: Sequence[str]) -> None:
    """Check that widgets have values, and those that clips can have.

    Args:
        view: The workflow.
        key: The node.
        names: The widgets.

    Raises:
        WorkflowError: They have not.
    """
    for name in names:
        value = view.value(key, name)
        linked = name in view.graph(key).linked(key[-1])
        if value is None and linked and view.origin(key, name) is None:
            raise unconnected(view, key, name)
        if value is None and not linked:
            raise refusal(
                view,
                "a setting is missing",
                key,
                f"the file has no value of its {name}; open the workflow in ComfyUI's page and save it again",
            )
        if name == "steps" and _number(value, 1) > MAX_STEPS:
            raise refusal(
                view, "too many steps", key, f"it takes {value} steps, expected 1 to {MAX_STEPS}; set fewer first"
            )


def check_steps(view: View, sampler: Key) -> None:
    """Check that a KSampler takes all steps from noise.

    Args:
        view: The workflow.
        sampler: The sampler.

    Raises:
        WorkflowError: It does not.
    """
    advanced = view.kind(sampler) == "KSamplerAdvanced"
    parts = ("add_noise", "start_at_step", "end_at_step", "return_with_leftover_noise")
    _check_known(view, sampler, parts if advanced else ["denoise"])
    given = {name: view.value(sampler, name) for name in ("denoise", *parts, "steps")}
    if _number(given["denoise"], 1) < 1:
        raise refusal(
            view, "denoise is below 1", sampler, f"its denoise is {given['denoise']:g}, expected 1; set that first"
        )
    if not advanced:
        return
    if _number(given["end_at_step"], 10000) < 10000:
        _check_known(view, sampler, ["steps"])
    part = _number(given["start_at_step"], 0) > 0 or _number(given["end_at_step"], 10000) < _number(given["steps"], 0)
    if part or given["add_noise"] == "disable" or given["return_with_leftover_noise"] == "enable":
        raise refusal(
            view,
            "a part of the steps",
            sampler,
            "it takes a part of the steps only; expected all, with noise added to them",
        )


def check_custom(view: View, sampler: Key, later: bool) -> None:
    """Check that a custom sampler takes all steps from new noise.

    Args:
        view: The workflow.
        sampler: The sampler.
        later: Whether it makes a later pass, which may take the last steps alone.

    Raises:
        WorkflowError: It does not.
    """
    if view.kind(sampler) == "SamplerCustom":
        _check_known(view, sampler, ["add_noise"])
        if view.value(sampler, "add_noise") is False:
            raise refusal(view, "no noise is added", sampler, "its add_noise is off; switch it on first")
    else:
        noise, guider = view.origin(sampler, "noise"), view.origin(sampler, "guider")
        if noise is None:
            raise unconnected(view, sampler, "noise")
        if view.kind(noise.key) != "RandomNoise":
            why = "clips take their noise from each other; expected RandomNoise"
            raise refusal(view, "noise of another kind", noise.key, why)
        same_graph(view, sampler, noise.key)
        check_given(view, noise.key, ["noise_seed"])
        if guider is None:
            raise unconnected(view, sampler, "guider")
        check_connected(view, guider.key)
    for name in ("sampler", "sigmas"):
        origin = view.origin(sampler, name)
        if origin is None:
            raise unconnected(view, sampler, name)
        kind = view.kind(origin.key)
        if kind in _OWN_LOOPS:
            why = f"it {_OWN_LOOPS[kind]}; take KSamplerSelect"
            raise refusal(view, "a sampler with rules of its own", origin.key, why)
        if later:
            continue
        for key in [origin.key, *view.behind(origin.key)]:
            if name == "sigmas" and view.kind(key) in _PARTS_OF_SIGMAS:
                why = "a clip needs all sigmas; connect the whole schedule"
                raise refusal(view, "a part of the steps", key, why)
            if name == "sigmas":
                _check_known(view, key, ["denoise"])
            if name == "sigmas" and _number(view.value(key, "denoise"), 1) < 1:
                raise refusal(view, "denoise is below 1", key, "its denoise is below 1; set it to 1 first")
