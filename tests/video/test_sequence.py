"""Folders of pictures as clips; Pillow and OpenCV make the pictures and are the judges."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.records import Frame
from staf_cli.core.span import Span
from staf_cli.video import (
    Damage,
    content_hash,
    frames,
    inspect,
    is_sequence,
    pictures_in,
    probe,
    remarks,
    suffix_for,
    write,
    write_picture,
)
from tests.support.made_clips import make_clip, pattern

SIZE = (128, 96)


def picture(index: int) -> PIL.Image.Image:
    return PIL.Image.fromarray(pattern(index, *SIZE))


def make_pictures(folder: Path, count: int = 6, name: str = "frame{}.png") -> Path:
    folder.mkdir()
    for index in range(count):
        picture(index).save(folder / name.format(index))
    return folder


def read(folder: Path, span: Span = Span(), fps: float | None = None) -> list[Frame]:  # noqa: B008
    clip = probe(folder, span, fps)
    return list(frames(clip, inspect(clip)))


def only(folder: Path) -> np.ndarray:
    """The image of the only picture in a folder."""
    assert not inspect(probe(folder))
    (frame,) = read(folder)
    assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
    return frame.image


def test_a_folder_is_a_clip_in_natural_order(tmp_path):
    folder = make_pictures(tmp_path / "shot", 12)
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._frame3.png").write_text("what macOS leaves on foreign disks")
    clip = probe(folder)
    assert (clip.image_size, clip.fps, clip.frames, clip.has_audio) == (SIZE, 25.0, 12, False)
    shown = read(folder)
    assert [(f.index, f.pts, f.time) for f in shown] == [(k, k, k / 25) for k in range(12)]
    for frame in shown:
        assert np.array_equal(frame.image, pattern(frame.index, *SIZE))
    assert is_sequence(folder) and not is_sequence(tmp_path) and not is_sequence(tmp_path / "x")
    assert [p.name for p in pictures_in(folder)][:3] == ["frame0.png", "frame1.png", "frame2.png"]


def test_numbers_sort_by_value_and_equal_ones_by_name(tmp_path):
    names = ["a9.png", "a09.png", "A10.png", "a10b2.png", "a10b10.png", "b1.png", "1.png", "02.png"]
    for name in names:
        (tmp_path / name).touch()
    expected = ["1.png", "02.png", "a09.png", "a9.png", "A10.png", "a10b2.png", "a10b10.png"]
    assert [p.name for p in pictures_in(tmp_path)] == [*expected, "b1.png"]


def test_the_rate_is_the_users(tmp_path):
    folder = make_pictures(tmp_path / "shot", 5)
    shown = read(folder, fps=23.976)
    assert [f.time for f in shown] == pytest.approx([k / 23.976 for k in range(5)], rel=1e-15)
    assert [f.time for f in read(folder, fps=0.5)] == [0, 2, 4, 6, 8]
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="choose pictures a second"):
            probe(folder, fps=fps)
    with pytest.raises(UsageError, match="a video has its own times"):
        probe(make_clip(tmp_path / "v.mp4", range(2)), fps=30)


def test_a_span_of_pictures(tmp_path):
    folder = make_pictures(tmp_path / "shot", 10)
    whole = read(folder, fps=10)
    part = read(folder, Span(0.3, 0.7), fps=10)
    assert [(f.index, f.pts, f.time) for f in part] == [(k, k, k / 10) for k in (3, 4, 5, 6)]
    assert all(np.array_equal(f.image, whole[f.index].image) for f in part)
    assert probe(folder, Span(0.3, 0.7), fps=10).frames == 4
    with pytest.raises(VideoError, match=r"nothing from 2 s to the end; its 10 pictures .* 1 s"):
        probe(folder, Span(2.0), fps=10)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("p.png", {}, 0),
        ("p.bmp", {}, 0),
        ("p.tif", {"compression": "tiff_lzw"}, 0),
        ("p.TIFF", {}, 0),
        ("p.webp", {"lossless": True}, 0),
        ("p.webp", {"quality": 95}, 3),
        ("p.jpg", {"quality": 95}, 3),
        ("p.JPEG", {"quality": 95, "progressive": True}, 3),
    ],
)
def test_any_kind_of_picture(tmp_path, name, options, tolerance):
    picture(3).save(tmp_path / name, **options)
    got = only(tmp_path).astype(int)
    assert np.abs(got - pattern(3, *SIZE)).mean() <= tolerance


@pytest.mark.parametrize("name", ["p.png", "p.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_become_eight(tmp_path, name, channels):
    rgba = np.dstack([pattern(2, *SIZE), np.full((96, 128), 255)]).astype(np.uint16) * 257
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / name), rgba[..., order])
    expected = np.broadcast_to(rgba[..., : min(3, channels)] // 257, (96, 128, 3)).astype(int)
    assert np.abs(only(tmp_path) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_grey_palettes_and_print_become_rgb(tmp_path, mode):
    made = picture(1).convert(mode)
    suffix = "jpg" if mode == "CMYK" else "png"
    options: dict[str, Any] = {"quality": 95} if mode == "CMYK" else {}
    made.save(tmp_path / f"p.{suffix}", **options)
    expected = np.asarray(made.convert("RGB")).astype(int)
    assert np.abs(only(tmp_path) - expected).mean() <= (3 if mode == "CMYK" else 0)


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.webp"])
def test_transparent_pictures_are_laid_on_black(tmp_path, name):
    alpha = np.tile(np.arange(128, dtype=np.uint8) * 2, (96, 1))
    rgba = np.dstack([pattern(0, *SIZE), alpha])
    options: dict[str, Any] = {"lossless": True, "exact": True} if name == "p.webp" else {}
    PIL.Image.fromarray(rgba).save(tmp_path / name, **options)
    expected = pattern(0, *SIZE) * (alpha[..., None] / 255)
    assert np.abs(only(tmp_path) - expected).max() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif", "p.webp"])
def test_exif_rotation_is_applied(tmp_path, name, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    picture(0).save(tmp_path / name, exif=exif, quality=95)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(tmp_path / name)).convert("RGB")
    expected = np.asarray(upright).astype(int)
    for path in (tmp_path, tmp_path / name):  # the file alone is a clip of one frame
        clip = probe(path)
        assert not inspect(clip)
        (frame,) = frames(clip, Damage())
        assert frame.image.shape == expected.shape == (clip.height, clip.width, 3)
        assert np.abs(frame.image - expected).mean() < 3


def test_what_cannot_be_read_is_counted_and_left_out(tmp_path):
    folder = make_pictures(tmp_path / "shot", 10)
    (folder / "frame2.png").write_bytes(b"")
    (folder / "frame3.png").write_text("ffconcat version 1.0\nfile frame1.png\n")
    (folder / "frame6.png").unlink()
    (folder / "frame6.png").mkdir()  # no picture at all: a gap
    clip = probe(folder)
    damage = inspect(clip)
    assert clip.frames == 9
    assert (damage.packets, damage.missing) == (2, 0)
    assert damage.pictures == ("frame2.png (empty)", "frame3.png (no picture)")
    assert remarks(clip, damage) == [
        "the numbers of the pictures have gaps, which are gaps in time: frame6.png",
        "pictures that cannot be read in full: frame2.png (empty), frame3.png (no picture)",
    ]
    shown = list(frames(clip, damage))
    assert [f.pts for f in shown] == [0, 1, 4, 5, 7, 8, 9]
    assert [f.index for f in shown] == list(range(7))
    assert all(np.array_equal(f.image, pattern(f.pts, *SIZE)) for f in shown)
    later = [(f.index, f.pts) for f in read(folder, Span(0.12))]
    assert later == [(f.index, f.pts) for f in shown if f.time >= 0.12]
    assert not inspect(probe(folder, Span(0.16)))


@pytest.mark.parametrize("name", ["frame{}.png", "frame{}.jpg", "frame{}.webp", "frame{}.tif"])
def test_a_picture_cut_off_is_damage(tmp_path, name):
    folder = make_pictures(tmp_path / "shot", 4, name)
    path = folder / name.format(2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = probe(folder)
    assert inspect(clip).packets == 1
    assert inspect(clip).pictures[0].startswith(f"{path.name} (damaged")
    shown = list(frames(clip, inspect(clip)))
    assert [f.pts for f in shown if f.pts != 2] == [0, 1, 3]
    assert [f.index for f in shown] == list(range(len(shown)))


def test_missing_numbers_are_gaps_in_time(tmp_path):
    folder = make_pictures(tmp_path / "shot", 12, "f_{:04}.png")
    for lacking in (3, 4, 8):
        (folder / f"f_{lacking:04}.png").unlink()
    here = [0, 1, 2, 5, 6, 7, 9, 10, 11]
    shown = read(folder, fps=10)
    assert [(f.index, f.pts, f.time) for f in shown] == [(n, k, k / 10) for n, k in enumerate(here)]
    assert all(np.array_equal(f.image, pattern(f.pts, *SIZE)) for f in shown)
    clip = probe(folder)
    assert not inspect(clip)
    assert remarks(clip, inspect(clip)) == [
        "the numbers of the pictures have gaps, which are gaps in time: "
        "f_0003.png to f_0004.png, f_0008.png"
    ]
    part = read(folder, Span(0.5, 1.0), fps=10)
    assert [(f.index, f.pts) for f in part] == [(3, 5), (4, 6), (5, 7), (6, 9)]


@pytest.mark.parametrize(
    ("numbers", "lacking"),
    [
        ([7, 8, 9, 12, 13, 20], "010.png to 011.png, 014.png to 019.png"),
        ([1, 2, 3, 501, 502, 503], "004.png to 500.png"),
        ([1, 3, 4, 6, 7], "002.png, 005.png"),
        ([10, 20, 30, 60, 70, 200], "040.png to 050.png, 080.png to 190.png"),
    ],
)
def test_gaps_are_kept_however_wide_where_numbers_count_pictures(tmp_path, numbers, lacking):
    for number in numbers:
        picture(number).save(tmp_path / f"{number:03}.png")
    clip = probe(tmp_path, fps=10)
    step = 10 if all(number % 10 == 0 for number in numbers) else 1
    want = [(number - numbers[0]) / step / 10 for number in numbers]
    assert [f.time for f in read(tmp_path, fps=10)] == pytest.approx(want)
    assert remarks(clip, inspect(clip)) == [
        f"the numbers of the pictures have gaps, which are gaps in time: {lacking}"
    ]


@pytest.mark.parametrize("numbers", [[1, 1000, 3000], [5, 6, 90, 400], [33, 67, 100, 133]])
def test_numbers_of_something_else_are_said_to_be_left_aside(tmp_path, numbers):
    for number in numbers:
        picture(number).save(tmp_path / f"{number}.png")
    clip = probe(tmp_path)
    assert [f.pts for f in read(tmp_path)] == list(range(len(numbers)))
    assert remarks(clip, inspect(clip)) == [
        "the numbers of the pictures have too many gaps to be times: "
        f"{numbers[0]}.png to {numbers[-1]}.png are shown one after another"
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["a10", "a20", "a30", "a40"],  # every tenth
        ["shot1_take3", "shot2_take1", "shot2_take2"],
        ["a", "b", "c"],
        ["a1", "a01", "a3"],
        ["left", "1", "2", "4"],
    ],
)
def test_other_numbers_do_not_count_pictures(tmp_path, names):
    for number, name in enumerate(names):
        picture(number).save(tmp_path / f"{name}.png")
    clip = probe(tmp_path)
    assert [f.pts for f in read(tmp_path)] == list(range(len(names)))
    assert remarks(clip, inspect(clip)) == []


def with_other_sizes(folder: Path) -> Path:
    make_pictures(folder, 8)
    picture(2).resize((64, 48)).save(folder / "frame2.png")
    picture(5).rotate(90, expand=True).save(folder / "frame5.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = picture(6).rotate(90, expand=True)  # lies on its side, as its header says
    turned.save(folder / "frame6.png", exif=exif)
    return folder


def test_sizes_that_differ_are_refused_with_the_list(tmp_path):
    folder = with_other_sizes(tmp_path / "shot")
    listed = r"2 of 8 pictures are not 128 x 96 .*: frame2.png \(64 x 48\), frame5.png \(96 x 128\)"
    with pytest.raises(VideoError, match=listed + "; --fit") as refused:
        probe(folder)
    assert "\n" not in str(refused.value)
    assert probe(folder, Span(0, 0.08)).frames == 2  # what is not looked at may be of any size


def test_sizes_that_differ_are_fitted_if_that_is_wanted(tmp_path):
    clip = probe(with_other_sizes(tmp_path / "shot"), fit=True)
    damage = inspect(clip)
    assert not damage and clip.image_size == SIZE
    shown = list(frames(clip, damage))
    assert [f.pts for f in shown] == list(range(8))
    assert np.abs(shown[2].image.astype(int) - pattern(2, *SIZE)).mean() < 8
    assert not shown[5].image[:, :28].any() and not shown[5].image[:, 100:].any()
    fitted = picture(5).rotate(90, expand=True).resize((72, 96))
    assert np.abs(shown[5].image[:, 28:100].astype(int) - np.asarray(fitted)).mean() < 5
    assert np.abs(shown[6].image.astype(int) - pattern(6, *SIZE)).mean() < 1


def test_names_may_lie_and_may_look_like_patterns(tmp_path):
    picture(0).save(tmp_path / "100%d.png", format="png")
    picture(1).save(tmp_path / "101.jpg", format="png")
    assert not inspect(probe(tmp_path))
    shown = read(tmp_path)
    assert all(np.array_equal(f.image, pattern(f.index, *SIZE)) for f in shown)
    assert len(shown) == 2


def test_folders_that_are_no_clip_are_refused_in_one_line(tmp_path):
    with pytest.raises(VideoError, match="a folder without pictures"):
        probe(tmp_path)
    (tmp_path / "a.png").write_text("dear diary")
    (tmp_path / "b.png").touch()
    with pytest.raises(VideoError, match="not one of its 2 pictures can be read"):
        probe(tmp_path)


def test_the_first_readable_picture_sets_the_size(tmp_path):
    folder = make_pictures(tmp_path / "shot", 3)
    (folder / "frame0.png").write_bytes(b"gone")
    assert probe(folder).image_size == SIZE
    assert [f.pts for f in read(folder)] == [1, 2]


def test_a_bomb_is_refused_without_being_unpacked(tmp_path):
    """16,000 x 16,000 pixels of nothing are a file of 36 kB."""
    PIL.Image.new("1", (16_000, 16_000)).save(tmp_path / "bomb.png")
    with pytest.raises(VideoError, match="larger than 150 million pixels"):
        probe(tmp_path)
    with pytest.raises(VideoError, match="150 million"):
        probe(tmp_path / "bomb.png")
    PIL.Image.new("1", (17_000, 10)).save(tmp_path / "bomb.png")
    with pytest.raises(VideoError, match="not one of its 1 pictures"):
        probe(tmp_path)
    with pytest.raises(VideoError, match="17000 x 10 pixels are more than staf takes"):
        probe(tmp_path / "bomb.png")


def test_the_hash_knows_names_and_contents(tmp_path):
    folder = make_pictures(tmp_path / "shot", 3)
    first = content_hash(folder)
    (folder / "notes.txt").write_text("not a picture")
    assert content_hash(folder) == first
    (folder / "frame2.png").rename(folder / "frame3.png")
    renamed = content_hash(folder)
    (folder / "frame3.png").write_bytes(b"other")
    assert len({first, renamed, content_hash(folder)}) == 3
    video = make_clip(tmp_path / "v.mp4", range(2))
    assert content_hash(video) == hashlib.sha256(video.read_bytes()).hexdigest()


def test_pictures_become_a_film(tmp_path):
    folder = make_pictures(tmp_path / "shot", 6)
    clip = probe(folder, Span(0.2), fps=10)
    assert write(tmp_path / "o.mp4", clip, frames(clip, Damage())) is None
    shown = read(tmp_path / "o.mp4")
    assert [f.time for f in shown] == pytest.approx([0, 0.1, 0.2, 0.3])
    for frame, index in zip(shown, (2, 3, 4, 5), strict=True):
        assert np.abs(frame.image.astype(int) - pattern(index, *SIZE)).mean() < 3


@pytest.mark.parametrize("suffix", [".avif", ".bmp", ".jpg", ".png", ".tif", ".webp"])
def test_a_picture_file_is_one_still_picture(tmp_path, suffix):
    path = tmp_path / f"photo{suffix}"
    picture(3).save(path)
    clip = probe(path)
    (frame,) = frames(clip, inspect(clip))
    assert clip.pictures and replace(clip, frames=1).still
    assert frame.image.shape == (*SIZE[::-1], 3)


def test_only_single_pictures_are_still(tmp_path):
    assert probe(make_pictures(tmp_path / "one", 1)).still
    assert not probe(make_pictures(tmp_path / "two", 2)).still
    assert not replace(probe(make_clip(tmp_path / "one.mp4", range(1))), frames=1).still


def test_a_still_picture_is_written_without_loss(tmp_path):
    clip = probe(make_pictures(tmp_path / "one", 1))
    path = tmp_path / "out" / f"overlay{suffix_for(None, clip.still)}"
    write_picture(path, clip, frames(clip, Damage()))
    assert path.name == "overlay.png" and suffix_for("mpeg4", clip.still) == ".mp4"
    assert np.array_equal(np.asarray(PIL.Image.open(path)), pattern(0, *SIZE))
    with pytest.raises(VideoError, match="no frame to write"):
        write_picture(path, clip, [])


@pytest.mark.parametrize("brand", [b"heic", b"heix"])
def test_heic_is_refused_with_what_to_do(tmp_path, brand):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(bytes([0, 0, 0, 24]) + b"ftyp" + brand + bytes(100))
    with pytest.raises(VideoError, match="HEIC pictures are not read; save it as JPEG or PNG"):
        probe(path)
