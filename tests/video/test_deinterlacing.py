"""Interlaced videos: each picture is woven from two moments, and comes out as one."""

from pathlib import Path

import numpy as np
import pytest

from staf_cli.core.records import Clip, Frame, Image
from staf_cli.core.span import WHOLE, Span
from staf_cli.video import Damage, frames, inspect, probe, remarks
from tests.support.made_clips import make_clip, pattern

SIZE = (192, 128)
FRAMES = 10
LATER = 3  # the second field's pattern is so many steps later, or 21 px to the right


def grey(index: int, width: int, height: int) -> Image:
    """Without colour, whose half resolution would mix the two fields."""
    return np.broadcast_to(pattern(index, width, height)[..., :1], (height, width, 3)).copy()


def woven(index: int, width: int, height: int) -> Image:
    """Even rows of one moment, odd rows of a later one."""
    image = grey(2 * LATER * index, width, height)
    image[1::2] = grey(2 * LATER * index + LATER, width, height)[1::2]
    return image


def interlaced(path: Path, codec: str = "libx264") -> Path:
    """An interlaced video; its encoder writes that the lower field, of odd rows, is the first."""
    if codec == "libx264":
        options = {"x264-params": "bff=1", "crf": "8", "g": "4"}
    else:
        options = {"flags": "+ildct+ilme", "b": "9M"}
    return make_clip(
        path, range(FRAMES), width=SIZE[0], height=SIZE[1], codec=codec, options=options,
        picture=woven,
    )  # fmt: skip


def read(path: Path, span: Span = WHOLE, deinterlace: bool = True) -> tuple[Clip, list[Frame]]:
    clip = probe(path, span, deinterlace=deinterlace)
    return clip, list(frames(clip, inspect(clip)))


def combing(image: Image) -> float:
    """How much more neighbouring rows differ than rows of one field do."""
    rows = image.astype(float).mean(-1)
    one, two = np.abs(rows[1:] - rows[:-1]).mean(), np.abs(rows[2:] - rows[:-2]).mean()
    return float(one - two)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mts", "libx264"), ("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.mpg", "mpeg2video")],
)
def test_interlaced_pictures_become_one_moment(tmp_path, name, codec):
    path = interlaced(tmp_path / name, codec)
    clip, shown = read(path)
    _, left = read(path, deinterlace=False)
    assert [(f.index, f.pts) for f in shown] == [(f.index, f.pts) for f in left]
    assert len(shown) == FRAMES
    for frame, raw in zip(shown, left, strict=True):
        assert combing(frame.image) < 0.5 < 2 < combing(raw.image)
        expected = grey(2 * LATER * frame.index + LATER, *SIZE)
        off, raw_off = (np.abs(i.astype(int) - expected).mean() for i in (frame.image, raw.image))
        assert off < 0.6 * raw_off
    assert "interlaced: deinterlaced" in remarks(clip, inspect(clip))[0]


def test_it_can_be_left_and_is_said(tmp_path):
    path = interlaced(tmp_path / "v.mts")
    clip, shown = read(path, deinterlace=False)
    assert "left so" in remarks(clip, inspect(clip))[0]
    assert all(np.abs(f.image.astype(int) - woven(f.index, *SIZE)).mean() < 3 for f in shown)


def test_progressive_videos_are_left_alone(tmp_path):
    path = make_clip(tmp_path / "v.mp4", range(6), picture=woven)
    clip, shown = read(path)
    _, raw = read(path, deinterlace=False)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(shown, raw, strict=True))
    assert not inspect(clip).interlaced and remarks(clip, inspect(clip)) == []


def mixed(path: Path) -> Path:
    """A recording that becomes interlaced on the way: two streams, one after the other."""
    options = {"g": "4", "bf": "0"}
    make_clip(path.with_name("a.ts"), range(8), width=SIZE[0], height=SIZE[1], options=options)
    interlaced(path.with_name("b.ts"))
    path.write_bytes(path.with_name("a.ts").read_bytes() + path.with_name("b.ts").read_bytes())
    return path


def test_every_pass_and_every_span_sees_the_same_pictures(tmp_path):
    for path in (interlaced(tmp_path / "v.mts"), mixed(tmp_path / "mixed.ts")):
        clip, whole = read(path)
        again = list(frames(clip, Damage(packets=1)))  # decoded by a single thread
        assert all(np.array_equal(a.image, b.image) for a, b in zip(whole, again, strict=True))
        assert inspect(clip).interlaced == FRAMES
        for start in (0.08, 0.16, 0.24):
            part = read(path, Span(start, 0.5))[1]
            expected = [f for f in whole if start <= f.time < 0.5]
            assert [(f.index, f.pts) for f in part] == [(f.index, f.pts) for f in expected]
            pairs = zip(part, expected, strict=True)
            assert all(np.array_equal(a.image, b.image) for a, b in pairs)
