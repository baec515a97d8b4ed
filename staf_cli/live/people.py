"""The people of one frame after the other: detected, followed, recovered; nothing known ahead."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from staf_cli.body.posing import vertices
from staf_cli.core.geometry import box_area
from staf_cli.core.records import Clip, Detections, Frame, Track
from staf_cli.pipeline.loading import Tools
from staf_cli.pipeline.options import Options
from staf_cli.recovery.engine import infer_tracks
from staf_cli.recovery.placement import default_focal, place
from staf_cli.rendering import Figure
from staf_cli.tracking.association import associate
from staf_cli.tracking.detection import find_people
from staf_cli.tracking.detector import Detector
from staf_cli.tracking.loading import load_detector


def follow_people(
    frames: Iterable[Frame], clip: Clip, tools: Tools, detector: Detector, options: Options
) -> Iterator[tuple[Frame, list[Figure]]]:
    """Find and recover the people of each frame before the next frame is taken.

    Boxes are as detected, identities the tracker's own. The network sees nine copies of a frame,
    as it does at the ends of a clip (`Cadence.window_rows`); nobody is fitted to keypoints.

    Args:
        frames: in order; those between them may be missing.
        clip: gives image size and frame rate.
        tools: network and body.
        detector: from `load`.
        options: of detection, `focal`, and how many people at most.

    Yields:
        Each frame with the people who are followed in it.

    Raises:
        OutOfMemory: the device is too small.
        WeightsError: the network's answer is not finite.
    """
    current: list[Frame] = []

    def taken() -> Iterator[Frame]:
        for frame in frames:
            current[:] = [frame]
            yield frame

    conf = options.tracks.conf
    found = find_people(taken(), detector, conf, options.detect_size, at_once=1)
    for seen in associate(found, options.tracker, conf, detector):
        tracks = _followed(seen, options.tracks.max_people)
        yield current[0], _recovered(current[0], tracks, clip, tools, options.recovery.focal)


def load(tools: Tools, options: Options) -> Detector:
    """Load the detector, and compute a grey frame with one person: the first takes seconds.

    Args:
        tools: network, body and where the detector is.
        options: the same as for `follow_people`.

    Returns:
        The detector.

    Raises:
        OutOfMemory: the device is too small.
        WeightsError: the file is no detector.
    """
    detector = load_detector(tools.detector, tools.settings.device, tools.settings.dtype)
    frame = Frame(0, 0, 0.0, np.full((480, 640, 3), 128, np.uint8))
    clip = Clip(Path(), 640, 480, 30.0, Fraction(1, 30), None, has_audio=False)
    for _ in follow_people([frame], clip, tools, detector, options):
        pass
    box, kp2d = np.array([[240.0, 40, 400, 440]]), np.zeros((1, 17, 3))
    someone = Detections(0, 0.0, box, np.ones(1), np.ones(1, np.int64), kp2d)
    _recovered(frame, _followed(someone, None), clip, tools, None)
    return detector


def _followed(seen: Detections, most: int | None) -> list[Track]:
    """The people with an identity, the largest first, as tracks of this frame alone."""
    followed = np.flatnonzero(seen.track_id)
    largest = followed[np.argsort(-box_area(seen.box[followed]), kind="stable")][:most]
    return [
        Track(
            id=int(seen.track_id[row]),
            frame=np.array([seen.frame]),
            time=np.array([seen.time]),
            box=seen.box[row : row + 1],
            score=seen.score[row : row + 1],
            interpolated=np.zeros(1, bool),
            kp2d=seen.kp2d[row : row + 1],
        )
        for row in largest
    ]


def _recovered(
    frame: Frame, tracks: list[Track], clip: Clip, tools: Tools, focal: float | None
) -> list[Figure]:
    """The people of a frame as the renderer draws them."""
    figures = []
    for number, _, estimate in infer_tracks(
        [frame], tracks, tools.network, tools.crop_scale, tools.settings
    ):
        track = tracks[number]
        focal = focal or default_focal(clip.image_size)
        person = place(track, estimate, clip, tools.body, tools.weights, focal)
        (mesh,) = vertices(person, tools.body, slice(1))
        figures.append(Figure(track.id, mesh, track.box[0], track.kp2d[0]))
    return figures
