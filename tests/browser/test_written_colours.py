"""Chromium shows the frames that were written: their colours, their times, and without end where that can be."""

import base64

import numpy as np
import pytest

from ..core.video.colours import SIZES, check_gradient, check_patches, gradient, patches
from ..core.video.helpers import clip, psnr, write

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
        video.requestVideoFrameCallback(done);
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

ANIMATION = """
async ([data, kind]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const decoder = new ImageDecoder({ data: bytes, type: kind });
    await decoder.tracks.ready;
    await decoder.completed;
    const { frameCount, repetitionCount } = decoder.tracks.selectedTrack;
    const frames = [];
    for (let frameIndex = 0; frameIndex < frameCount; frameIndex++) {
        const { image } = await decoder.decode({ frameIndex });
        const context = new OffscreenCanvas(image.displayWidth, image.displayHeight).getContext("2d");
        context.drawImage(image, 0, 0);
        const pixels = context.getImageData(0, 0, image.displayWidth, image.displayHeight).data;
        frames.push([image.duration, Array.from(pixels)]);
    }
    return [repetitionCount === Infinity, frames];
}
"""


@pytest.fixture(scope="module")
def tab(chromium):
    """An empty page that counts as safe, without which there is no `ImageDecoder`."""
    tab = chromium.new_page()
    tab.route("**/*", lambda route: route.fulfill(content_type="text/html", body=""))
    tab.goto("http://localhost/")
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


@pytest.mark.parametrize("name", ["v.webp", "v.apng", "v.gif"])
def test_chromium_plays_animated_pictures(tab, tmp_path, name):
    frames = clip(5, 24, 31)
    write(tmp_path / name, frames, fps=12.5)
    data = base64.b64encode((tmp_path / name).read_bytes()).decode()
    kind = {"v.apng": "image/png"}.get(name, f"image/{name[2:]}")
    is_endless, found = tab.evaluate(ANIMATION, [data, kind])
    assert is_endless
    assert [duration for duration, _ in found] == [80_000] * 5  # microseconds
    shown = np.array([pixels for _, pixels in found]).reshape(5, 24, 31, 4)[..., :3]
    if name == "v.gif":
        assert psnr(shown, frames) > 34
    else:
        assert np.array_equal(shown, frames)
