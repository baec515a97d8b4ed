"""3DPW as its authors publish it: sequenceFiles/<split>/<name>.pkl, imageFiles/<name>/image_*.jpg.

The protocol is that of the field (HMMR, SPIN, VIBE, TCMR): frames whose camera is valid and in
which at least 6 joints of the person are visible; the truth is posed by the SMPL body of the
person's gender and turned into the camera. Boxes are the tightest around the visible joints; each
network crops them with its own margin.

T frames of a sequence, F of them judged.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli import video
from staf_cli.body.format import BETAS, JOINT_COUNT
from staf_cli.body.posing import rotation_matrices
from staf_cli.body.skinning import Body
from staf_cli.body.smpl_pickle import LARGEST_FILE, Nested, read_nested_pickle
from staf_cli.core.errors import DatasetError, StafError, counted
from staf_cli.core.files import printable
from staf_cli.core.geometry import CROP_SCALE, matrix_to_axis_angle
from staf_cli.core.records import Clip, Float
from staf_cli.evaluation.datasets import people
from staf_cli.evaluation.datasets.people import People
from staf_cli.evaluation.truth import Footage, Pose, Truth

SEQUENCES, IMAGES = "sequenceFiles", "imageFiles"
SPLITS = ("train", "validation", "test")
JUDGED = "test"  # unless another is asked for
FPS = 30.0
MOST_PEOPLE, MOST_FRAMES = 8, 20_000  # it has 2 people at most, and 2,300 frames
POINTS = 18  # of OpenPose, in poses2d
VISIBLE = 0.3  # confidence from which a joint counts, as HMMR and VIBE count them
LEAST_VISIBLE = 6
AN_IMAGE = re.compile(r"image_\d{5}\.jpg")  # more of them than poses come last, and are not judged
OFF_CENTRE = 0.1  # of the image's sides: how far the camera's centre may be from the image's
GENDERS = {"f": "female", "m": "male"}
ENTRIES = (
    *("sequence", "genders", "poses", "betas", "trans", "poses2d", "campose_valid"),
    *("cam_poses", "cam_intrinsics"),
)


@dataclass(frozen=True)
class Actor:
    """One person of a sequence."""

    gender: str  # female or male
    poses: Float  # (T, 72) axis-angle rad, global_orient in the world
    betas: Float  # (10,)
    trans: Float  # (T, 3) m, world
    points: Float  # (T, 18, 3) OpenPose's joints: x, y px, confidence
    camera_valid: NDArray[np.bool_]  # (T,)

    @property
    def judged(self) -> NDArray[np.int64]:
        """(F,) the frames that the protocol counts."""
        visible = (self.points[..., 2] > VISIBLE).sum(1)
        return np.flatnonzero(self.camera_valid & (visible >= LEAST_VISIBLE))


@dataclass(frozen=True)
class Sequence:
    """One sequence: its camera and its people."""

    path: Path
    name: str
    cameras: Float  # (T, 4, 4) from the world to the camera
    intrinsics: Float  # (3, 3) px
    actors: tuple[Actor, ...]


def find_split(folder: Path) -> tuple[Path, str] | None:
    """Recognise 3DPW.

    Args:
        folder: Its root, which stands for the test split, or a split's folder in sequenceFiles.

    Returns:
        The root and the split; None: the folder is not 3DPW.
    """
    path = folder.resolve()
    if (path / SEQUENCES).is_dir():
        return path, JUDGED
    if path.parent.name == SEQUENCES and path.name in SPLITS and path.is_dir():
        return path.parents[1], path.name
    return None


def sequence_files(root: Path, split: str) -> list[Path]:
    """List the sequences of a split by name; empty where there is no such folder."""
    return sorted((root / SEQUENCES / split).glob("[!.]*.pkl"))


def open_split(root: Path, split: str, body_of: Callable[[str], Body]) -> list[Footage]:
    """Read a split with the truth of all people in it.

    Args:
        root: Of 3DPW.
        split: Of `SPLITS`.
        body_of: Opens a body by its name.

    Returns:
        The sequences in which anybody is judged, by name.

    Raises:
        DatasetError: Sequences or images are missing, damaged or do not fit each other.
        BodyError: The SMPL body of a gender is not on this machine.
        VideoError: Images cannot be read.
    """
    paths = _sequences(root, split)
    bodies: dict[str, Body] = {}
    dataset = []
    for path in paths:
        sequence = read_sequence(path)
        for actor in sequence.actors:
            if actor.gender not in bodies:
                bodies[actor.gender] = body_of(f"smpl-{actor.gender}")
        people = tuple(
            _truth(sequence, actor, bodies[actor.gender])
            for actor in sequence.actors
            if actor.judged.size
        )
        if people:
            focal = float(sequence.intrinsics[[0, 1], [0, 1]].mean())
            dataset.append(Footage(sequence.name, _open_images(root, sequence), focal, people))
    if not dataset:
        raise DatasetError(_nobody(root, split))
    return dataset


def read_people(root: Path, split: str) -> People:
    """Read a split for training: the frames that the protocol counts.

    Args:
        root: Of 3DPW.
        split: Of `SPLITS`.

    Returns:
        The people, with fits and OpenPose's points.

    Raises:
        DatasetError: There are no sequences, or one or its images are damaged, incomplete or
            missing.
    """
    parts = []
    for path in _sequences(root, split):
        sequence = read_sequence(path)
        problem = problem_of_images(root, sequence)
        if problem is not None:
            raise DatasetError(problem)
        for actor in sequence.actors:
            if actor.judged.size:
                parts.append(_people_of(root, sequence, actor))
    if not parts:
        raise DatasetError(_nobody(root, split))
    return people.join(parts)


def _people_of(root: Path, sequence: Sequence, actor: Actor) -> People:
    rows = actor.judged
    points, poses, _ = _seen(sequence, actor)
    known = points[..., 2] > VISIBLE
    square = people.square_around(points[..., :2], known, CROP_SCALE)
    points = points * known[..., None]
    pictures = [f"{IMAGES}/{sequence.name}/image_{row:05d}.jpg" for row in rows.tolist()]
    return people.make_people(
        root,
        pictures,
        square,
        people.points_of_18(points),
        smpl=(poses, np.tile(actor.betas, (len(rows), 1)), np.ones(len(rows))),
        order=(np.zeros(len(rows)), rows),
    )


def _sequences(root: Path, split: str) -> list[Path]:
    paths = sequence_files(root, split)
    if not paths:
        raise DatasetError(
            f"{printable(root / SEQUENCES / split)}: holds no sequences (pkl); "
            "unpack sequenceFiles.zip of 3DPW there"
        )
    return paths


def _nobody(root: Path, split: str) -> str:
    return (
        f"{printable(root / SEQUENCES / split)}: in no frame is the camera valid and anybody "
        "visible; get sequenceFiles.zip of 3DPW again"
    )


def read_sequence(path: Path) -> Sequence:
    """Read a sequence's pickle, without running code.

    Args:
        path: The pickle.

    Returns:
        The sequence; values are checked where they are judged.

    Raises:
        DatasetError: The file is missing, damaged, incomplete, or needs code to be run.
    """
    if not path.is_file():  # reading a pipe would wait
        raise DatasetError(f"{printable(path)}: is no file; get sequenceFiles.zip of 3DPW again")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DatasetError(
            f"{printable(path)}: {size} bytes are more than any sequence has; get it again"
        )
    try:
        with path.open("rb") as stream:
            found = read_nested_pickle(stream, path, ENTRIES, "3DPW")
        return _sequence(path, found)
    except DatasetError:
        raise
    except StafError as error:
        raise DatasetError(str(error)) from error


def problem_of_images(root: Path, sequence: Sequence) -> str | None:
    """Say which images of a sequence are missing, or are none of its.

    Args:
        root: Of 3DPW.
        sequence: The sequence.

    Returns:
        A line; None: all are there.
    """
    folder = root / IMAGES / sequence.name
    expected = [f"image_{number:05d}.jpg" for number in range(len(sequence.cameras))]
    have = {path.name for path in video.pictures_in(folder)} if folder.is_dir() else set()
    missing = [name for name in expected if name not in have]
    if missing:
        return (
            f"{printable(folder)}: {len(missing)} of {counted(len(expected), 'image')} are "
            f"missing, {missing[0]} first; unpack imageFiles.zip of 3DPW there"
        )
    others = sorted(name for name in have - set(expected) if not AN_IMAGE.fullmatch(name))
    if others:
        return (
            f"{printable(folder)}: {printable(others[0])} is none of the "
            f"{counted(len(expected), 'image')} that the truth is of; move it away"
        )
    return None


def _sequence(path: Path, found: dict[str, Nested]) -> Sequence:
    for entry in ENTRIES:
        if entry not in found:
            raise DatasetError(f"{printable(path)}: has no {entry}; it is no sequence of 3DPW")
    name = found["sequence"]
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        raise DatasetError(f"{printable(path)}: sequence does not name a folder of images")
    cameras = _numbers(path, "cam_poses", found["cam_poses"], (None, 4, 4))
    intrinsics = _numbers(path, "cam_intrinsics", found["cam_intrinsics"], (3, 3))
    if not np.isfinite(intrinsics).all() or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
        raise DatasetError(f"{printable(path)}: cam_intrinsics has no focal length above 0")
    return Sequence(path, name, cameras, intrinsics, tuple(_actors(path, found, len(cameras))))


def _actors(path: Path, found: dict[str, Nested], frames: int) -> Iterator[Actor]:
    """The people of a sequence of so many frames."""
    genders = found["genders"]
    people = len(genders) if isinstance(genders, list) else 0
    if not 0 < people <= MOST_PEOPLE:
        raise DatasetError(f"{printable(path)}: genders is no list of 1 to {MOST_PEOPLE} people")
    for name in ("poses", "betas", "trans", "poses2d", "campose_valid"):
        entry = found[name]
        if not isinstance(entry, list) or len(entry) != people:
            raise DatasetError(f"{printable(path)}: {name} is no list with an entry a person")
    for number in range(people):
        entries = {name: one[number] for name, one in found.items() if isinstance(one, list)}
        gender = entries["genders"]
        if not isinstance(gender, str) or gender.lower()[:1] not in GENDERS:
            raise DatasetError(f"{printable(path)}: a gender is neither f nor m")
        betas = _numbers(path, "betas", entries["betas"], (None,))
        if len(betas) < BETAS:
            raise DatasetError(f"{printable(path)}: betas are {len(betas)}, SMPL has {BETAS}")
        points = _numbers(path, "poses2d", entries["poses2d"], (frames, 3, POINTS))
        valid = _numbers(path, "campose_valid", entries["campose_valid"], (frames,))
        yield Actor(
            gender=GENDERS[gender.lower()[0]],
            poses=_numbers(path, "poses", entries["poses"], (frames, 3 * JOINT_COUNT)),
            betas=betas[:BETAS],
            trans=_numbers(path, "trans", entries["trans"], (frames, 3)),
            points=points.transpose(0, 2, 1),
            camera_valid=valid > 0,
        )


def _truth(sequence: Sequence, actor: Actor, body: Body) -> Truth:
    """What is true of a person in the frames that are judged, in the camera."""
    rows = actor.judged
    points, poses, cameras = _seen(sequence, actor)
    trans = actor.trans[rows]
    hidden = points[..., 2] <= VISIBLE
    low = np.where(hidden[..., None], np.inf, points[..., :2]).min(1)
    high = np.where(hidden[..., None], -np.inf, points[..., :2]).max(1)
    if (high <= low).any():
        raise DatasetError(f"{printable(sequence.path)}: the visible joints of a person coincide")
    rotation, move = cameras[:, :3, :3], cameras[:, :3, 3]
    # global_orient turns about the pelvis, the camera about the world's origin.
    pelvis = _pelvis(body, actor.betas)
    trans = np.einsum("fij,fj->fi", rotation, pelvis + trans) + move - pelvis
    betas = np.tile(actor.betas, (len(rows), 1))
    pose = Pose(poses, betas, trans, body.identity, body)
    return Truth(rows, np.concatenate([low, high], -1), pose, None, None)


def _seen(sequence: Sequence, actor: Actor) -> tuple[Float, Float, Float]:
    """Of the frames that are judged: points (F, 18, 3), poses in the camera (F, 72), cameras."""
    rows = actor.judged
    points, cameras, poses = actor.points[rows], sequence.cameras[rows], actor.poses[rows].copy()
    values = (points, cameras, poses, actor.trans[rows], actor.betas)
    if not all(np.isfinite(one).all() for one in values):
        raise DatasetError(f"{printable(sequence.path)}: holds values that are not finite")
    root = rotation_matrices(poses)[:, 0]
    turned = matrix_to_axis_angle(torch.from_numpy(cameras[:, :3, :3]) @ root)
    poses[:, :3] = turned.numpy()
    return points, poses, cameras


def _pelvis(body: Body, betas: Float) -> Float:
    """(3,) m, in the T-pose."""
    still = torch.eye(3).expand(1, JOINT_COUNT, 3, 3)
    with torch.no_grad():
        _, joints = body.skeleton(still, torch.from_numpy(betas)[None].float())
    pelvis: Float = joints[0, 0].double().numpy()
    return pelvis


def _open_images(root: Path, sequence: Sequence) -> Clip:
    problem = problem_of_images(root, sequence)
    if problem is not None:
        raise DatasetError(problem)
    clip = video.probe(root / IMAGES / sequence.name, fps=FPS)
    centre, size = sequence.intrinsics[:2, 2], np.array(clip.image_size)
    if (np.abs(centre - size / 2) > OFF_CENTRE * size).any():
        raise DatasetError(
            f"{printable(clip.path)}: the images are {clip.width}x{clip.height} px, but the camera "
            f"is of {2 * centre[0]:.0f}x{2 * centre[1]:.0f}; use 3DPW's own images"
        )
    return clip


def _numbers(path: Path, name: str, value: Nested, shape: tuple[int | None, ...]) -> Float:
    """An array as float64; None in the shape is any length from 1 to `MOST_FRAMES`."""
    if not isinstance(value, np.ndarray):
        raise DatasetError(f"{printable(path)}: {name} is no array; it is no sequence of 3DPW")
    fits = value.ndim == len(shape) and all(
        (0 < have <= MOST_FRAMES if want is None else have == want)
        for want, have in zip(shape, value.shape, strict=True)
    )
    if not fits:
        expected = str(shape).replace("None", "any")
        raise DatasetError(
            f"{printable(path)}: {name} has shape {value.shape}, expected {expected}"
        )
    return value.astype(np.float64)
