"""Every example workflow, run unchanged by ComfyUI to finished videos."""

import asyncio
import json
from pathlib import Path

import pytest

from vidrd_core.video import read_video

from ..workflows.convert import to_prompt
from ..workflows.files import EXAMPLES, PATHS, read
from ..workflows.stock import definitions, has_loops
from .graphs import chain

OTHERS = ("11_", "12_", "13_")  # need the user's files: see test_third_party_examples
RUN = [
    path
    for path in PATHS
    if path.parent == EXAMPLES and not has_loops(read(path)) and not path.name.startswith(OTHERS)
]
STEPS = 3  # in place of the examples' own, to be done sooner
FRAMES = {  # of the videos that each makes
    "1_first_clip": [8],
    "2_long_video_chained": [16],
    "3_long_video_in_one_node": [28],
    "4_parts_with_sampler_custom": [16],
    "5_save_resume_branch": [12, 12],
    "7_prompt_list": [24],
    "8_pseudo_video": [32],
    "9_inflate_checkpoint": [8],
    "10_extend_footage": [14],
    "14_compare_settings": [],  # a picture
    "15_seam_report": [32],
    "16_feature_cache": [28],
}


@pytest.fixture
def example(host, execute):
    """A function that runs a workflow: the prompt, the errors, and the new videos."""
    asyncio.run(host.nodes.init_builtin_extra_nodes())
    output = Path(host.folder_paths.get_output_directory())

    def example(workflow):
        prompt = to_prompt(workflow, definitions())
        for node in prompt.values():
            if "steps" in node["inputs"]:
                node["inputs"]["steps"] = STEPS
        before = set(output.rglob("*.mp4"))
        _, errors, refused = execute(prompt)
        return prompt, [*errors, *refused.values()], sorted(set(output.rglob("*.mp4")) - before)

    return example


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_it_writes_finished_videos(example, path):
    prompt, wrong, videos = example(read(path))
    assert wrong == []
    assert [len(read_video(video)[0]) for video in videos] == FRAMES[path.stem]
    used = {node["class_type"] for node in prompt.values()}
    assert used & {"VidRD_WriteClip", "VidRD_LongVideo", "VidRD_PseudoVideo", "VidRD_CompareSettings"}


def test_the_bypassed_part_of_the_resume_example_extends_a_saved_state(example, host):
    workflow = read(EXAMPLES / "5_save_resume_branch.json")
    _, wrong, _ = example(workflow)
    assert wrong == []
    saved = max(Path(host.folder_paths.get_output_directory()).rglob("branch_clip_0000_*.safetensors"))
    workflow = json.loads(json.dumps(workflow))
    for node in workflow["nodes"]:
        node["mode"] = 0
        if node["type"] == "VidRD_LoadState":
            node["widgets_values"] = [f"output/vidrd/{saved.name}"]
    _, wrong, videos = example(workflow)
    assert wrong == []
    (resumed,) = [video for video in videos if video.name.startswith("resumed")]
    assert len(read_video(resumed)[0]) == 4


def test_the_subgraph_blueprint_writes_a_video_of_three_clips(execute, host):
    (path,) = [path for path in PATHS if path.parent != EXAMPLES]
    blueprint = read(path)
    (node,) = blueprint["nodes"]
    names = [each["name"] for each in node["inputs"] if "widget" in each]
    settings = dict(zip(names, node["widgets_values"], strict=True))
    settings |= {"steps": STEPS, "cfg": 2.5, "filename_prefix": "blueprint/v"}  # of all clips, from outside
    node["widgets_values"] = list(settings.values())
    inside = to_prompt(blueprint, definitions())
    graph = {name: node for name, node in chain(1).items() if not name.startswith(("clip", "see", "save"))}
    outside = {"model": "model", "positive": "positive", "negative": "negative", "latent": "empty", "vae": "vae"}
    for node in inside.values():
        for name, source in outside.items():
            if name in definitions()[node["class_type"]]["input"]["required"]:
                node["inputs"].setdefault(name, [source, 0])
        assert node["inputs"].get("steps", STEPS) == STEPS
    _, errors, refused = execute({**graph, **inside})
    assert (errors, refused) == ([], {})
    (video,) = (Path(host.folder_paths.get_output_directory()) / "blueprint").iterdir()
    assert len(read_video(video)[0]) == 24
