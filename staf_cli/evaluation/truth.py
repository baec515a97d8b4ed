"""Videos and photos with what is true of the people in them, for evaluation.

A dataset is a folder of any number of clips, of one sample set of photos, or of both.

A clip is <name>.mp4 with <name>.npz beside it: the truth of one person, in F of its frames.
    frame         (F,) int      which frames, counted from 0, ascending; others are not judged
    box           (F, 4)        x1, y1, x2, y2 px of the person, as a detector would give it
    image_size    (2,)          width, height px of the video
    focal_length  ()            px; the camera's centre is the image's
  3D truth, all of it or none:
    poses         (F, 72)       axis-angle rad, SMPL's order, global_orient in the camera frame
    betas         (F, 10) or (10,)
    trans         (F, 3)        m, camera frame: Body(poses, betas) + trans is where the person is
    body          ()            name and hash of the body that these are parameters of
  2D truth, which a clip without 3D truth must have:
    kp2d          (F, 31, 3)    x, y px and weight (0: unlabelled) of 14 LSP, then 17 COCO points
  and, so that refining needs no detector:
    detected      (F, 17, 3)    COCO keypoints as a detector saw them: x, y px, confidence

A sample set is images.npy (N, T, H, W, 3) uint8 RGB, N times T frames of one person (T = 1:
photos), with labels.npz: kp2d (N, T, 31, 3) and box (N, T, 4), as above, in pixels of the
stored image. Its camera is taken as near-orthographic, because nothing is known of it.

Files hold no pickles. Pixels and the camera frame are geometry.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from staf_cli import video
from staf_cli.body.format import BETAS, HEADER_ERRORS, read_npz
from staf_cli.body.skinning import Body
from staf_cli.core.errors import DatasetError, StafError, VideoError
from staf_cli.core.files import atomic, printable
from staf_cli.core.geometry import NETWORK_FOCAL
from staf_cli.core.records import COCO_KEYPOINTS, Clip, Float, Frame, Image, Ints

IMAGES, LABELS = "images.npy", "labels.npz"
LSP = 14  # joints, which come first in kp2d
KEYPOINTS = LSP + len(COCO_KEYPOINTS)
ALWAYS = ("frame", "box", "image_size", "focal_length")
OF_3D = ("poses", "betas", "trans", "body")
OPTIONAL = ("kp2d", "detected")
SAMPLE_FPS = 30.0


@dataclass(frozen=True)
class Pose:
    """3D truth: parameters of the body of that name and hash, in the camera frame."""

    poses: Float  # (F, 72) axis-angle, rad
    betas: Float  # (F, 10)
    trans: Float  # (F, 3) m
    body: str
    posed: Body | None = None  # that body; None: it must be the network's own


@dataclass(frozen=True)
class Truth:
    """What is true of one person."""

    frame: Ints  # (F,) ascending
    box: Float  # (F, 4) px
    pose: Pose | None
    kp2d: Float | None  # (F, 31, 3) x, y px, weight
    detected: Float | None  # (F, 17, 3) x, y px, confidence
    joints: Float | None = None  # (F, 14 or 17, 3) m, of joints.py, camera frame; of no body
    judged: NDArray[np.bool_] | None = None  # (F,) which of the frames count; None: all

    @property
    def counted(self) -> int:
        """How many frames count."""
        return len(self.frame) if self.judged is None else int(self.judged.sum())


@dataclass(frozen=True)
class Footage:
    """Pictures with the truth of the people in them."""

    name: str
    clip: Clip  # of a sample set: the path is its images.npy, photos are frames
    focal: float  # px
    people: tuple[Truth, ...]
    pictures: tuple[Path, ...] = ()  # of the one person's frames, where the clip is no file

    def frames(self) -> Iterator[Frame]:
        """Yield all frames in order."""
        if self.pictures:
            return _pictures(self)
        if self.clip.path.name == IMAGES:
            return _photos(self.clip)
        return video.frames(self.clip, video.Damage())


def open_dataset(folder: Path) -> list[Footage]:
    """Read the truth of a dataset, and check its videos.

    Args:
        folder: of the dataset.

    Returns:
        The clips by name, photos last.

    Raises:
        DatasetError: there is nothing to evaluate, or truth is missing, damaged, incomplete or
            of another video.
        VideoError: a video cannot be read, or is damaged.
    """
    if not folder.is_dir():
        raise DatasetError(f"{printable(folder)}: there is no such folder of clips with truth")
    videos = sorted(folder.glob("[!.]*.mp4"))
    truths = sorted(path for path in folder.glob("[!.]*.npz") if path.name != LABELS)
    alone = {path.stem for path in videos} ^ {path.stem for path in truths}
    if alone:
        name = min(alone)
        lacks = "npz" if folder / f"{name}.mp4" in videos else "mp4"
        raise DatasetError(
            f"{printable(folder / name)}.{lacks} is missing: a clip is an mp4 with its truth in "
            "an npz of the same name"
        )
    dataset = [_open_clip(path) for path in videos]
    if (folder / IMAGES).exists() or (folder / LABELS).exists():
        dataset.append(_open_samples(folder))
    if not dataset:
        raise DatasetError(
            f"{printable(folder)}: holds nothing to evaluate, neither clips (mp4 with npz) "
            f"nor photos ({IMAGES} with {LABELS}) nor 3DPW (sequenceFiles) nor MPI-INF-3DHP (TS1) "
            "nor a table (npz with imgname) of Human3.6M or MPI-INF-3DHP"
        )
    return dataset


def save_truth(path: Path, truth: Truth, image_size: tuple[int, int], focal: float) -> None:
    """Write a clip's npz as `open_dataset` reads it.

    Args:
        path: of the npz.
        truth: of the person.
        image_size: (width, height) px of the video.
        focal: px.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {
        "frame": truth.frame,
        "box": truth.box.astype(np.float32),
        "image_size": np.array(image_size),
        "focal_length": np.array(focal),
    }
    if truth.pose is not None:
        for name in ("poses", "betas", "trans"):
            arrays[name] = getattr(truth.pose, name).astype(np.float32)
        arrays["body"] = np.array(truth.pose.body)
    for name in OPTIONAL:
        if getattr(truth, name) is not None:
            arrays[name] = getattr(truth, name).astype(np.float32)
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _open_clip(path: Path) -> Footage:
    where = path.with_suffix(".npz")
    found = _read(where, (*ALWAYS, *OF_3D, *OPTIONAL))
    needed = ALWAYS + (OF_3D if found.keys() & set(OF_3D) or "kp2d" not in found else ())
    for name in needed:
        if name not in found:
            raise DatasetError(f"{printable(where)}: has no {name}; it is no complete truth")
    frames = found["frame"].size
    if "betas" in found and found["betas"].shape == (BETAS,):
        found["betas"] = np.tile(found["betas"], (frames, 1))
    shapes = {
        "frame": (frames,),
        "box": (frames, 4),
        "image_size": (2,),
        "focal_length": (),
        "poses": (frames, 72),
        "betas": (frames, BETAS),
        "trans": (frames, 3),
        "kp2d": (frames, KEYPOINTS, 3),
        "detected": (frames, len(COCO_KEYPOINTS), 3),
    }
    numbers = {n: _numbers(where, n, found[n], shape) for n, shape in shapes.items() if n in found}
    frame = numbers["frame"].clip(-1, 2**53).astype(np.int64)
    whole = (frame == numbers["frame"]).all()
    if frames == 0 or not whole or frame[0] < 0 or (np.diff(frame) <= 0).any():
        raise DatasetError(f"{printable(where)}: frame must hold ascending numbers from 0 on")
    _check_boxes(where, numbers["box"])
    focal = float(numbers["focal_length"])
    if focal <= 0:
        raise DatasetError(f"{printable(where)}: focal_length is {focal}, must be above 0 px")
    pose = None
    if "poses" in numbers:
        if found["body"].dtype.kind != "U" or found["body"].shape != ():
            raise DatasetError(f"{printable(where)}: body is no text; it names a body and its hash")
        body = str(found["body"])
        pose = Pose(numbers["poses"], numbers["betas"], numbers["trans"], body)
    truth = Truth(frame, numbers["box"], pose, numbers.get("kp2d"), numbers.get("detected"))
    size = int(numbers["image_size"][0]), int(numbers["image_size"][1])
    return Footage(path.stem, _check_video(path, truth, size), focal, (truth,))


def _check_video(path: Path, truth: Truth, image_size: tuple[int, int]) -> Clip:
    """The truth's video. Raises VideoError unless it is whole, DatasetError if it is another."""
    clip = video.probe(path)
    if video.inspect(clip):
        raise VideoError(f"{printable(path)}: is damaged, so that frames and truth may not match")
    if clip.image_size != image_size:
        raise DatasetError(
            f"{printable(path)}: is {clip.width}x{clip.height} px, but its truth is of "
            f"{image_size[0]}x{image_size[1]}"
        )
    if clip.frames is not None and truth.frame[-1] >= clip.frames:
        raise DatasetError(
            f"{printable(path)}: has {clip.frames} frames, but its truth goes on to "
            f"frame {truth.frame[-1]}"
        )
    return clip


def _open_samples(folder: Path) -> Footage:
    images = _map_images(folder / IMAGES)
    people, times, height, width = images.shape[:4]
    where = folder / LABELS
    found = _read(where, ("kp2d", "box"))
    for name in ("kp2d", "box"):
        if name not in found:
            raise DatasetError(f"{printable(where)}: has no {name}; it holds no labels")
    kp2d = _numbers(where, "kp2d", found["kp2d"], (people, times, KEYPOINTS, 3))
    box = _numbers(where, "box", found["box"], (people, times, 4))
    _check_boxes(where, box)
    clip = Clip(
        path=folder / IMAGES,
        width=width,
        height=height,
        fps=SAMPLE_FPS,
        time_base=1 / Fraction(SAMPLE_FPS),
        frames=people * times,
        has_audio=False,
    )
    frame = np.arange(people * times).reshape(people, times)
    truths = (Truth(frame[n], box[n], None, kp2d[n], None) for n in range(people))
    return Footage("photos", clip, NETWORK_FOCAL, tuple(truths))


def _map_images(path: Path) -> NDArray[np.uint8]:
    """A sample set's images (N, T, H, W, 3), read from the disk as they are needed."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait
            raise ValueError("no file")
        images: NDArray[np.uint8] = open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise DatasetError(f"{printable(path)} is missing: {LABELS} belongs to it") from error
    except (*HEADER_ERRORS, OSError) as error:
        raise DatasetError(f"{printable(path)}: is damaged or no numpy array of images") from error
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[-1] != 3 or not images.size:
        raise DatasetError(
            f"{printable(path)}: holds {images.dtype} {images.shape}, not uint8 (N, T, H, W, 3)"
        )
    return images


def _photos(clip: Clip) -> Iterator[Frame]:
    images = _map_images(clip.path)
    for index, image in enumerate(images.reshape(-1, *images.shape[2:])):
        pixels: Image = np.array(image)
        yield Frame(index, index, index / clip.fps, pixels)


def _pictures(footage: Footage) -> Iterator[Frame]:
    for index, path in zip(footage.people[0].frame.tolist(), footage.pictures, strict=True):
        image = video.read_picture(path)
        if image is None:
            raise DatasetError(f"{printable(path)}: is no picture that can be read; get it again")
        if image.shape[1::-1] != footage.clip.image_size:
            raise DatasetError(
                f"{printable(path)}: is {image.shape[1]}x{image.shape[0]} px, but the first of its "
                f"clip is {footage.clip.width}x{footage.clip.height}"
            )
        yield Frame(index, index, index / footage.clip.fps, image)


def _read(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    try:
        return read_npz(path, names)
    except StafError as error:
        raise DatasetError(str(error)) from error


def _numbers(path: Path, name: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> Float:
    """An array as float64. Raises DatasetError unless it holds finite numbers in that shape."""
    if array.dtype.kind not in "iuf":
        raise DatasetError(f"{printable(path)}: {name} holds {array.dtype}, not numbers")
    if array.shape != shape:
        raise DatasetError(f"{printable(path)}: {name} has shape {array.shape}, expected {shape}")
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise DatasetError(f"{printable(path)}: {name} holds values that are not finite")
    return numbers


def _check_boxes(path: Path, box: Float) -> None:
    if (box[..., 2:] <= box[..., :2]).any():
        raise DatasetError(f"{printable(path)}: a box is empty; they are x1, y1, x2, y2")
