"""The stand-in for ComfyUI's node API refuses what ComfyUI 0.3.64 refuses."""

import os
import sys

import pytest

from ..stand_in import definitions
from ..stand_in.comfy_api.latest import io


def test_fields_unknown_to_comfyui_0_3_64_are_refused():
    with pytest.raises(TypeError, match="search_aliases"):
        io.Schema("Node", search_aliases=[])
    with pytest.raises(TypeError, match=r"INT.Input 'n' does not know \['advanced'\]"):
        io.Int.Input("n", advanced=True)
    with pytest.raises(TypeError, match="force_input"):
        io.Combo.Input("n", options=["a"], force_input=True)
    assert not hasattr(io, "DynamicCombo")


def test_outputs_must_not_share_an_id_with_inputs():
    class Node(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return io.Schema("Node", inputs=[io.Image.Input("image")], outputs=[io.Image.Output("image")])

    with pytest.raises(ValueError, match=r"\['image'\] are not"):
        Node.GET_SCHEMA()


def test_the_stand_in_is_not_imported_in_this_process():
    definitions()
    taken = [
        name
        for name, module in sys.modules.items()
        if f"{os.sep}stand_in{os.sep}" in str(getattr(module, "__file__", ""))
    ]
    assert [name for name in taken if "tests.stand_in" not in name] == []
    assert not [folder for folder in sys.path if "stand_in" in folder]
