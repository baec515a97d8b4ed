"""Tables of labelled images as SPIN, PyMAF and EFT publish them: an npz with a row for each image.

    imgname  (N,)       text or bytes, image files, relative to the dataset's folder
    center   (N, 2)     px, of the square crop
    scale    (N,)       its side over 200 px
    S        (N, 24, 4) m, 24 joints with their weights, relative to the pelvis, in the camera frame
    part     (N, 24, 3) px, the same joints with their weights
    pose (N, 72), shape (N, 10), gender (N,)
    has_smpl (N,)       0 where pose and shape are not known; without it they all are

Human3.6M (protocols 1 and 2) and MPI-INF-3DHP are evaluated by S. Images whose names differ in
their last number alone are frames of one clip, as far apart as the greatest common divisor of the
differences says: of Human3.6M's 50 frames a second SPIN's tables have every fifth. Of a table that
has them all every second counts: TCMR and those after it judge 25 a second.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from staf_cli import video
from staf_cli.body.format import open_zip, read_npz
from staf_cli.core.errors import DatasetError, StafError, counted
from staf_cli.core.files import printable
from staf_cli.core.geometry import CROP_SCALE, NETWORK_FOCAL
from staf_cli.core.records import Clip, Float, Ints
from staf_cli.evaluation.datasets.people import People, make_people, points_of_24
from staf_cli.evaluation.truth import Footage, Truth

ENTRIES = ("imgname", "center", "scale", "S", "part", "pose", "shape", "gender")
OF_SMPL = ("pose", "shape", "has_smpl")
LARGEST_TABLE = 2**30  # bytes; those of Human3.6M's 312,000 training images take 700 MB
SCALE = 200  # px
JOINTS = 24
LSP_OF_24 = (*range(13), 18)  # as SPIN picks them; row 18 is Human3.6M's head
DHP_OF_24 = (*LSP_OF_24, 14, 16, 17)  # pelvis, spine and head after them
NUMBERED = re.compile(r"(.*?)(\d{1,9})\.\w+", re.DOTALL)
RATES = {"h36m": 50.0, "3dhp": 25.0}  # frames a second of the videos
FASTEST = 25.0  # frames a second that are judged
TABLES = {  # by the benchmark: names as SPIN gives them
    "h36m-p1": ("h36m_valid_protocol1.npz",),
    "h36m-p2": ("h36m_valid_protocol2.npz",),
    "3dhp": ("mpi_inf_3dhp_test.npz", "mpi_inf_3dhp_valid.npz"),
}


@dataclass(frozen=True)
class Contents:
    """What a table holds, as far as its list of images tells."""

    path: Path
    images: tuple[str, ...]  # relative to the folder, a row each
    entries: tuple[str, ...]  # of `ENTRIES`


def tables_in(folder: Path) -> list[Path]:
    """List the tables of a folder by name: the npz files that have `imgname`."""
    found = []
    for path in sorted(folder.glob("[!.]*.npz")):
        try:
            with open_zip(path) as archive:
                listed = "imgname.npy" in archive.namelist()
        except StafError:
            continue
        if listed:
            found.append(path)
    return found


def find_table(folder: Path, benchmark: str) -> Path | None:
    """Find the table of a benchmark of `TABLES`; None: the folder has none."""
    for name in TABLES[benchmark]:
        if (folder / name).is_file():
            return folder / name
    return None


def read_contents(path: Path) -> Contents:
    """Read the list of images of a table.

    Args:
        path: The npz.

    Returns:
        The images, and what is said of them.

    Raises:
        DatasetError: The file is missing or damaged, or names images outside of its folder.
    """
    names = _read(path, ("imgname",)).get("imgname")
    if names is None or names.ndim != 1 or names.dtype.kind not in "US" or not names.size:
        raise DatasetError(f"{printable(path)}: imgname is no list of image files")
    try:  # tables that were made by Python 2 have bytes
        images = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{printable(path)}: imgname holds what is no text") from error
    for image in images:
        parts = PurePosixPath(image)
        if parts.is_absolute() or ".." in parts.parts or "\0" in image or not parts.name:
            raise DatasetError(
                f"{printable(path)}: imgname names {image!a:.80}, not an image in its folder"
            )
    with open_zip(path) as archive:
        present = set(archive.namelist())
    return Contents(path, images, tuple(name for name in ENTRIES if f"{name}.npy" in present))


def problem_of_images(contents: Contents) -> str | None:
    """Say which images of a table are missing; None: all are there."""
    folder = contents.path.parent
    missing = [name for name in dict.fromkeys(contents.images) if not (folder / name).is_file()]
    if not missing:
        return None
    return (
        f"{printable(contents.path)}: {len(missing)} of {counted(len(contents.images), 'image')} "
        f"are missing, {printable(folder / missing[0])} first; unpack the dataset's images there"
    )


def open_table(path: Path, benchmark: str) -> list[Footage]:
    """Read a table with 3D joints.

    Args:
        path: The npz, in the folder that its images are relative to.
        benchmark: Of `TABLES`.

    Returns:
        The clips by name, each with one person.

    Raises:
        DatasetError: The table or images are missing, damaged or do not fit each other.
        VideoError: An image cannot be read.
    """
    contents = read_contents(path)
    problem = problem_of_images(contents)
    if problem is not None:
        raise DatasetError(problem)
    rows = len(contents.images)
    found = _read(path, ("center", "scale", "S"))
    centre = _numbers(path, found, "center", (rows, 2))
    scale = _numbers(path, found, "scale", (rows,))
    judged = DHP_OF_24 if benchmark == "3dhp" else LSP_OF_24
    joints = _numbers(path, found, "S", (rows, JOINTS, 4))[:, judged]
    if (scale <= 0).any():
        raise DatasetError(f"{printable(path)}: a scale is not above 0")
    labelled = np.flatnonzero((joints[..., 3] > 0).all(1))
    half = scale * (SCALE / 2 / CROP_SCALE)
    box = np.concatenate([centre - half[:, None], centre + half[:, None]], 1)
    rate = RATES[benchmark.partition("-")[0]]
    footage = []
    for name, numbered in _clips(contents, labelled):
        numbers, rows = np.array(numbered).T
        footage.append(_footage(contents, rate, name, numbers, rows, box, joints[..., :3]))
    return footage


def read_people(path: Path, rate: float | None) -> People:
    """Read a table for training: whatever it has of part, S, pose and shape.

    Args:
        path: The npz, in the folder that its images are relative to.
        rate: Frames a second of the videos that the images are of; None: they are photos.

    Returns:
        The people; of videos with more than `FASTEST` frames a second every second frame.

    Raises:
        DatasetError: The table or images are missing, damaged or do not fit each other.
    """
    contents = read_contents(path)
    problem = problem_of_images(contents)
    if problem is not None:
        raise DatasetError(problem)
    n = len(contents.images)
    found = _read(path, ("center", "scale", *(set(contents.entries) & {"S", "part"}), *OF_SMPL))
    side = SCALE * _numbers(path, found, "scale", (n,))
    square = np.concatenate([_numbers(path, found, "center", (n, 2)), side[:, None]], 1)
    part = np.zeros((n, JOINTS, 3))
    joints = np.zeros((n, JOINTS, 4))
    if "part" in found:
        part = _numbers(path, found, "part", part.shape)
    if "S" in found:
        joints = _numbers(path, found, "S", joints.shape)
    smpl = None
    if "pose" in found and "shape" in found:
        poses = _numbers(path, found, "pose", (n, 72))
        fitted = np.ones(n)
        if "has_smpl" in found:
            fitted = _numbers(path, found, "has_smpl", (n,))
        smpl = (poses, _numbers(path, found, "shape", (n, 10)), fitted)
    rows, order = np.arange(n), (np.arange(n), np.zeros(n, np.int64))
    if rate is not None:
        rows, order = _in_clips(contents, rate)
    people = make_people(
        path.parent,
        contents.images,
        square,
        points_of_24(part),
        kp3d=points_of_24(joints),
        smpl=smpl,
    )
    return replace(people.take(rows), track=order[0], frame=order[1])


def _in_clips(contents: Contents, rate: float) -> tuple[Ints, tuple[Ints, Ints]]:
    """Rows (M,) clip by clip, and their clips and frames."""
    parts = []
    for number, (_, clip) in enumerate(_clips(contents, np.arange(len(contents.images)))):
        numbers, rows = np.array(clip).T
        frame, rows, _ = _judged_frames(numbers, rows, rate)
        parts.append((rows, np.full(len(rows), number), frame))
    rows, track, frame = (np.concatenate(one) for one in zip(*parts, strict=True))
    return rows, (track, frame)


def _clips(contents: Contents, labelled: Ints) -> list[tuple[str, list[tuple[int, int]]]]:
    """The clips with labels by name: what is before their images' numbers; numbers and rows."""
    where, clips = printable(contents.path), dict[str, dict[int, int]]()
    for row in labelled.tolist():
        image = contents.images[row]
        matched = NUMBERED.fullmatch(image)
        if matched is None:
            raise DatasetError(f"{where}: imgname {image!a:.80} does not end in a frame's number")
        rows = clips.setdefault(matched[1], {})
        if rows.setdefault(int(matched[2]), row) != row:
            raise DatasetError(f"{where}: has {image!a:.80} twice, but one person in each image")
    if not clips:
        raise DatasetError(f"{where}: no image has all of the joints that are judged")
    return [(name, sorted(rows.items())) for name, rows in sorted(clips.items())]


def _footage(
    contents: Contents, rate: float, name: str, numbers: Ints, rows: Ints, box: Float, joints: Float
) -> Footage:
    """One clip, of images with such numbers in such rows; the whole table's boxes and joints."""
    frame, rows, fps = _judged_frames(numbers, rows, rate)
    pictures = tuple(contents.path.parent / contents.images[row] for row in rows.tolist())
    first = video.read_picture(pictures[0])
    if first is None:
        raise DatasetError(f"{printable(pictures[0])}: is no picture that can be read")
    clip = Clip(
        path=pictures[0],
        width=first.shape[1],
        height=first.shape[0],
        fps=fps,
        time_base=1 / Fraction(fps),
        frames=len(frame),
        has_audio=False,
    )
    truth = Truth(frame, box[rows], None, None, None, joints[rows])
    shown = name.rstrip("._-/") or contents.path.stem
    return Footage(shown, clip, NETWORK_FOCAL, (truth,), pictures)


def _judged_frames(numbers: Ints, rows: Ints, rate: float) -> tuple[Ints, Ints, float]:
    """Of images with such numbers in such rows: the frames that count, their rows, their rate."""
    step = gcd(*np.diff(numbers).tolist()) or 1
    if rate / step > FASTEST:
        even = (numbers - numbers[0]) % (2 * step) == 0
        numbers, rows, step = numbers[even], rows[even], 2 * step
    return (numbers - numbers[0]) // step, rows, rate / step


def _read(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    try:
        return read_npz(path, names, LARGEST_TABLE, "biufUS")
    except StafError as error:
        raise DatasetError(str(error)) from error


def _numbers(
    path: Path, found: dict[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]
) -> Float:
    if name not in found:
        raise DatasetError(f"{printable(path)}: has no {name}; get the table of the benchmark")
    array = found[name]
    if array.dtype.kind not in "iuf" or array.shape != shape:
        raise DatasetError(
            f"{printable(path)}: {name} holds {array.dtype!s:.40} {array.shape}, "
            f"not numbers {shape}"
        )
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise DatasetError(f"{printable(path)}: {name} holds values that are not finite")
    return numbers
