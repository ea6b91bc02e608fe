"""The registry of formats: each is recognised by its names alone, and messages and conversions are made from it."""

import pytest
import torch

from vidrd_core.convert import targets
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.formats.detect import NAMINGS, read_part, supported_formats
from vidrd_core.models.formats.naming import PART_NAMES, detect_naming
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE

CONFIGS = {
    "unet": {
        "LDM": UNet3DConfig(temp_attention="after", transformer_in=True),
        "VidRD": UNet3DConfig(),
        "diffusers": UNet3DConfig(),
    },
    "vae": {
        "VidRD": VAEConfig(joint_temp_norm=True),
        "diffusers": VAEConfig(),
        "LDM": VAEConfig(decoder="svd", temp_conv_depth=0),
    },
}
WRITABLE = [(part, naming) for part in CONFIGS for naming in NAMINGS[part] if naming.from_ours]


def test_every_part_has_formats_of_its_own():
    assert NAMINGS.keys() == PART_NAMES.keys()
    for part, namings in NAMINGS.items():
        assert {naming.part for naming in namings} == {part}
        names = [naming.name for naming in namings]
        assert len(set(names)) == len(names)
        offered = [naming.target for naming in namings if naming.target]
        assert len(set(offered)) == len(offered)
        assert all(naming.from_ours for naming in namings if naming.target)


@pytest.mark.parametrize(("part", "naming"), WRITABLE, ids=[f"{part}, {naming.name}" for part, naming in WRITABLE])
def test_a_format_is_recognised_and_maps_both_ways(part, naming):
    config = CONFIGS[part][naming.name]
    with torch.device("meta"):
        ours = (UNet3D if part == "unet" else TemporalVAE)(config).state_dict()
    theirs = naming.from_ours(ours)
    assert len(theirs) == len(ours)
    back = naming.to_ours(theirs)
    assert {key: tensor.shape for key, tensor in back.items()} == {key: t.shape for key, t in ours.items()}
    found = {other: detect_naming(NAMINGS[other], theirs) for other in NAMINGS}
    assert found == {other: naming if other == part else None for other in NAMINGS}


def test_messages_and_conversions_know_all_formats(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    for part, namings in NAMINGS.items():
        with pytest.raises(FormatError, match="holds no known part") as error:
            read_part(tmp_path / "a.pt", part)
        assert f"expected a {PART_NAMES[part]} in one of these formats: {supported_formats(part)}" in str(error.value)
        for naming in namings:
            assert f"{naming.name} ({naming.used_by})" in str(error.value)
    for part in CONFIGS:
        assert targets(part) == ("diffusers", "ldm", "vidrd", "temporal")
