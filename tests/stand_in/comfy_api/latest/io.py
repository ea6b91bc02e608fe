"""Schemas of 0.3.64, with its checks. Fields that it does not have are refused here, too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

# Fields that have another name in a definition than in Python, or are missing from it.
NAMES = {
    "widget_type": "widgetType",
    "force_input": "forceInput",
    "dynamic_prompts": "dynamicPrompts",
    "display_mode": "display",
}
APART = ("optional", "extra_dict")
WIDGET = ("default", "socketless", "force_input")
RANGE = ("default", "min", "max", "step")


class Input:
    """An input socket."""

    io_type: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ("display_name", "optional", "tooltip", "lazy", "extra_dict")
    always: ClassVar[dict[str, Any]] = {}

    def __init__(self, id: str, *values: Any, **named: Any) -> None:
        named |= dict(zip(self.fields, values, strict=False))
        unknown = named.keys() - set(self.fields)
        if unknown:
            raise TypeError(f"{self.io_type}.Input {id!r} does not know {sorted(unknown)}")
        self.id = id
        for name in self.fields:
            setattr(self, name, named.get(name, self.always.get(name)))
        self.extra_dict = named.get("extra_dict") or {}  # every input has it, whether or not it takes it

    def definition(self) -> tuple[str, dict[str, Any]]:
        """The input's part of the definition."""
        said = {**self.always, **{name: getattr(self, name) for name in self.fields if name not in APART}}
        said |= self.extra_dict
        said = {NAMES.get(name, name): value for name, value in said.items() if value is not None}
        return self.io_type, {name: getattr(value, "value", value) for name, value in said.items()}


class WidgetInput(Input):
    """An input with a widget."""

    fields = ("display_name", "optional", "tooltip", "lazy", *WIDGET)


@dataclass
class Output:
    """An output socket."""

    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False
    io_type: ClassVar[str]


def _type(io_type: str, own: tuple[str, ...] | None = None, **always: Any) -> Any:
    """A socket type; `own` are the fields of its widget, if it has one."""
    base, fields = Input, Input.fields
    if own is not None:
        base, fields = WidgetInput, tuple(dict.fromkeys((*WidgetInput.fields[:4], *own, *WIDGET)))
    named = {"io_type": io_type}
    return type(
        io_type,
        (),
        {
            "Input": type("Input", (base,), {**named, "fields": fields, "always": always}),
            "Output": type("Output", (Output,), named),
            **named,
        },
    )


def Custom(io_type: str) -> Any:
    """A socket type that the host does not have."""
    return _type(io_type)


Boolean = _type("BOOLEAN", ("default", "label_on", "label_off"))
Int = _type("INT", (*RANGE, "control_after_generate", "display_mode"))
Float = _type("FLOAT", (*RANGE, "round", "display_mode"))
String = _type("STRING", ("multiline", "placeholder", "default", "dynamic_prompts"), multiline=False)
Combo = _type("COMBO", ("default", "control_after_generate", "upload", "image_folder", "remote"), multiselect=False)
Combo.Input.fields = ("options", *(name for name in Combo.Input.fields if name != "force_input"))
Image, Mask, Latent, Video, Audio = map(_type, ("IMAGE", "MASK", "LATENT", "VIDEO", "AUDIO"))
Model, Clip, Vae, Conditioning = map(_type, ("MODEL", "CLIP", "VAE", "CONDITIONING"))
Sampler, Sigmas, Noise, Guider = map(_type, ("SAMPLER", "SIGMAS", "NOISE", "GUIDER"))
AnyType = _type("*")


class FolderType(str, Enum):
    input, output, temp = "input", "output", "temp"


class UploadType(str, Enum):
    image, audio, video, model = "image_upload", "audio_upload", "video_upload", "file_upload"


class NumberDisplay(str, Enum):
    number, slider = "number", "slider"


class Hidden(str, Enum):
    unique_id, prompt, extra_pnginfo, dynprompt = "UNIQUE_ID", "PROMPT", "EXTRA_PNGINFO", "DYNPROMPT"


@dataclass
class Schema:
    """A node's description of itself."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] | None = None
    outputs: list[Any] | None = None
    hidden: list[Hidden] | None = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def finalize(self) -> None:
        """Fill in what a schema may leave out."""
        self.inputs, self.outputs, self.hidden = self.inputs or [], self.outputs or [], self.hidden or []
        if self.is_output_node:
            self.hidden += [each for each in (Hidden.prompt, Hidden.extra_pnginfo) if each not in self.hidden]
        for number, each in enumerate(self.outputs):
            each.id = each.id or f"_{number}_{each.io_type}_"

    def validate(self) -> None:
        """Raise ValueError for duplicate ids of inputs and outputs."""
        ids = Counter(each.id for each in [*self.inputs, *self.outputs])
        twice = [each for each, count in ids.items() if count > 1]
        if twice:
            raise ValueError(f"ids must be unique, but {twice} are not")

    def definition(self, module: str | None) -> dict[str, Any]:
        """The node's definition, as in /object_info."""
        inputs: dict[str, Any] = {"required": {}}
        for each in self.inputs:
            inputs.setdefault("optional" if each.optional else "required", {})[each.id] = each.definition()
        for each in self.hidden:
            inputs.setdefault("hidden", {})[each.name] = (each.value,)
        return {
            "input": inputs,
            "input_order": {kind: list(named) for kind, named in inputs.items()},
            "output": [each.io_type for each in self.outputs],
            "output_is_list": [each.is_output_list for each in self.outputs],
            "output_name": [each.display_name or each.io_type for each in self.outputs],
            "output_tooltips": [each.tooltip or None for each in self.outputs],
            "name": self.node_id,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": module,
            "category": self.category,
            "output_node": self.is_output_node,
            "deprecated": self.is_deprecated,
            "experimental": self.is_experimental,
            "api_node": self.is_api_node,
        }


class ComfyNode:
    """The base of all nodes."""

    RELATIVE_PYTHON_MODULE: ClassVar[str | None] = None

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """The node's schema, completed and checked."""
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        return schema

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        """The node's definition, as in /object_info."""
        return cls.GET_SCHEMA().definition(cls.RELATIVE_PYTHON_MODULE)


class NodeOutput:
    """A node's outputs; nothing runs here."""
