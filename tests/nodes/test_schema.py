"""What the host is told of the nodes."""

import torch


def test_every_node_and_input_says_what_it_is_for(pack):
    for name, node in pack.items():
        schema = node.GET_SCHEMA()
        assert schema.node_id == name
        assert schema.display_name
        assert len(schema.description) > 40, name
        for each in schema.inputs:
            assert each.tooltip, (name, each.id)


def test_seeds_come_with_the_hosts_control(pack):
    seeds = [each for node in pack.values() for each in node.GET_SCHEMA().inputs if each.id == "seed"]
    assert len(seeds) == 3
    assert all(each.control_after_generate for each in seeds)


def test_defaults_are_the_papers(pack):
    inputs = {each.id: each for each in pack["VidRD_Extend"].GET_SCHEMA().inputs}
    paper = {"steps": 50, "cfg": 10.0, "prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "order": "mirror"}
    assert {name: inputs[name].default for name in paper} == paper
    clip = {each.id: each.default for each in pack["VidRD_EmptyClip"].GET_SCHEMA().inputs[:3]}
    assert clip == {"width": 256, "height": 256, "frames": 8}


def test_the_built_in_model_comes_first(pack):
    for name in ("LoadUNet3D", "LoadTemporalVAE", "LoadTextEncoder"):
        assert pack[f"VidRD_{name}"].GET_SCHEMA().inputs[0].options[0] == "tiny (built in)"


def test_the_reuse_map_is_drawn(run):
    settings = {"prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "frames": 8, "steps": 50}
    (mirror,) = run("ReuseMap", order="mirror", **settings)
    (forward,) = run("ReuseMap", order="forward", **settings)
    assert mirror.shape[0] == 1
    assert mirror.shape[3] == 3
    assert not torch.equal(mirror, forward)
