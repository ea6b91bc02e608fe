"""Puts the nodes that make many clips in the place of a workflow's sampler, decoder and saver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vidrd_core.comfy.chains import AT_THE_BEGINNING, BEGINNINGS, K_SAMPLERS, SOUND_DECODERS, WITHOUT, Chain, Decoder
from vidrd_core.comfy.copies import GAP, Copies, Replaced
from vidrd_core.comfy.definitions import SEED_CONTROL
from vidrd_core.comfy.graphs import OUTPUTS, Connected, Graph, NodeId, Source, Target
from vidrd_core.comfy.page import PageGraph, height_of
from vidrd_core.comfy.shown import widgets_shown
from vidrd_core.comfy.steps import dropped_seed
from vidrd_core.comfy.view import GETTERS, REROUTES, SETTERS, Key, View, setter_of, source_of_setter

WITH_SOUND = ("mp4", "webm")  # the formats of Decode & Write Clip that hold sound
PREFIX = "vidrd/video"  # the name of a file for which the workflow has none


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
class VideoPlan:
    """How a decoder's frames become a file.

    Args:
        fps: Frames per second, as a value or a connection; None if it is not known.
        prefix: The file's name, as a value or a connection.
        format: Of Decode & Write Clip.
        replaced: The node that makes the video of the frames, if ours takes its place.
        savers: The nodes that save it, if ours takes their place.
    """

    fps: Any
    prefix: Any = PREFIX
    format: str = "mp4"
    replaced: Key | None = None
    savers: list[Key] = field(default_factory=list)


@dataclass
class _Clip:
    """Outputs of the nodes that make one clip, or one pass of it; by the slot of the sampler that they replace."""

    new: Source
    whole: tuple[Source, Source]
    state: Source


class Rewriting:
    """The rewriting of one chain.

    Args:
        view: The workflow as it was.
        chain: The samplers and their decoders.
        plans: How the frames of each decoder are saved.
        clips: The number of clips.
        reuse: Settings of reuse that are not the nodes' defaults.
        result: Gets the notes.
    """

    def __init__(
        self,
        view: View,
        chain: Chain,
        plans: list[VideoPlan],
        clips: int,
        reuse: dict[str, Any],
        result: Extended,
    ) -> None:
        self.view, self.chain, self.plans, self.clips = view, chain, plans, clips
        self.reuse, self.result = reuse, result
        self.graph: Graph = view.graph(chain.sampler)
        self.samplers = [key[-1] for key in chain.samplers]
        self.expert = chain.first_expert[-1] if chain.first_expert else None  # the sampler of the first steps
        self.copies = Copies(self.graph, clips)
        self.guiders: dict[NodeId, Source] = {}
        self.seeds: dict[NodeId, NodeId] = {}

    def run(self, prompts: Sequence[str], encoder: Key | None) -> None:
        """Rewrite the chain."""
        graph, copies, notes = self.graph, self.copies, self._notes()
        graph.new_block()
        notes += self._draw_links(encoder)
        self._prepare()
        encoded = self._encode(prompts, encoder)
        noises = [node for sampler in self.samplers for node in self._noise(sampler)]
        clips: list[list[_Clip]] = []
        for number in range(self.clips):
            replaced = dict(encoded[number])
            passes: list[_Clip] = []
            for place, sampler in enumerate(self.samplers):
                state = clips[-1][place].state if clips else None
                passes.append(self._make(number, sampler, state, replaced))
                for slot, whole in enumerate(passes[-1].whole):
                    if place == len(self.samplers) - 1:
                        continue
                    if number:
                        replaced[clips[0][place].whole[slot]] = whole
                    else:  # what is between two passes stays for the first clip, and is copied for others
                        graph.redirect(Source(sampler, slot), whole)
            clips.append(passes)
        last = [each[-1] for each in clips]
        top = max(copies.rows)
        videos = []
        for decoder, plan in zip(self.chain.decoders, self.plans, strict=True):
            video, top = self._write(last, decoder, plan, top)
            videos.append(video)
        unused: list[NodeId] = []
        for video, decoder, plan in zip(videos, self.chain.decoders, self.plans, strict=True):
            self._replace(video, decoder, plan)
            passed = (key for key in decoder.passed if key not in decoder.beginning)
            unused += [decoder.key[-1], *(key[-1] for key in passed)]
        self._replace_sound(
            next((each for each, plan in zip(videos, self.plans, strict=True) if plan.format in WITH_SOUND), None)
        )
        for slot in (0, 1):
            graph.redirect(Source(self.samplers[-1], slot), last[-1].whole[0])
        for sampler in self.samplers:
            graph.remove(sampler)
        if self.expert is not None:
            graph.remove(self.expert)
        for node in [*unused, *noises, *(guider.node for guider in self.guiders.values())]:
            self._prune(node)
        self.result.notes += notes

    def _noise(self, sampler: NodeId) -> list[NodeId]:
        """The node that makes a sampler's noise, after the reroutes before it; nothing for one that makes its own."""
        origin = self.view.origin((*self.chain.sampler[:-1], sampler), "noise")
        if origin is None:
            return []
        between, source = [], self.graph.source(sampler, "noise")
        while source is not None and self.graph.kind(source.node) in REROUTES:
            between.append(source.node)
            source = next((each for _, each in self.graph.sources(source.node)), None)
        return [*between, origin.key[-1]]

    def _draw_links(self, encoder: Key | None) -> list[str]:
        """Draw links in place of getters of what differs between clips: they have no inputs that a copy could change.

        Returns:
            What a user should know of it.
        """
        graph, chain, drawn = self.graph, self.chain, []
        changing = {*chain.samplers, *chain.beginnings, *chain.endings}
        changing |= {each for each in (encoder, chain.first_expert) if each is not None}
        changing |= {origin.key for each in chain.samplers if (origin := self.view.origin(each, "noise"))}
        changing |= {key for each in tuple(changing) for key in self.view.ahead(each)}
        for node in [each for each in graph.ids() if graph.kind(each) in (*GETTERS, *SETTERS)]:
            if not graph.has(node):
                continue
            output, kind = Source(node, 0), graph.kind(node)
            setter = setter_of(graph, node) if kind in GETTERS else node
            source, origin = source_of_setter(graph, setter), self.view.through(chain.sampler, output)
            if source is None or setter is None or origin is None or origin.key not in changing:
                continue
            graph.redirect(output, source)
            if kind in GETTERS:
                graph.remove(node)
                drawn.append(f"{kind} (node {node})")
            left = {setter_of(graph, each) for each in graph.ids() if graph.kind(each) in GETTERS}
            if setter not in left and graph.has(setter) and not graph.used(setter):
                graph.remove(setter)
        return (
            [f"{', '.join(drawn)}: links take their place, as what they get differs between clips"] if drawn else []
        )

    def _notes(self) -> list[str]:
        """What is the same in all clips, and what the first one has alone."""
        notes = []
        for keys, text in (
            (self.chain.pictures, "every clip gets the same input of {}"),
            (self.chain.beginnings, "the first clip alone has the picture of {}"),
            (self.chain.endings, "the last clip alone has the picture of {}"),
        ):
            if keys:
                shown = ", ".join(self.view.label(key) for key in dict.fromkeys(keys))
                notes.append(text.format(shown))
        chain = self.chain
        if chain.first_expert is not None:
            notes += [line] if (line := dropped_seed(self.view, chain.first_expert, chain.sampler)) else []
        passed = [key for each in chain.decoders for key in each.passed] + chain.passed_to_sound
        own = {*chain.samplers, *passed, *(each.key for each in chain.decoders), chain.sound}
        others = [key for each in (chain.sampler, *passed) for key, _ in self.view.consumers(each) if key not in own]
        if others:
            shown = ", ".join(self.view.label(key) for key in dict.fromkeys(others))
            notes.append(f"the latents of the last clip alone go to {shown}")
        return notes

    def _prune(self, node: NodeId) -> None:
        """Remove a node that nothing uses any more."""
        if self.graph.has(node) and not self.graph.used(node):
            self.graph.remove(node)

    def _name(self, text: str, number: int) -> str:
        return f"{text}, clip {number + 1}"

    def _prepare(self) -> None:
        """Give each SamplerCustom a guider, and tell what later clips do without."""
        graph, copies = self.graph, self.copies
        for sampler in self.samplers:
            if graph.kind(sampler) == "SamplerCustom":
                names = ("model", "positive", "negative", "cfg")
                inputs = {name: each for name in names if (each := graph.given(sampler, name)) is not None}
                self.guiders[sampler] = Source(copies.add("CFGGuider", "CFGGuider", inputs), 0)
        for number, keys in ((0, self.chain.beginnings), (self.clips - 1, self.chain.endings)):
            for node in dict.fromkeys(key[-1] for key in keys):
                kind = graph.kind(node)
                if kind in WITHOUT:
                    copies.without[node] = WITHOUT[kind]
                elif self.clips > 1:
                    instead = [self._empty(node) if name is None else name for name in BEGINNINGS[kind]]
                    copies.only_in[node] = (number, instead)
        copies.begin_clips()

    def _empty(self, node: NodeId) -> Source:
        """An empty latent of the size of one that begins with a picture."""
        names = ("width", "height", "length", "batch_size")
        inputs = {name: each for name in names if (each := self.graph.given(node, name)) is not None}
        return Source(self.copies.add("EmptyLTXVLatentVideo", "Empty latent of later clips", inputs), 0)

    def _encode(self, prompts: Sequence[str], encoder: Key | None) -> list[Replaced]:
        """For each clip, what takes the place of the encoded prompt."""
        if encoder is None:
            return [{}] * self.clips
        graph, old = self.graph, Source(encoder[-1], 0)
        clip = graph.source(encoder[-1], "clip")
        made: dict[str, Source] = {}
        for text in dict.fromkeys(prompts):
            inputs = {"text": text} if clip is None else {"text": text, "clip": clip}
            made[text] = Source(self.copies.add("CLIPTextEncode", text[:40], inputs), 0)
        self.copies.begin_clips()
        return [{old: made[prompts[min(number, len(prompts) - 1)]]} for number in range(self.clips)]

    def _seed(self, node: NodeId, name: str) -> Any:
        """The seed of all clips; one that is shown elsewhere or changes between runs moves into a node of its own."""
        graph, given, control = self.graph, self.graph.given(node, name), self.graph.value(node, SEED_CONTROL)
        shown = [
            each
            for each in widgets_shown(self.view.workflow, self.graph)
            if str(each[0]) == str(node) and each[1] in (name, SEED_CONTROL)
        ]
        changes = control in ("increment", "decrement", "randomize")
        row = int(len(self.seeds) * (height_of("PrimitiveInt") + GAP))
        if node in self.seeds or not isinstance(given, int):
            pass
        elif changes and not shown and isinstance(graph, PageGraph):
            self.seeds[node] = graph.add_seed(given, str(control), row)
        elif shown:
            if changes:  # PrimitiveInt would go below 0
                self.result.notes.append(f"the seed of {graph.kind(node)} (node {node}) is fixed at {given} now")
            seed = self.seeds[node] = graph.add("PrimitiveInt", "seed", {"value": given}, -1, row)
            for each in shown:
                each[:2] = [type(each[0])(seed), "value" if each[1] == name else SEED_CONTROL]
        return Connected(Source(self.seeds[node], 0), given) if node in self.seeds else given

    def _make(self, number: int, sampler: NodeId, state: Source | None, replaced: Replaced) -> _Clip:
        """One pass of a clip."""
        make = self._extend if self.graph.kind(sampler) in K_SAMPLERS else self._sample_custom
        return make(number, sampler, state, replaced)

    def _extend(self, number: int, sampler: NodeId, state: Source | None, replaced: Replaced) -> _Clip:
        """A clip by Reuse & Diffuse Extend, in place of KSampler."""
        graph, first = self.graph, sampler if self.expert is None else self.expert
        names = ("model", "steps", "cfg", "sampler_name", "scheduler")
        given = {name: graph.given(first, name) for name in names}
        for ours, theirs in (("positive", "positive"), ("negative", "negative"), ("latent", "latent_image")):
            given[ours] = self.copies.of(graph.source(first, theirs), replaced, number)
        given["seed"] = self._seed(first, "noise_seed" if "Advanced" in graph.kind(sampler) else "seed")
        if first != sampler:
            given["model_low_noise"] = graph.given(sampler, "model")
            given["switch_step"] = graph.given(first, "end_at_step")
        given |= {"state": state, **self._reused(number)}
        inputs = {name: value for name, value in given.items() if value is not None}
        node = self.copies.add("VidRD_Extend", self._name("Extend", number), inputs, number)
        return _Clip(Source(node, 0), (Source(node, 1), Source(node, 1)), Source(node, 2))

    def _reused(self, number: int) -> dict[str, Any]:
        """The settings of reuse of a clip; the last one closes a loop."""
        closes = self.reuse.get("preset") == "loop on purpose" and number == self.clips - 1 and number > 0
        return {**self.reuse, "loop": "close"} if closes else self.reuse

    def _sample_custom(self, number: int, sampler: NodeId, state: Source | None, replaced: Replaced) -> _Clip:
        """A clip by a custom sampler with our noise and guidance."""
        graph, copies = self.graph, self.copies
        guider = self.guiders.get(sampler)
        seed = self._seed([sampler, *self._noise(sampler)][-1], "noise_seed")
        after, reuse = {} if state is None else {"state": state}, self._reused(number)
        pass_ = f" {self.samplers.index(sampler) + 1}" if len(self.samplers) > 1 else ""

        def add(kind: str, title: str, inputs: dict[str, Any]) -> NodeId:
            given = {name: value for name, value in inputs.items() if value is not None}
            return copies.add(kind, self._name(f"{title}{pass_}", number), given, number)

        guider = copies.of(guider or graph.source(sampler, "guider"), replaced, number)
        latent = copies.of(graph.source(sampler, "latent_image"), replaced, number)
        ours = Source(add("VidRD_Noise", "Noise", {"seed": seed, **after, **reuse}), 0)
        inner = graph.source(sampler, "sampler")
        guided = Source(add("VidRD_Guidance", "Guidance", {"sampler": inner, **after, **reuse}), 0)
        # The sigmas of all clips are those of the first one, even if they are made for its latents.
        inputs = {"noise": ours, "guider": guider, "sampler": guided, "latent_image": latent}
        inputs["sigmas"] = graph.source(sampler, "sigmas")
        sampled = add("SamplerCustomAdvanced", "Sampler", inputs)
        state_of = add("VidRD_CollectState", "State", {"sampler": guided, "latent": Source(sampled, 0)})
        return _Clip(Source(state_of, 0), (Source(sampled, 0), Source(sampled, 1)), Source(state_of, 1))

    def _write(self, clips: list[_Clip], decoder: Decoder, plan: VideoPlan, top: float) -> tuple[Source, float]:
        """The nodes that decode and write all clips, from `top` on; the last one's output, and the place below."""
        if plan.fps is None:
            self.result.notes.append(f"no node tells the frame rate of {self.view.label(decoder.key)}: 24 is set")
        inputs: dict[str, Any] = {
            "vae": self.graph.source(decoder.key[-1], "vae"),
            "filename_prefix": plan.prefix,
            "format": plan.format,
            "fps": 24.0 if plan.fps is None else plan.fps,
        }
        if self.chain.sound is not None and plan.format in WITH_SOUND:
            sound = self.chain.sound[-1]
            inputs["audio_vae"] = self.graph.source(sound, SOUND_DECODERS[self.graph.kind(sound)])
        separate = "LTXVSeparateAVLatent" if self.chain.holds_sound and inputs.get("audio_vae") is None else None
        below = top + height_of(separate) + GAP if separate else top
        video: Source | None = None
        for number, clip in enumerate(clips):
            latent = clip.new
            if separate:  # the writer takes sound with its VAE alone
                pictures = self.graph.add(
                    separate, self._name("Pictures", number), {"av_latent": latent}, number, int(top)
                )
                latent = Source(pictures, 0)
            for key in [] if number else reversed(decoder.beginning):
                self.graph.connect(Target(key[-1], AT_THE_BEGINNING[self.graph.kind(key[-1])]), latent)
                latent = Source(key[-1], 0)
            given = {
                name: value
                for name, value in {**inputs, "latent": latent, "before": video}.items()
                if value is not None
            }
            node = self.graph.add("VidRD_WriteClip", self._name("Write", number), given, number, int(below))
            video = Source(node, 0)
        assert video is not None
        return video, below + height_of("VidRD_WriteClip") + GAP

    def _replace(self, video: Source, decoder: Decoder, plan: VideoPlan) -> None:
        """Connect what used the frames to the written video."""
        graph = self.graph
        if plan.replaced is not None:
            replaced = plan.replaced[-1]
            if graph.kind(replaced) == "CreateVideo":
                graph.redirect(Source(replaced, 0), video)
            elif isinstance(graph, PageGraph):
                graph.instead[replaced] = video.node
            graph.remove(replaced)
        self._redirect_frames(Source(decoder.key[-1], 0), decoder.key, video)

    def _redirect_frames(self, frames: Source, decoder: Key, video: Source) -> None:
        """Give the written video's frames to the nodes that still take those of a decoder."""
        graph = self.graph
        replaced = [plan.replaced for plan in self.plans if plan.replaced]
        users = [key for key, _ in self.view.consumers(decoder, 0) if key not in replaced]
        left = []
        for target in graph.targets(frames):
            if not users and target.node != OUTPUTS:  # bypassed and muted nodes
                graph.connect(target, None)
                left += [f"{graph.kind(target.node)} (node {target.node})"] if graph.mode(target.node) else []
        if left:
            self.result.notes.append(f"{', '.join(left)}: disconnected from the frames, as it does not run")
        if graph.targets(frames):
            parts = self._components(video)
            graph.redirect(frames, Source(parts, 0))
            if users:
                shown = ", ".join(self.view.label(key) for key in users)
                self.result.notes.append(f"{shown}: works on all frames of the long video together, as written")

    def _replace_sound(self, video: Source | None) -> None:
        """Connect what used the decoded sound to the written video's, if one has sound."""
        if self.chain.sound is None:
            return
        sound = Source(self.chain.sound[-1], 0)
        if self.graph.targets(sound) and video is not None:
            self.graph.redirect(sound, Source(self._components(video), 1))
        self._prune(sound.node)
        for key in self.chain.passed_to_sound:
            self._prune(key[-1])

    def _components(self, video: Source) -> NodeId:
        """The node that gives the frames and the sound of the written video."""
        for target in self.graph.targets(video):
            if target.node != OUTPUTS and self.graph.kind(target.node) == "GetVideoComponents":
                return target.node
        return self.graph.add("GetVideoComponents", "Frames of the long video", {"video": video}, column=self.clips)
