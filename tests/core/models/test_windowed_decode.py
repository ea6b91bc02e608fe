"""Windows over a video that arrives in chunks: which latents are decoded together, and when frames are final."""

import pytest
import torch

from vidrd_core.models.streaming_decode import decode_windows


def frame_numbers(frames):
    """Latents that are their own frame numbers, [1, 1, F, 1, 1]."""
    return torch.arange(frames).view(1, 1, -1, 1, 1)


def listed(video):
    return video.flatten().tolist()


class Recorder:
    """A decoder that returns its latents."""

    def __init__(self):
        self.windows = []

    def __call__(self, latents):
        self.windows.append(listed(latents))
        return latents


@pytest.mark.parametrize("context", [0, 1, 4])
@pytest.mark.parametrize("sizes", [[17], [8, 8, 1], [1] * 17, [5, 0, 5, 7], [3, 14]])
def test_every_frame_is_decoded_once_with_its_context(sizes, context):
    windows = []

    def decode(latents):  # with the number of the window in a second channel
        windows.append(listed(latents))
        return torch.cat([latents, torch.full_like(latents, len(windows) - 1)], dim=1)

    video = torch.cat(list(decode_windows(decode, frame_numbers(17).split(sizes, dim=2), context)), dim=2)
    assert listed(video[:, 0]) == list(range(17))
    assert max(map(len, windows)) <= max(sizes) + 2 * context
    for frame, source in zip(listed(video[:, 0]), listed(video[:, 1]), strict=True):
        assert {n for n in range(frame - context, frame + context + 1) if 0 <= n < 17} <= set(windows[source])


def test_frames_are_yielded_when_their_context_is_known():
    decode = Recorder()
    pieces = list(map(listed, decode_windows(decode, frame_numbers(24).split(8, dim=2), 3)))
    assert pieces == [list(range(5)), list(range(5, 13)), list(range(13, 21)), [21, 22, 23]]
    assert decode.windows == [list(range(8)), list(range(2, 16)), list(range(10, 24))]


def test_one_chunk_is_decoded_once_and_whole():
    decode = Recorder()
    pieces = list(decode_windows(decode, [frame_numbers(30)], 4))
    assert decode.windows == [list(range(30))]
    assert listed(torch.cat(pieces, dim=2)) == list(range(30))


@pytest.mark.parametrize("past", [0, 2, 4, 9])
def test_past_latents_are_context_and_not_yielded(past):
    decode = Recorder()
    late = frame_numbers(30)[:, :, 10:].split(8, dim=2)
    pieces = list(decode_windows(decode, late, 4, frame_numbers(10)[:, :, 10 - past :]))
    assert listed(torch.cat(pieces, dim=2)) == list(range(10, 30))
    assert decode.windows[0] == list(range(10 - min(past, 4), 18))


def test_no_chunks_give_no_frames():
    assert list(decode_windows(Recorder(), [], 4)) == []
    assert list(decode_windows(Recorder(), [], 4, frame_numbers(3))) == []
