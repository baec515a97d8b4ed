"""Frames of a clip backwards, against the same frames in order."""

from dataclasses import replace

import numpy as np
import pytest

from staf_cli.core.span import Span
from staf_cli.video import Damage, backwards, frames, frames_before, probe
from tests.video.test_spans import made


def in_order(clip):
    found = list(frames(clip, Damage()))
    return found, np.array([frame.time for frame in found])


@pytest.mark.parametrize("name", ["h264.mp4", "open.ts", "uneven.mkv", "vp8.webm"])
def test_they_are_the_same_frames_the_last_one_first(tmp_path, name, monkeypatch):
    clip = probe(made(tmp_path, name))
    whole, times = in_order(clip)
    monkeypatch.setattr(backwards, "LARGEST_PIECE", 3 * clip.width * clip.height * 7)
    for end in (60, 31, 1):
        got = list(frames_before(clip, Damage(), times, end))
        assert [(f.index, f.pts) for f in got] == [(f.index, f.pts) for f in whole[:end]][::-1]
        for one, other in zip(got, whole[:end][::-1], strict=True):
            assert np.array_equal(one.image, other.image)


def test_a_span_ends_where_it_does(tmp_path):
    clip = replace(probe(made(tmp_path, "h264.mp4")), span=Span(0.5, 1.2))
    whole, times = in_order(clip)
    got = list(frames_before(clip, Damage(), times, len(whole)))
    assert [frame.index for frame in got] == [frame.index for frame in whole][::-1]


@pytest.mark.parametrize(("name", "read"), [("h264.mp4", 60), ("vp8.webm", 0)])
def test_long_files_that_cannot_be_entered_are_not_read(tmp_path, name, read, monkeypatch):
    clip = probe(made(tmp_path, name))
    _, times = in_order(clip)
    monkeypatch.setattr(backwards, "SHORT", 20)
    assert len(list(frames_before(clip, Damage(), times, 60))) == read
    assert len(list(frames_before(clip, Damage(), times, 20))) == 20
