"""The frozen records that pass between stages; shapes and values are checked when they are made.

Images are RGB uint8. Boxes, keypoints and centres are pixels of the upright image, with the
convention of pixel centres that geometry.py states. Letters in shapes: F frames of a track,
N people in a frame.
"""

import hashlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.span import WHOLE, Span

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Image = NDArray[np.uint8]
STRETCH_FRAMES = 3000  # frames of a person that are computed together: two minutes, about 3 MB
MASK_PIXELS = 64  # side of a mask that is kept
LONGEST_NAME = 40  # letters of a person's name
TrackRow = tuple[int, int]  # (index of a track or person in its list, row in that track)

COCO_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
LANDMARKS = (  # of BlazePose GHUM; left and right are the person's own
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)
MIRRORED_LANDMARKS = np.array(  # the landmark that each one becomes in a mirror
    [
        LANDMARKS.index(name.replace("left", "*").replace("right", "left").replace("*", "right"))
        for name in LANDMARKS
    ]
)


def _check_arrays(record: object, **shapes: tuple[int, ...]) -> None:
    """Raise ValueError for an array of another shape (-1: any length) or with inf or NaN."""
    for name, shape in shapes.items():
        array = getattr(record, name)
        where = f"{type(record).__name__}.{name}"
        fits = array.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{where}: shape {array.shape}, expected {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{where}: holds values that are not finite")


@dataclass(frozen=True)
class Jump:
    """A place in a file where the times of a stream jump, as those of joined recordings do."""

    stream: int  # index of the stream in the file
    packet: int  # number among the stream's packets, from 0, from which on the shift holds
    time: int  # ticks of the file's own times, from which on it holds
    shift: Fraction  # s that are added to these times, so that they go on


HdrCurve = Literal["PQ", "HLG"]
HdrPrimaries = Literal["BT.2020", "P3", "BT.709"]


@dataclass(frozen=True)
class Hdr:
    """What must be known of a video of high dynamic range to show it as SDR."""

    curve: HdrCurve
    peak: float  # cd/m2, the brightest light in it
    primaries: HdrPrimaries = "BT.2020"


@dataclass(frozen=True)
class Clip:
    """A video file's own description, upright: rotation metadata is already applied."""

    path: Path
    width: int
    height: int
    fps: float  # average, frames per second
    time_base: Fraction  # seconds per tick of Frame.pts
    frames: int | None  # as the container states; None where it does not
    has_audio: bool
    span: Span = WHOLE  # the stretch of the file that the clip is
    jumps: tuple[Jump, ...] = ()  # of pictures and sound, in the file's order
    hdr: Hdr | None = None  # of high dynamic range; None: SDR
    deinterlace: bool = True  # pictures that are flagged as interlaced
    fit: bool = False  # pictures of a folder that have another size
    pictures: bool = False  # a picture file, or a folder of them

    @property
    def still(self) -> bool:
        """Whether it is known to be a single picture."""
        return self.pictures and self.frames == 1

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height), px."""
        return self.width, self.height


@dataclass(frozen=True)
class Frame:
    """One decoded frame: its index in the file, its exact time and its pixels."""

    index: int  # 0, 1, 2, ... in presentation order; a clip of a span begins at a later one
    pts: int  # presentation time in ticks of Clip.time_base, from the start of the file
    time: float  # the same in seconds
    image: Image  # (H, W, 3) RGB


@dataclass(frozen=True)
class Detections:
    """The people the detector saw in one frame."""

    frame: int
    time: float  # s
    box: Float  # (N, 4) x1, y1, x2, y2 px
    score: Float  # (N,) in [0, 1]
    track_id: Ints  # (N,) the tracker's raw identity
    kp2d: Float  # (N, 17, 3) COCO keypoints: x, y px, confidence in [0, 1]
    colours: NDArray[np.uint8] | None = None  # (N, 96) see tracking/appearance.py; None: not known

    def __post_init__(self) -> None:
        """Check shapes and values."""
        n = len(self.box)
        _check_arrays(self, box=(n, 4), score=(n,), track_id=(n,), kp2d=(n, 17, 3))
        if self.colours is not None:
            _check_arrays(self, colours=(n, -1))


@dataclass(frozen=True)
class Track:
    """One person through a clip. Frames ascend; a jump in `frame` is a gap in the track."""

    id: int  # 1, 2, 3, ... stable over the clip
    frame: Ints  # (F,)
    time: Float  # (F,) s
    box: Float  # (F, 4) x1, y1, x2, y2 px, smoothed
    score: Float  # (F,) of the detection; 0 where interpolated
    interpolated: Bools  # (F,) box bridged over a short gap, no detection there
    kp2d: Float32 | Float  # (F, 17, 3) COCO keypoints as detected; confidence 0 where interpolated
    name: str = ""  # given by the user

    def __post_init__(self) -> None:
        """Check shapes and values."""
        f = len(self.frame)
        _check_arrays(
            self,
            frame=(f,),
            time=(f,),
            box=(f, 4),
            score=(f,),
            interpolated=(f,),
            kp2d=(f, 17, 3),
        )
        if f == 0 or (np.diff(self.frame) <= 0).any():
            raise ValueError(f"track of person {self.id}: frames must ascend, at least one")

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the track but the name."""
        columns = (self.frame, self.time, self.box, self.score, self.interpolated, self.kp2d)
        content = hashlib.sha256(str(self.id).encode())
        for column in columns:
            content.update(np.ascontiguousarray(column).data)
        return content.hexdigest()

    @property
    def runs(self) -> list[slice]:
        """Slices of the track whose frames follow each other without a gap."""
        cuts = np.flatnonzero(np.diff(self.frame) > 1) + 1
        return [slice(a, b) for a, b in pairwise([0, *cuts.tolist(), len(self.frame)])]


def run_of(runs: Sequence[slice], row: int) -> slice:
    """Find the run of a track's row.

    Args:
        runs: of the track, in order.
        row: of the track.

    Returns:
        The run.
    """
    return runs[bisect_right(runs, row, key=lambda run: run.start) - 1]


@dataclass(frozen=True)
class LandmarkTrack:
    """What the landmark network saw of one person: the content of landmarks_<id>.npz.

    It looks at some of the frames of the person's track, in turns at the picture as it is and at
    its mirror image; everything here is told of the picture as it is. A region is a turned square
    of the frame (core/regions.py); masks are kept of a few looks.
    """

    id: int  # the person's
    frame: Ints  # (L,) that it looked at, ascending; twice, if it looked both ways
    mirrored: Bools  # (L,) whether it looked at the mirror image
    kp2d: Float32  # (L, 33, 3) x, y px, visibility in [0, 1]
    metres: Float32  # (L, 33, 3) from the centre of the hips, camera axes: x right, y down, z away
    score: Float  # (L,) in [0, 1], how surely it is this person
    region: Float  # (L, 4) centre x, y, side px, angle rad clockwise: where the network looked
    mask_row: Ints  # (M,) which rows the masks are of
    mask: Image  # (M, 64, 64) 255 times the probability that a part of the region shows the person

    def __post_init__(self) -> None:
        """Check shapes and values."""
        count, masks = len(self.frame), len(self.mask_row)
        _check_arrays(
            self,
            frame=(count,),
            mirrored=(count,),
            kp2d=(count, 33, 3),
            metres=(count, 33, 3),
            score=(count,),
            region=(count, 4),
            mask_row=(masks,),
            mask=(masks, MASK_PIXELS, MASK_PIXELS),
        )
        step = np.diff(self.frame)
        if (step < 0).any() or (step == 0)[self.mirrored[1:] == self.mirrored[:-1]].any():
            raise ValueError(f"landmarks of person {self.id}: frames must ascend")
        if masks and not (self.mask_row.min() >= 0 and self.mask_row.max() < count):
            raise ValueError(f"landmarks of person {self.id}: masks of frames that are not there")


@dataclass(frozen=True)
class Person:
    """One person's recovered motion: the content of person_<id>.npz.

    Body(poses, betas) + trans are points in the camera frame; a pinhole camera with
    `focal_length` and its centre in the middle of the image projects them onto the person.
    """

    id: int  # 1, 2, 3, ... stable over the clip
    frame: Ints  # (F,)
    time: Float  # (F,) s
    poses: Float  # (F, 72) axis-angle, radians; the first three are global_orient
    betas: Float  # (F, 10)
    trans: Float  # (F, 3) m, camera frame
    pred_cam: Float  # (F, 3) s, tx, ty of the crop
    box: Float  # (F, 3) the square crop's centre x, y and side, px
    joints3d: Float  # (F, 24, 3) m, camera frame
    joints2d: Float  # (F, 24, 2) px
    score: Float  # (F,)
    interpolated: Bools  # (F,)
    focal_length: float  # px
    image_size: tuple[int, int]  # (width, height) px
    fps: float
    gender: str
    body: str  # id and hash of the body model
    weights: str  # id and hash of the checkpoint
    damaged_packets: int = 0  # of the whole video: not to be decoded in full
    missing_packets: int = 0  # of the whole video: promised by the file, but not in it
    # (F, 24) m: how far a joint is off at most in 68 % of cases, counted from the pelvis, whose own
    # is 0 (fitting/uncertainty.py); None: not fitted, or by a version that did not say it
    joint_sigma: Float32 | None = None
    # The same motion in the world (staf_cli/world): y up, m, the ground at 0. All of them or none.
    world_poses: Float | None = None  # (F, 72) axis-angle, radians; legs as feet stand
    world_trans: Float | None = None  # (F, 3) m
    world_joints3d: Float | None = None  # (F, 24, 3) m
    world_contacts: Float32 | None = None  # (F, 4) left heel, left toe, right heel, right toe
    world_camera: Float | None = None  # (F, 3, 4) points of the camera frame -> the world
    world_sigma: Float32 | None = None  # (F, 2) rad, m: of the camera's tilt and height

    def __post_init__(self) -> None:
        """Check shapes and values."""
        f = len(self.frame)
        optional = {
            "joint_sigma": (f, 24),
            "world_poses": (f, 72),
            "world_trans": (f, 3),
            "world_joints3d": (f, 24, 3),
            "world_contacts": (f, 4),
            "world_camera": (f, 3, 4),
            "world_sigma": (f, 2),
        }
        known = {name: shape for name, shape in optional.items() if getattr(self, name) is not None}
        _check_arrays(self, **known)
        _check_arrays(
            self,
            frame=(f,),
            time=(f,),
            poses=(f, 72),
            betas=(f, 10),
            trans=(f, 3),
            pred_cam=(f, 3),
            box=(f, 3),
            joints3d=(f, 24, 3),
            joints2d=(f, 24, 2),
            score=(f,),
            interpolated=(f,),
        )


def rows_by_frame(people: Sequence[Track | Person]) -> dict[int, list[TrackRow]]:
    """List the people in every frame.

    Returns:
        For each frame index with anybody in it the rows of its people, in the order of the list.
    """
    rows: dict[int, list[TrackRow]] = {}
    for number, one in enumerate(people):
        for row, frame in enumerate(one.frame.tolist()):
            rows.setdefault(frame, []).append((number, row))
    return rows


Rows = TypeVar("Rows", Track, Person)


def select_rows(whole: Rows, rows: slice | Ints) -> Rows:
    """Select some frames of a track or person; the fields that are not per frame stay.

    Args:
        whole: The track or person.
        rows: Which of its rows: a slice, or ascending indices.

    Returns:
        The same track or person with these frames only.
    """
    columns: dict[str, Any] = {
        field.name: value[rows]
        for field in fields(whole)
        if isinstance(value := getattr(whole, field.name), np.ndarray)
    }
    return replace(whole, **columns)


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Join stretches of one track or person, the inverse of `select_rows`.

    Args:
        parts: The stretches, in order of time; one at least.

    Returns:
        All their frames; the fields that are not per frame are those of the first.
    """
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(one, field.name) for one in parts])
        for field in fields(parts[0])
        if isinstance(getattr(parts[0], field.name), np.ndarray)
    }
    return replace(parts[0], **columns)


def frames_with_people(
    frames: Iterable[Frame], people: Sequence[Track | Person]
) -> Iterator[tuple[Frame, list[TrackRow]]]:
    """Pair every frame with the people in it.

    The same as `rows_by_frame`, but memory does not grow with the clip.

    Args:
        frames: With ascending index; some of a clip's may be missing.
        people: Tracks or people of that clip.

    Yields:
        Each frame, also those without people, and the rows of its people in the list's order.
    """
    to_come = deque(sorted(range(len(people)), key=lambda number: int(people[number].frame[0])))
    next_row: dict[int, int] = {}  # of every person who has begun and not ended
    for frame in frames:
        while to_come and people[to_come[0]].frame[0] <= frame.index:
            next_row[to_come.popleft()] = 0
        here = []
        for number in sorted(next_row):
            own, row = people[number].frame, next_row[number]
            while row < len(own) and own[row] < frame.index:  # frames that did not come
                row += 1
            if row < len(own) and own[row] == frame.index:
                here.append((number, row))
                row += 1
            next_row[number] = row
            if row == len(own):
                del next_row[number]
        yield frame, here
