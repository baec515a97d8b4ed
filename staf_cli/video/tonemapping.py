"""Makes high dynamic range (PQ and HLG) the SDR of BT.709, by the curves of the ITU's documents.

The signal becomes light on the screen (BT.2100), light brighter than SDR's white is compressed
(BT.2390, the EETF), the primaries become those of BT.709, and the light a signal again (BT.1886).
SDR's white is HDR's reference white of 203 cd/m2 (BT.2408), so that faces keep their brightness.
"""

import io
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av.filter
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorPrimaries, ColorTrc

from staf_cli.core import files
from staf_cli.core.records import Float, Hdr, HdrCurve, HdrPrimaries

WHITE = 203.0  # cd/m2 of SDR's white (BT.2408)
USUAL_PEAK = 1000.0  # cd/m2, of most HDR, where a file does not say
BRIGHTEST = 10_000.0  # cd/m2 that PQ can hold
CURVES: dict[int, HdrCurve] = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
# BT.2100, PQ
M1, M2 = 2610 / 16384, 2523 / 4096 * 128
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# BT.2100, HLG
A, B, C = 0.17883277, 0.28466892, 0.55991073
HLG_GAMMA = 1.2  # of a screen of 1000 cd/m2
HLG_PEAK = 1000.0  # cd/m2, of that screen
LUMA = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020's primaries
SDR_GAMMA = 2.4  # BT.1886
# Linear RGB of these primaries to that of BT.709, all with white D65.
TO_BT709: dict[HdrPrimaries, list[list[float]]] = {
    "BT.709": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "BT.2020": [  # BT.2087
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    "P3": [
        [1.224940, -0.224940, 0.0],
        [-0.042057, 1.042057, 0.0],
        [-0.019638, -0.078636, 1.098274],
    ],
}
PRIMARIES: dict[int, HdrPrimaries] = {ColorPrimaries.BT709: "BT.709", ColorPrimaries.SMPTE432: "P3"}
NODES = 33  # of the table, in each direction; greys are within one of 255 levels of the curves
TICK = Fraction(1, 25)  # s, which the filter needs and nothing else


def hdr_of(picture: Any) -> Hdr | None:
    """Read whether a picture has high dynamic range, and how bright its film becomes.

    Args:
        picture: PyAV's; the first of a film.

    Returns:
        None for SDR.
    """
    curve = CURVES.get(picture.color_trc)
    if curve is None:
        return None
    peak = HLG_PEAK if curve == "HLG" else _stated_peak(picture) or USUAL_PEAK
    primaries = PRIMARIES.get(picture.color_primaries, "BT.2020")
    return Hdr(curve, min(BRIGHTEST, max(WHITE, peak)), primaries)


def _stated_peak(picture: Any) -> float:
    """The brightest light of a film, cd/m2, as its content or its grading screen; 0: not stated."""
    try:
        content = picture.side_data.get(SideData.CONTENT_LIGHT_LEVEL)
        screen = picture.side_data.get(SideData.MASTERING_DISPLAY_METADATA)
    except ValueError:  # PyAV cannot list the side data of every picture
        return 0.0
    if content is not None and (brightest := np.frombuffer(bytes(content), np.uint32)[0]):
        return float(brightest)
    if screen is None:
        return 0.0
    # AVMasteringDisplayMetadata: ten fractions, the last one the peak; which of them are known.
    numbers = np.frombuffer(bytes(screen), np.int32)
    numerator, denominator, known = numbers[18], numbers[19], numbers[21]
    return float(numerator / denominator) if known and denominator > 0 else 0.0


class ToneMap:
    """Maps pictures of one film to SDR, by FFmpeg's lut3d with a table of the curves above."""

    def __init__(self, hdr: Hdr) -> None:
        """Make a map that has seen no picture yet.

        Args:
            hdr: What is known of the film.
        """
        self._hdr = hdr
        self._graph: Any = None
        self._layout: tuple[Any, ...] = ()

    def __call__(self, signal: Any, white: float) -> Any:
        """Map a picture.

        Args:
            signal: PyAV's picture of 16 bits R'G'B', with transparency or without.
            white: The signal of white in it, as a share of what 16 bits hold.

        Returns:
            PyAV's picture of the same format, R'G'B' of BT.709; 8 bits of it are its upper bytes.
        """
        layout = (signal.width, signal.height, signal.format.name, white)
        if layout != self._layout:
            self._graph, self._layout = _graph(self._hdr, signal, white), layout
        signal.time_base, signal.pts = TICK, 0
        self._graph.push(signal)
        return self._graph.pull()


def _graph(hdr: Hdr, signal: Any, white: float) -> Any:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=signal.width, height=signal.height, format=signal.format, time_base=TICK
    )
    sink = graph.add("buffersink")
    with files.scratch_folder() as folder:
        (folder / "hdr.cube").write_bytes(_cube(hdr, white))
        lut = graph.add("lut3d", file=str(folder / "hdr.cube"), interp="tetrahedral")
    source.link_to(lut)
    lut.link_to(sink)
    graph.configure()
    return graph


@lru_cache(maxsize=2)
def _cube(hdr: Hdr, white: float) -> bytes:
    """The table as FFmpeg reads it: of each signal, red the fastest, what it becomes."""
    steps = np.linspace(0, 1 / white, NODES)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    mapped = to_sdr(np.stack([red, green, blue], -1).reshape(-1, 3), hdr)
    upper_byte = (256 * 255 * mapped + 128) / 65535  # so that it is rounded, not cut off
    text = io.BytesIO(f"LUT_3D_SIZE {NODES}\n".encode())
    text.seek(0, io.SEEK_END)
    np.savetxt(text, upper_byte, fmt="%.6f")
    return text.getvalue()


def to_sdr(signal: Float, hdr: Hdr) -> Float:
    """Map signals of high dynamic range to SDR.

    Args:
        signal: (N, 3) R'G'B' in 0..1.
        hdr: What is known of the film.

    Returns:
        (N, 3) R'G'B' of BT.709 in 0..1.
    """
    signal = np.clip(signal, 0, 1)
    if hdr.curve == "PQ":
        light = pq_light(signal)
    else:
        scene = hlg_scene(signal)
        light = HLG_PEAK * scene * (scene @ LUMA)[:, None] ** (HLG_GAMMA - 1)
    brightest = light.max(-1, keepdims=True)
    light = light * compressed(brightest, hdr.peak) / np.maximum(brightest, 1e-9)
    linear = light / WHITE @ np.array(TO_BT709[hdr.primaries]).T
    encoded: Float = np.clip(linear, 0, 1) ** (1 / SDR_GAMMA)
    return encoded


def pq_light(signal: Float) -> Float:
    """Compute the light of a PQ signal in 0..1, cd/m2 (BT.2100, EOTF)."""
    power = np.maximum(signal, 0) ** (1 / M2)
    light: Float = BRIGHTEST * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** (1 / M1)
    return light


def pq_signal(light: Float) -> Float:
    """Compute the PQ signal of light, cd/m2; the inverse of `pq_light`."""
    power = (np.maximum(light, 0) / BRIGHTEST) ** M1
    signal: Float = ((C1 + C2 * power) / (1 + C3 * power)) ** M2
    return signal


def hlg_scene(signal: Float) -> Float:
    """Compute the scene's light, 0..1, of an HLG signal in 0..1 (BT.2100, inverse OETF)."""
    bright: Float = (np.exp((signal - C) / A) + B) / 12
    return np.where(signal <= 0.5, signal**2 / 3, bright)


def compressed(light: Float, peak: float) -> Float:
    """Compress light, cd/m2, of 0..`peak` into 0..`WHITE` (BT.2390, the EETF)."""
    most = float(pq_signal(np.array(peak)))
    e1, top = np.minimum(pq_signal(light) / most, 1), float(pq_signal(np.array(WHITE))) / most
    knee = 1.5 * top - 0.5
    t = (e1 - knee) / max(1e-9, 1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
    spline += (3 * t**2 - 2 * t**3) * top
    return pq_light(np.where(e1 < knee, e1, spline) * most)
