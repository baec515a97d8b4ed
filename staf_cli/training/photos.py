"""Photos of people as training data: human 2D labels, detected keypoints, sample sets.

Two kinds of folders are read. Leeds Sports Pose Extended: photos and `joints.npz` with `names`
(N,) and `joints` (N, 14, 3): x, y in pixels of the file and 1 where labelled. Street photos: one
person each, without labels. The joints are LSP's (`LSP_JOINTS`), left and right as the person has
them; annotators confused the two now and then.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from staf_cli.body.skinning import Body
from staf_cli.core.crop import crop_image, crop_matrix, square_box
from staf_cli.core.errors import DatasetError
from staf_cli.core.records import COCO_KEYPOINTS, Float, Image
from staf_cli.tracking.detection import COARSE
from staf_cli.tracking.detector import Detector
from staf_cli.tracking.loading import load_detector
from staf_cli.training.people.pose_prior import PosePrior
from staf_cli.training.pseudo_labels import confidence, fit_bodies
from staf_cli.training.samples import MARGIN, PIXELS, POINTS, Labels, write_samples

HELD_OUT = 200  # labelled photos kept for evaluation
HELD_OUT_SEED = 20

LSP_JOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    *("neck", "head_top"),
)

DETECTION_PIXELS = 448  # side of the crop that the detector gets
DETECTION_SCALE = 1.6  # side of that crop over the extent of the labels
LABELLED_CONF = 0.1  # the detector's threshold where labels show that there is a person
STREET_CONF = 0.5
LEAST_CONFIDENCE = 0.2  # a keypoint below it is a guess
FAR = 0.1  # extents of the labels: a keypoint further from its label is another's or wrong
SAME_PERSON = 0.15  # extents: mean distance up to which a detection is the labelled person
MIRRORED = 0.6  # left and right are exchanged where that leaves at most this much of the distance
FACE_REACH = 1.0  # distances from neck to head top: how far from their middle a face can be
BEYOND_LABELS = 0.06  # extents by which hands, feet and flesh reach beyond the joints
OVERLAP = 0.5  # IoU from which the detector's box is used

# The 12 joints that have a label and a keypoint: columns in LSP's and in COCO's order.
_LABELLED = np.arange(12)
_DETECTED = np.array([COCO_KEYPOINTS.index(name) for name in LSP_JOINTS[:12]])
_FACE = np.arange(5)
_NECK, _HEAD_TOP = 12, 13
_OTHER_SIDE = np.array(
    [
        COCO_KEYPOINTS.index(
            name.replace("left", "*").replace("right", "left").replace("*", "right")
        )
        for name in COCO_KEYPOINTS
    ]
)
_MISTAKEN_TOGETHER = (np.arange(17), np.arange(7, 11), np.arange(13, 17))  # all, arms, legs


@dataclass(frozen=True)
class Photo:
    """One photo of one person; others in it do not matter."""

    name: str  # of the file
    image: Image  # (H, W, 3) RGB
    labels: Float | None  # (14, 3) LSP joints: x, y px and 1 where labelled; None: unlabelled


@dataclass(frozen=True)
class Sample:
    """One person cut out of a photo."""

    name: str  # of the photo
    image: Image  # (288, 288, 3) RGB, black outside of the photo
    box: Float  # (4,) x1, y1, x2, y2 px of this image
    kp2d: Float  # (31, 3) LSP joints, COCO keypoints: x, y px of this image; confidence


def read_labelled(folder: Path) -> Iterator[Photo]:
    """Read a Leeds Sports Pose Extended folder.

    Args:
        folder: With joints.npz and the photos that it names.

    Yields:
        Labelled photos, sorted by name.

    Raises:
        DatasetError: joints.npz is missing, or a photo cannot be read.
    """
    path = folder / "joints.npz"
    if not path.is_file():
        raise DatasetError(f"{folder}: has no joints.npz; choose the folder of labelled photos")
    with np.load(path, allow_pickle=False) as file:
        names, joints = file["names"], file["joints"].astype(np.float64)
    for row in np.argsort(names):
        name = str(names[row])
        yield Photo(name, _read(folder / name), joints[row])


def read_unlabelled(folder: Path) -> Iterator[Photo]:
    """Read a folder of photos.

    Args:
        folder: With .jpg files.

    Yields:
        Unlabelled photos, sorted by name.
    """
    for path in sorted(folder.glob("*.jpg")):
        yield Photo(path.name, _read(path), None)


def _read(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DatasetError(f"{path}: not a readable photo; leave it out or get it again")
    return np.asarray(image, np.uint8)


def held_out_names(names: Sequence[str]) -> frozenset[str]:
    """Choose HELD_OUT photos that are never trained on, by a seeded draw from the sorted names."""
    ordered = sorted(names)
    draw = np.random.default_rng(HELD_OUT_SEED).permutation(len(ordered))[:HELD_OUT]
    return frozenset(ordered[row] for row in draw)


def find_samples(photos: Iterable[Photo], detector: Path, device: torch.device) -> Iterator[Sample]:
    """Make a sample of the person in each photo, from labels and detected keypoints.

    A labelled person always makes a sample, even if the detector does not find them. A photo
    without labels and without a detected person is left out.

    Args:
        photos: To search.
        detector: The YOLO pose detector's file.
        device: To detect on.

    Yields:
        Samples in the photos' order.
    """
    network = load_detector(detector, device, torch.float32)
    for photo in photos:
        if photo.labels is None:
            detected = detect_unlabelled(photo, network)
        else:
            detected = detect_labelled(photo, network)
        sample = make_sample(photo, detected)
        if sample is not None:
            yield sample


@dataclass(frozen=True)
class DetectedPeople:
    """The N people that a detector found in one photo, in pixels of the photo."""

    box: Float  # (N, 4)
    score: Float  # (N,)
    kp2d: Float  # (N, 17, 3)


def detect_unlabelled(photo: Photo, detector: Detector) -> DetectedPeople:
    """Detect people in a whole photo.

    Args:
        photo: Without labels.
        detector: Finds people in pictures.

    Returns:
        The people.
    """
    (found,) = detector.find([photo.image], COARSE, STREET_CONF)
    return DetectedPeople(found.box, found.score, found.kp2d)


def detect_labelled(photo: Photo, detector: Detector) -> DetectedPeople:
    """Detect people in an enlarged crop around the labelled person.

    Detectors know upright people. If the labelled torso is not upright, the crop is searched a
    second time, turned by the quarter turns that bring it upright.

    Args:
        photo: With labels.
        detector: Finds people in pictures.

    Returns:
        The people of both searches.
    """
    labels = _labels(photo)
    square = square_box(_extent_box(labels), DETECTION_SCALE)
    crop = crop_image(photo.image, square, DETECTION_PIXELS)
    turns = sorted({0, quarter_turns(labels)})
    views = [np.ascontiguousarray(np.rot90(crop, turn)) for turn in turns]
    corner, scale = square[:2] - square[2] / 2, square[2] / DETECTION_PIXELS
    boxes, scores, keypoints = [], [], []
    for turn, found in zip(turns, detector.find(views, COARSE, LABELLED_CONF), strict=True):
        corners = rotate_back(found.box.reshape(-1, 2, 2), turn, DETECTION_PIXELS)
        corners = corner + scale * corners
        boxes.append(np.concatenate([corners.min(1), corners.max(1)], -1))
        scores.append(found.score)
        places = corner + scale * rotate_back(found.kp2d[..., :2], turn, DETECTION_PIXELS)
        keypoints.append(np.concatenate([places, found.kp2d[..., 2:]], -1))
    return DetectedPeople(np.concatenate(boxes), np.concatenate(scores), np.concatenate(keypoints))


def quarter_turns(labels: Float) -> int:
    """Find the quarter turns that bring a torso most upright.

    Args:
        labels: (14, 3) LSP joints.

    Returns:
        0 to 3, counter-clockwise turns of the photo, as np.rot90 takes them.
    """
    x, y, _ = labels[_NECK] - labels[2:4].mean(0)
    return round(float(np.arctan2(x, -y)) / (np.pi / 2)) % 4


def rotate_back(points: Float, turns: int, size: int) -> Float:
    """Map points of a turned square image back into the image.

    Args:
        points: (..., 2) px in np.rot90(image, turns).
        turns: Quarter turns.
        size: px, side of the image.

    Returns:
        (..., 2) px in the image.
    """
    for _ in range(turns):
        points = np.stack([size - points[..., 1], points[..., 0]], -1)
    return points


def make_sample(photo: Photo, detected: DetectedPeople) -> Sample | None:
    """Cut the person out of a photo, with labels and detected keypoints.

    Args:
        photo: With or without labels.
        detected: People in it. Of a photo without labels the largest one is taken.

    Returns:
        The sample; None where there are neither labels nor detections.
    """
    kp2d = np.zeros((POINTS, 3))
    if photo.labels is None:
        if not len(detected.score):
            return None
        row = int((detected.box[:, 2:] - detected.box[:, :2]).prod(-1).argmax())
        kp2d[14:], box = detected.kp2d[row], detected.box[row]
    else:
        kp2d[:14] = labels = photo.labels
        box = _labelled_box(labels)
        found = find_labelled(labels, detected.kp2d)
        if found is not None:
            kp2d[14:] = reconcile(labels, detected.kp2d[found])
            if _iou(box, detected.box[found]) > OVERLAP:
                both = np.stack([box, detected.box[found]])
                box = np.concatenate([both[:, :2].min(0), both[:, 2:].max(0)])
    height, width = photo.image.shape[:2]
    box = np.clip(box, 0, np.tile([width, height], 2))
    size = np.array([width, height])
    inside = ((kp2d[:, :2] >= 0) & (kp2d[:, :2] <= size)).all(-1)
    kp2d[14:, 2] *= kp2d[14:, 2] >= LEAST_CONFIDENCE
    kp2d[:, 2] *= inside
    square = square_box(box, MARGIN)
    to_crop = crop_matrix(square, PIXELS)
    kp2d[:, :2] = kp2d[:, :2] @ to_crop[:, :2].T + to_crop[:, 2]
    kp2d[kp2d[:, 2] == 0, :2] = 0
    corners = box.reshape(2, 2) @ to_crop[:, :2].T + to_crop[:, 2]
    return Sample(photo.name, crop_image(photo.image, square, PIXELS), corners.ravel(), kp2d)


def find_labelled(labels: Float, kp2d: Float) -> int | None:
    """Find the labelled person among detected ones.

    Args:
        labels: (14, 3) LSP joints.
        kp2d: (N, 17, 3) COCO keypoints of detected people.

    Returns:
        The person's row; None where nobody is near enough.
    """
    if not len(kp2d):
        return None
    size = _extent(labels)
    far = np.array([_distance(labels, match_sides(labels, one), size).mean() for one in kp2d])
    best = int(far.argmin())
    return best if far[best] < SAME_PERSON else None


def reconcile(labels: Float, kp2d: Float) -> Float:
    """Make a detection agree with the labels.

    The labels decide about left and right and about where a joint is.

    Args:
        labels: (14, 3) LSP joints.
        kp2d: (17, 3) COCO keypoints of the same person.

    Returns:
        (17, 3), with confidence 0 where a keypoint contradicts the labels.
    """
    kp2d = match_sides(labels, kp2d)
    size = _extent(labels)
    wrong = _distance(labels, kp2d, size) > FAR
    kp2d[_DETECTED[wrong & (labels[:12, 2] > 0)], 2] = 0
    head = labels[_HEAD_TOP] - labels[_NECK]
    middle = labels[_NECK] + head / 2
    off = np.linalg.norm(kp2d[_FACE, :2] - middle[:2], axis=-1)
    reach = max(FACE_REACH * float(np.linalg.norm(head[:2])), FAR * size)
    kp2d[_FACE[off > reach], 2] = 0
    return kp2d


def match_sides(labels: Float, kp2d: Float) -> Float:
    """Exchange left and right of a detection where the labels clearly contradict it.

    All keypoints at once, then those of the arms, then of the legs.

    Args:
        labels: (14, 3) LSP joints.
        kp2d: (17, 3) COCO keypoints of the same person.

    Returns:
        (17, 3), a copy.
    """
    size = _extent(labels)
    for columns in _MISTAKEN_TOGETHER:
        exchanged = kp2d.copy()
        exchanged[columns] = kp2d[_OTHER_SIDE[columns]]
        concerned = np.isin(_DETECTED, columns)
        before = _distance(labels, kp2d, size)[concerned].mean()
        after = _distance(labels, exchanged, size)[concerned].mean()
        kp2d = exchanged if after < MIRRORED * before else kp2d
    return kp2d.copy()


def _distance(labels: Float, kp2d: Float, size: float) -> Float:
    """Distances (12,) of detected joints from the labelled ones, in extents, at most 0.3 each."""
    off = kp2d[_DETECTED, :2] - labels[_LABELLED, :2]
    far = (np.linalg.norm(off, axis=-1) / size).clip(max=0.3) * (labels[:12, 2] > 0)
    return np.asarray(far, np.float64)


def _labels(photo: Photo) -> Float:
    assert photo.labels is not None
    return photo.labels


def _extent_box(labels: Float) -> Float:
    """Box (4,) px around the labelled joints (14, 3)."""
    places = labels[labels[:, 2] > 0, :2]
    return np.concatenate([places.min(0), places.max(0)])


def _extent(labels: Float) -> float:
    """Longer side of the box around the labelled joints, px."""
    box = _extent_box(labels)
    return float((box[2:] - box[:2]).max())


def _labelled_box(labels: Float) -> Float:
    """Box (4,) px around a whole person whose joints are labelled."""
    reach = BEYOND_LABELS * _extent(labels)
    return np.asarray(_extent_box(labels) + np.array([-reach, -reach, reach, reach]))


def _iou(one: Float, other: Float) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = (high - low).clip(0).prod()
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return float(shared / (areas - shared))


def write_photos(folder: Path, samples: Sequence[Sample], body: Body, prior: PosePrior) -> None:
    """Fit the body to all samples and write them as a sample set of single images.

    Args:
        folder: Where to.
        samples: People cut out of photos.
        body: With linear skinning.
        prior: Of its poses.

    Raises:
        BodyError: The body cannot be fitted to photos.
        OutputError: The folder cannot be written.
    """
    kp2d = np.stack([sample.kp2d for sample in samples]).astype(np.float32)
    fitted = fit_bodies(torch.from_numpy(kp2d), body, prior)
    labels = Labels(
        kp2d=kp2d[:, None],
        box=np.stack([sample.box for sample in samples]).astype(np.float32)[:, None],
        poses=fitted.poses[:, None],
        betas=fitted.betas.numpy()[:, None],
        smpl_weight=confidence(fitted).numpy(),
    )
    pieces = (
        (sample.image[None, None], labels[row : row + 1]) for row, sample in enumerate(samples)
    )
    write_samples(folder, pieces, len(samples), frames=1)


def prepare_photos(
    labelled: Path,
    unlabelled: Path,
    training: Path,
    held_out: Path,
    *,
    detector: Path,
    body: Body,
    prior: PosePrior,
    device: torch.device,
) -> None:
    """Make a sample set to train on and one to evaluate on of two folders of photos.

    Takes about half a second per photo on one core.

    Args:
        labelled: Folder of Leeds Sports Pose Extended.
        unlabelled: Folder of street photos.
        training: Folder for the set to train on.
        held_out: Folder for the held-out labelled photos.
        detector: The YOLO pose detector's file.
        body: With linear skinning.
        prior: Of its poses.
        device: To detect on.

    Raises:
        DatasetError: A photo or joints.npz cannot be read.
        BodyError: The body cannot be fitted to photos.
        OutputError: A folder cannot be written.
    """
    found = list(find_samples(read_labelled(labelled), detector, device))
    names = held_out_names([sample.name for sample in found])
    write_photos(held_out, [sample for sample in found if sample.name in names], body, prior)
    found = [sample for sample in found if sample.name not in names]
    found += find_samples(read_unlabelled(unlabelled), detector, device)
    write_photos(training, found, body, prior)
