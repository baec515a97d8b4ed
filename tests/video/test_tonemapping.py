"""High dynamic range: what the ITU's closed formulas say, computed here by plain numbers."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from staf_cli.core.records import Clip, Hdr
from staf_cli.video import frames, inspect, probe, remarks
from tests.support.made_clips import make_clip, pattern

LUMA = (0.2627, 0.6780, 0.0593)  # BT.2020
GREYS = tuple((k, k, k) for k in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.58, 0.65, 0.7, 0.75, 0.9, 1.0))
COLOURS = ((0.45, 0.4, 0.38), (0.3, 0.42, 0.35), (0.35, 0.36, 0.5), (0.6, 0.55, 0.5))


def pq_light(signal: float) -> float:
    """BT.2100, table 4: cd/m2."""
    power = signal ** (1 / 78.84375)
    return float(10_000 * (max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** 6.27739)


def pq_signal(light: float) -> float:
    power = (light / 10_000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hlg_light(rgb: tuple[float, ...]) -> list[float]:
    """BT.2100, table 5, on a screen of 1000 cd/m2."""
    scene = [
        e * e / 3 if e <= 0.5 else (np.exp((e - 0.559911) / 0.178833) + 0.284669) / 12 for e in rgb
    ]
    luma = sum(weight * e for weight, e in zip(LUMA, scene, strict=True))
    return [1000 * luma**0.2 * e for e in scene]


def compress(light: float, peak: float) -> float:
    """BT.2390, 5.4.1, onto a screen whose white is 203 cd/m2 (BT.2408)."""
    e1, top = pq_signal(light) / pq_signal(peak), pq_signal(203) / pq_signal(peak)
    start = 1.5 * top - 0.5
    if min(e1, 1) >= start:
        t = (min(e1, 1) - start) / (1 - start)
        e1 = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * (1 - start)
        e1 += (-2 * t**3 + 3 * t**2) * top
    return pq_light(e1 * pq_signal(peak))


def expected(rgb: tuple[float, ...], curve: str, peak: float) -> np.ndarray:
    """0..255 of BT.709."""
    light = [pq_light(e) for e in rgb] if curve == "PQ" else hlg_light(rgb)
    brightest = max(light)
    if brightest > 0:
        light = [e * compress(brightest, peak) / brightest for e in light]
    r, g, b = (e / 203 for e in light)
    linear = [
        1.6605 * r - 0.5876 * g - 0.0728 * b,
        -0.1246 * r + 1.1329 * g - 0.0083 * b,
        -0.0182 * r - 0.1006 * g + 1.1187 * b,
    ]
    return 255 * np.clip(linear, 0, 1) ** (1 / 2.4)


def ten_bit(rgb: tuple[float, ...]) -> tuple[int, int, int]:
    """Y'CbCr of BT.2020, limited range."""
    y = sum(weight * e for weight, e in zip(LUMA, rgb, strict=True))
    cb, cr = (rgb[2] - y) / 1.8814, (rgb[0] - y) / 1.4746
    return round(64 + 876 * y), round(512 + 896 * cb), round(512 + 896 * cr)


def film(path: Path, colours: tuple[tuple[float, ...], ...], trc: int, params: str = "") -> Path:
    """A lossless video in which each picture has one colour, R'G'B' of BT.2020 in 0..1."""
    with av.open(str(path), "w") as output:
        options = {"x265-params": f"log-level=none:lossless=1:bframes=0{params}"}
        video = output.add_stream("libx265", rate=25, options=options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        context = video.codec_context
        context.colorspace, context.color_primaries = Colorspace.BT2020, ColorPrimaries.BT2020
        context.color_trc, context.color_range = trc, ColorRange.MPEG
        for number, colour in enumerate(colours):
            y, cb, cr = ten_bit(colour)
            planes = np.full((48 * 3 // 2, 64), y, np.uint16)
            planes[48:60], planes[60:] = cb, cr
            made = av.VideoFrame.from_ndarray(planes, "yuv420p10le")
            made.pts, made.time_base = number, Fraction(1, 25)
            output.mux(video.encode(made))
        output.mux(video.encode(None))
    return path


def shown_colours(path: Path) -> tuple[Clip, list[np.ndarray]]:
    clip = probe(path)
    return clip, [frame.image[20, 20].astype(int) for frame in frames(clip, inspect(clip))]


@pytest.mark.parametrize(
    ("curve", "trc", "params", "peak"),
    [
        ("PQ", ColorTrc.SMPTE2084, "", 1000),
        ("PQ", ColorTrc.SMPTE2084, ":max-cll=400,100", 400),
        ("PQ", ColorTrc.SMPTE2084, ":max-cll=0,0", 1000),
        (
            "PQ",
            ColorTrc.SMPTE2084,
            ":master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(40000000,50)",
            4000,
        ),
        ("HLG", ColorTrc.ARIB_STD_B67, "", 1000),
    ],
)
def test_hdr_becomes_what_the_standards_say(tmp_path, curve, trc, params, peak):
    colours = GREYS + COLOURS
    clip, shown = shown_colours(film(tmp_path / "hdr.mp4", colours, trc, params))
    assert clip.hdr == Hdr(curve, peak)
    for colour, seen in zip(colours, shown, strict=True):
        off = np.abs(seen - expected(colour, curve, peak)).max()
        assert off <= 2, (colour, seen, expected(colour, curve, peak))
    assert f"HDR ({curve}, up to {peak} cd/m2)" in remarks(clip, inspect(clip))[0]


def test_white_of_sdr_stays_nearly_white_and_greys_keep_their_order(tmp_path):
    greys = tuple((k / 24, k / 24, k / 24) for k in range(25))
    _, shown = shown_colours(film(tmp_path / "hdr.mp4", greys, ColorTrc.SMPTE2084))
    levels = [int(seen[0]) for seen in shown]
    assert levels == sorted(levels) and (levels[0], levels[-1]) == (0, 255)
    assert 220 < np.interp(pq_signal(203), np.linspace(0, 1, 25), levels) < 240
    assert all(np.ptp(seen) <= 1 for seen in shown)


def test_pictures_of_sdr_are_left_alone(tmp_path):
    clip = probe(make_clip(tmp_path / "v.mp4", range(3)))
    assert clip.hdr is None and remarks(clip, inspect(clip)) == []
    for frame in frames(clip, inspect(clip)):
        assert np.abs(frame.image.astype(int) - pattern(frame.index, 128, 96)).mean() < 3


def test_the_signal_of_wide_gamut_sdr_is_kept(tmp_path):
    colours = ((0.49, 0.45, 0.3), (0.2, 0.6, 0.4))
    clip, shown = shown_colours(film(tmp_path / "wide.mp4", colours, ColorTrc.BT2020_10))
    assert clip.hdr is None
    for colour, seen in zip(colours, shown, strict=True):
        assert np.abs(seen - 255 * np.array(colour)).max() <= 3
