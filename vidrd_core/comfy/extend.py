"""Rewrites a workflow of one clip into one of many clips, by the nodes of this pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vidrd_core.comfy.chains import (
    K_SAMPLERS,
    RATES,
    SOUND_DECODERS,
    Chain,
    Decoder,
    check_together,
    find_chains,
    guider_input,
    prompt_encoder,
)
from vidrd_core.comfy.definitions import SEED_CONTROL
from vidrd_core.comfy.graphs import OUTPUTS, Connected, Graph, NodeId, Source, Target
from vidrd_core.comfy.page import PageGraph, height_of
from vidrd_core.comfy.view import Key, View
from vidrd_core.comfy.workflow import Workflow

MAX_CLIPS = 100  # ComfyUI checks a chain of nodes by recursion, which Python limits
_FORMATS = {"SaveWEBM": "webm", "SaveAnimatedWEBP": "webp"}
_GAP = 70  # pixels between added nodes, with room for a title


@dataclass
class Extended:
    """What became of a workflow.

    Args:
        samplers: The samplers that make clips now, in words.
        notes: What a user should know of the result, a line each.
    """

    samplers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Clip:
    """Outputs of the nodes that make one clip."""

    new: Source
    whole: Source
    state: Source


@dataclass
class _Video:
    """How a decoder's frames become a file.

    Args:
        fps: Frames per second, as a value or a connection; None if it is not known.
        prefix: The file's name, as a value or a connection.
        format: Of Decode & Write Clip.
        replaced: The node that makes the video of the frames, if ours takes its place.
        savers: The nodes that save it, if ours takes their place.
    """

    fps: Any
    prefix: Any = "vidrd/video"
    format: str = "mp4"
    replaced: Key | None = None
    savers: list[Key] = field(default_factory=list)


def extend_workflow(
    workflow: Workflow,
    clips: int,
    prompts: Sequence[str] = (),
    prompt_frames: int | None = None,
    order: str | None = None,
) -> Extended:
    """Make a workflow's video long: its sampler, decoder and saver are replaced, all else stays.

    Args:
        workflow: The workflow; it is changed in place, unless it is refused.
        clips: The number of clips, 1 to `MAX_CLIPS`.
        prompts: A prompt for each clip, the last one for those that remain; none keeps the workflow's own.
        prompt_frames: M, the latents of a clip that replay the previous one; by default that of the nodes, 4.
        order: "mirror", "forward" or "auto"; by default that of the nodes, "auto".

    Returns:
        What was changed.

    Raises:
        WorkflowError: The workflow cannot be extended; the message names the node in the way.
        ValueError: A setting is out of range.
    """
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"{clips} clips, expected 1 to {MAX_CLIPS}: save a state, and go on in another workflow")
    if len(prompts) > clips:
        raise ValueError(f"there are {len(prompts)} prompts for {clips} clips: raise --clips, or leave some out")
    reuse: dict[str, Any] = {}
    if prompt_frames is not None:
        reuse["prompt_frames"] = prompt_frames
    if order is not None:
        reuse["order"] = order
    view, result = View(workflow), Extended()
    chains = find_chains(view)
    for chain in chains:
        check_together(view, chain)
    encoders = {chain.sampler: prompt_encoder(view, chain) for chain in chains} if prompts else {}
    plans = {chain.sampler: [_plan(view, chain, decoder) for decoder in chain.decoders] for chain in chains}
    done: set[tuple[int, NodeId]] = set()
    for chain in chains:
        at = (id(view.graph(chain.sampler)), chain.sampler[-1])
        if at not in done:  # a subgraph that is used twice is rewritten once
            done.add(at)
            result.samplers.append(view.label(chain.sampler))
            rewriting = _Rewriting(view, chain, plans[chain.sampler], clips, reuse, result)
            rewriting.run(prompts, encoders.get(chain.sampler))
    for chain in chains:
        _remove_savers(view, [saver for plan in plans[chain.sampler] for saver in plan.savers])
    if isinstance(workflow.main, PageGraph):
        _forget_removed(workflow)
    workflow.store(f"VidRD: {clips} clips")
    return result


def _plan(view: View, chain: Chain, decoder: Decoder) -> _Video:
    """How the frames of a decoder are saved now."""
    for key, name in view.consumers(decoder.key):
        kind = view.kind(key)
        if name != "images" or kind not in RATES or key[:-1] != decoder.key[:-1]:
            continue
        sound = view.origin(key, "audio")
        if sound is not None and sound.key != chain.sound:
            continue  # sound that the model does not make stays with the node that joins it to the frames
        plan = _Video(view.graph(key).given(key[-1], RATES[kind]), format=_FORMATS.get(kind, "mp4"), replaced=key)
        if kind == "CreateVideo":
            plan.savers = [to for to, _ in view.consumers(key) if view.kind(to) == "SaveVideo"]
            if any(view.value(to, "format") == "webm" for to in plan.savers):
                plan.format = "webm"
        elif kind == "VHS_VideoCombine":
            plan.format = _format_of(str(view.value(key, "format")))
        saver = plan.savers[0] if plan.savers else key
        prefix = view.graph(saver).given(saver[-1], "filename_prefix")
        if isinstance(prefix, Source | Connected) and saver[:-1] != decoder.key[:-1]:
            prefix = view.value(saver, "filename_prefix")
        plan.prefix = prefix or plan.prefix
        return plan
    rates = [key for key in view.ahead(decoder.key) if view.kind(key) in RATES]
    for key in rates:
        name = RATES[view.kind(key)]
        fps = view.graph(key).given(key[-1], name) if key[:-1] == decoder.key[:-1] else view.value(key, name)
        if fps is not None:
            return _Video(fps)
    return _Video(None)


def _format_of(name: str) -> str:
    """The format of Decode & Write Clip for one of VideoHelperSuite."""
    found = (ours for ours in ("webm", "gif", "webp") if ours in name.lower())
    return next(found, "mp4")


class _Rewriting:
    """The rewriting of one chain.

    Args:
        view: The workflow as it was.
        chain: The sampler and its decoders.
        plans: How the frames of each decoder are saved.
        clips: The number of clips.
        reuse: Settings of reuse that are not the nodes' defaults.
        result: Gets the notes.
    """

    def __init__(
        self, view: View, chain: Chain, plans: list[_Video], clips: int, reuse: dict[str, Any], result: Extended
    ) -> None:
        self.view, self.chain, self.plans, self.clips = view, chain, plans, clips
        self.reuse, self.result = reuse, result
        self.graph: Graph = view.graph(chain.sampler)
        self.sampler = chain.sampler[-1]
        self.first = (chain.first_expert or chain.sampler)[-1]  # the sampler of the first steps
        self.kind = self.graph.kind(self.sampler)
        self.unused: list[NodeId] = []
        self.shared_seed: NodeId | None = None
        self.top = 0.0  # of the samplers, in pixels from the first added node

    def run(self, prompts: Sequence[str], encoder: Key | None) -> None:
        """Rewrite the chain."""
        graph, sampler = self.graph, self.sampler
        graph.new_block()
        prompted = self._conditionings(prompts, encoder)
        make = self._extend if self.kind in K_SAMPLERS else self._sample_custom
        clips: list[_Clip] = []
        for number in range(self.clips):
            clips.append(make(number, clips[-1].state if clips else None, prompted[number] if prompted else None))
        videos = [
            self._write(clips, decoder, plan, row)
            for row, (decoder, plan) in enumerate(zip(self.chain.decoders, self.plans, strict=True))
        ]
        for video, decoder, plan in zip(videos, self.chain.decoders, self.plans, strict=True):
            self._replace(video, decoder, plan)
            self.unused += [decoder.key[-1], *(key[-1] for key in decoder.passed)]
        self._replace_sound(videos[0])
        noise = graph.source(sampler, "noise")
        for slot in (0, 1):
            graph.redirect(Source(sampler, slot), clips[-1].whole)
        graph.remove(sampler)
        if self.first != sampler:
            graph.remove(self.first)
        self.unused += [noise.node] if noise else []
        self.unused += [encoder[-1]] if encoder else []
        for node in self.unused:
            self._prune(node)
        if self.chain.pictures:
            shown = ", ".join(self.view.label(key) for key in self.chain.pictures)
            self.result.notes.append(f"every clip gets the same input of {shown}")

    def _prune(self, node: NodeId) -> None:
        """Remove a node that nothing uses any more."""
        if node not in self.graph.ids():
            return
        if not any(self.graph.targets(Source(node, slot)) for slot in range(4)):
            self.graph.remove(node)

    def _name(self, text: str, number: int) -> str:
        return f"{text}, clip {number + 1}"

    def _conditionings(self, prompts: Sequence[str], encoder: Key | None) -> list[Source] | None:
        """The conditioning, or the guider, of each clip; None if all have the workflow's own."""
        graph = self.graph
        if self.kind == "SamplerCustom":
            values = {name: graph.given(self.sampler, name) for name in ("model", "positive", "negative", "cfg")}
            inputs = {name: each for name, each in values.items() if each is not None}
            own = Source(graph.add("CFGGuider", "CFGGuider", inputs), 0)
            self.top += height_of("CFGGuider") + _GAP
        else:
            given = graph.source(self.sampler, "positive" if self.kind in K_SAMPLERS else "guider")
            if given is None:  # an input that the workflow leaves open stays so
                return None
            own = given
        if encoder is None:
            return [own] * self.clips
        clip = graph.source(encoder[-1], "clip")
        made: dict[str, Source] = {}
        under = self.top + height_of("CLIPTextEncode") + _GAP
        for text in prompts:
            if text in made:
                continue
            column = len(made)
            inputs = {"text": text} if clip is None else {"text": text, "clip": clip}
            made[text] = Source(graph.add("CLIPTextEncode", text[:40], inputs, column, int(self.top)), 0)
            if self.kind not in K_SAMPLERS:
                guider = graph.duplicate(own.node, column, int(under))
                graph.connect(Target(guider, guider_input(graph.kind(guider))), made[text])
                made[text] = Source(guider, 0)
        self.top = under
        if self.kind not in K_SAMPLERS:
            self.top += 2 * height_of("CFGGuider")
            self.unused.append(own.node)
        return [made[prompts[min(number, len(prompts) - 1)]] for number in range(self.clips)]

    def _seed(self, node: NodeId, name: str) -> Any:
        """The seed of all clips; one that nodes of a subgraph show as a widget moves into a node of its own."""
        given = self.graph.given(node, name)
        shown = [
            each
            for entries in _shown_widgets(self.view.workflow, self.graph)
            for each in entries
            if str(each[0]) == str(node) and each[1] in (name, SEED_CONTROL)
        ]
        if self.shared_seed is None and shown and isinstance(given, int):
            self.shared_seed = self.graph.add("PrimitiveInt", "seed", {"value": given}, column=-1)
            for each in shown:
                each[:2] = [str(self.shared_seed), "value" if each[1] == name else SEED_CONTROL]
        return given if self.shared_seed is None else Connected(Source(self.shared_seed, 0), given)

    def _extend(self, number: int, state: Source | None, positive: Source | None) -> _Clip:
        """A clip by Reuse & Diffuse Extend, in place of KSampler."""
        names = ("model", "negative", "steps", "cfg", "sampler_name", "scheduler")
        given = {name: self.graph.given(self.first, name) for name in names}
        given["latent"] = self.graph.source(self.first, "latent_image")
        given["seed"] = self._seed(self.first, "noise_seed" if "Advanced" in self.kind else "seed")
        if self.first != self.sampler:
            given["model_low_noise"] = self.graph.given(self.sampler, "model")
            given["switch_step"] = self.graph.given(self.first, "end_at_step")
        given |= {"positive": positive, "state": state, **self.reuse}
        inputs = {name: value for name, value in given.items() if value is not None}
        node = self.graph.add("VidRD_Extend", self._name("Extend", number), inputs, number, int(self.top))
        return _Clip(Source(node, 0), Source(node, 1), Source(node, 2))

    def _sample_custom(self, number: int, state: Source | None, guider: Source | None) -> _Clip:
        """A clip by a custom sampler with our noise and guidance."""
        graph, old = self.graph, self.sampler
        noise = graph.source(old, "noise")
        seed = self._seed(old if noise is None else noise.node, "noise_seed")
        after = {} if state is None else {"state": state}
        row = self.top

        def add(kind: str, title: str, inputs: dict[str, Any]) -> NodeId:
            nonlocal row
            given = {name: value for name, value in inputs.items() if value is not None}
            node = graph.add(kind, self._name(title, number), given, number, int(row))
            row += height_of(kind) + _GAP
            return node

        ours = Source(add("VidRD_Noise", "Noise", {"seed": seed, **after, **self.reuse}), 0)
        guided = Source(
            add("VidRD_Guidance", "Guidance", {"sampler": graph.source(old, "sampler"), **after, **self.reuse}), 0
        )
        inputs = {"noise": ours, "guider": guider, "sampler": guided}
        inputs |= {name: graph.source(old, name) for name in ("sigmas", "latent_image")}
        sampled = Source(add("SamplerCustomAdvanced", "Sampler", inputs), 0)
        state_of = add("VidRD_CollectState", "State", {"sampler": guided, "latent": sampled})
        return _Clip(Source(state_of, 0), sampled, Source(state_of, 1))

    def _write(self, clips: list[_Clip], decoder: Decoder, plan: _Video, place: int) -> Source:
        """The nodes that decode and write all clips; the output of the last one."""
        if plan.fps is None:
            self.result.notes.append(f"no node tells the frame rate of {self.view.label(decoder.key)}: 24 is set")
        kinds = (
            ("VidRD_Extend",)
            if self.kind in K_SAMPLERS
            else ("VidRD_Noise", "VidRD_Guidance", "SamplerCustomAdvanced", "VidRD_CollectState")
        )
        top = self.top + sum(height_of(kind) + _GAP for kind in kinds) + place * (height_of("VidRD_WriteClip") + _GAP)
        inputs: dict[str, Any] = {
            "vae": self.graph.source(decoder.key[-1], "vae"),
            "filename_prefix": plan.prefix,
            "format": plan.format,
            "fps": 24.0 if plan.fps is None else plan.fps,
        }
        if self.chain.sound is not None:
            sound = self.chain.sound[-1]
            inputs["audio_vae"] = self.graph.source(sound, SOUND_DECODERS[self.graph.kind(sound)])
        video: Source | None = None
        for number, clip in enumerate(clips):
            given = {
                name: value
                for name, value in {**inputs, "latent": clip.new, "before": video}.items()
                if value is not None
            }
            video = Source(self.graph.add("VidRD_WriteClip", self._name("Write", number), given, number, int(top)), 0)
        assert video is not None
        return video

    def _replace(self, video: Source, decoder: Decoder, plan: _Video) -> None:
        """Connect what used the frames to the written video."""
        graph = self.graph
        if plan.replaced is not None:
            replaced = plan.replaced[-1]
            if graph.kind(replaced) == "CreateVideo":
                graph.redirect(Source(replaced, 0), video)
            graph.remove(replaced)
        self._redirect_frames(Source(decoder.key[-1], 0), decoder.key, video)

    def _redirect_frames(self, frames: Source, decoder: Key, video: Source) -> None:
        """Give the written video's frames to the nodes that still take those of a decoder."""
        graph = self.graph
        replaced = [plan.replaced for plan in self.plans if plan.replaced]
        users = [key for key, _ in self.view.consumers(decoder, 0) if key not in replaced]
        for target in graph.targets(frames):
            if not users and target.node != OUTPUTS:  # bypassed and muted nodes
                graph.connect(target, None)
        if graph.targets(frames):
            parts = self._components(video)
            graph.redirect(frames, Source(parts, 0))
            if users:
                shown = ", ".join(self.view.label(key) for key in users)
                self.result.notes.append(f"{shown}: works on all frames of the long video together, as written")

    def _replace_sound(self, video: Source) -> None:
        """Connect what used the decoded sound to the written video's."""
        if self.chain.sound is None:
            return
        node = self.chain.sound[-1]
        if self.graph.targets(Source(node, 0)):
            self.graph.redirect(Source(node, 0), Source(self._components(video), 1))
        self._prune(node)
        for key in self.chain.passed_to_sound:
            self._prune(key[-1])

    def _components(self, video: Source) -> NodeId:
        """The node that gives the frames and the sound of the written video."""
        for target in self.graph.targets(video):
            if target.node != OUTPUTS and self.graph.kind(target.node) == "GetVideoComponents":
                return target.node
        return self.graph.add("GetVideoComponents", "Frames of the long video", {"video": video}, column=self.clips)


def _remove_savers(view: View, savers: list[Key]) -> None:
    """Remove the nodes that saved the video; ours has done so. What used their output gets the video."""
    for key in savers:
        graph, node = view.graph(key), key[-1]
        if node not in graph.ids():
            continue
        video = graph.source(node, "video")
        if video is not None:
            graph.redirect(Source(node, 0), video)
        graph.remove(node)


def _shown_widgets(workflow: Workflow, graph: Graph) -> list[list[Any]]:
    """The lists of widgets of a subgraph that the nodes which use it show: [node, widget] each."""
    if not isinstance(graph, PageGraph):
        return []
    users = [
        node
        for each in workflow.graphs
        if isinstance(each, PageGraph)
        for node in each.nodes.values()
        if workflow.subgraphs.get(node["type"]) is graph
    ]
    return [(node.get("properties") or {}).get("proxyWidgets") or [] for node in users]


def _forget_removed(workflow: Workflow) -> None:
    """Take removed nodes out of the lists of widgets and outputs that pages show elsewhere."""
    main = workflow.main
    assert isinstance(main, PageGraph)
    shown = (main.data.get("extra") or {}).get("linearData") or {}
    for name, position in (("inputs", 0), ("outputs", None)):
        if isinstance(shown.get(name), list):
            shown[name] = [
                each for each in shown[name] if (each if position is None else each[0]) not in main.removed
            ]
    for graph in workflow.graphs:
        assert isinstance(graph, PageGraph)
        for node in graph.nodes.values():
            inner = workflow.subgraphs.get(node["type"])
            if inner is None:
                continue
            gone = {str(each) for each in inner.removed}
            properties = node.get("properties") or {}
            if properties.get("proxyWidgets"):
                properties["proxyWidgets"] = [each for each in properties["proxyWidgets"] if str(each[0]) not in gone]
            if properties.get("previewExposures"):
                properties["previewExposures"] = [
                    each for each in properties["previewExposures"] if str(each.get("sourceNodeId")) not in gone
                ]
