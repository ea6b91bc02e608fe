"""Chromium's player shows the colours of the frames that were written."""

import base64

import numpy as np
import pytest

from ..core.video.colours import SIZES, check_gradient, check_patches, gradient, patches
from ..core.video.helpers import write

SHOW = """
async ([data, kind]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const video = document.createElement("video");
    video.muted = true;
    await new Promise((done, failed) => {
        video.onloadeddata = done;
        video.onerror = () => failed(new Error(video.error.message));
        video.src = URL.createObjectURL(new Blob([bytes], { type: kind }));
    });
    await new Promise((done) => {  // before that no frame has come to the page
        video.onseeked = done;
        video.currentTime = 0.01;
    });
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const { width, height, data: pixels } = context.getImageData(0, 0, canvas.width, canvas.height);
    let text = "";
    for (let at = 0; at < pixels.length; at += 0x8000) {
        text += String.fromCharCode(...pixels.subarray(at, at + 0x8000));
    }
    return [height, width, btoa(text)];
}
"""


@pytest.fixture(scope="module")
def tab(chromium):
    """An empty page."""
    tab = chromium.new_page()
    yield tab
    tab.close()


def shown(tab, path):
    """The first frame of a video as the page shows it, uint8 [H, W, 3]."""
    data = base64.b64encode(path.read_bytes()).decode()
    height, width, pixels = tab.evaluate(SHOW, [data, f"video/{path.suffix[1:]}"])
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_chromium_shows_the_colours(tab, tmp_path, name, size):
    write(tmp_path / name, patches(*size)[None].repeat(2, 0))
    check_patches(shown(tab, tmp_path / name))
    write(tmp_path / name, gradient(*size)[None].repeat(2, 0))
    check_gradient(shown(tab, tmp_path / name))
