"""How fast heels and toes move as the landmark network saw them."""

import numpy as np

from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.records import LANDMARKS, Float, LandmarkTrack, Person
from staf_cli.world.feet import camera_rows

# In the order of `soles.POINTS`.
POINTS = [
    LANDMARKS.index(name)
    for name in ("left_heel", "left_foot_index", "right_heel", "right_foot_index")
]
VISIBLE = 0.5  # visibility from which a landmark counts
LONGEST_GAP = 0.35  # s between two looks whose points are compared
REACH = 0.2  # s from the middle of two looks, within which their speed holds


def seen_speed(seen: LandmarkTrack, person: Person, camera: CameraMotion) -> Float:
    """Compute speeds across the line of sight from pairs of looks the same way round.

    What looks at the picture and at its mirror image have in different places would seem to move.

    Args:
        seen: the looks at the person.
        person: F frames, for times and distance.
        camera: its motion; its frames include the person's.

    Returns:
        (F, 4) m/s, in the order of `soles.POINTS`; NaN where nothing was seen.
    """
    found = np.full((len(person.frame), len(POINTS)), np.nan)
    looked = np.isin(seen.frame, person.frame) & (seen.score > 0)
    for point, landmark in enumerate(POINTS):
        middles, speeds = [np.zeros(0)], [np.zeros(0)]
        for mirrored in (False, True):
            rows = looked & (seen.mirrored == mirrored) & (seen.kp2d[:, landmark, 2] > VISIBLE)
            pixels, at = seen.kp2d[rows, landmark, :2], seen.frame[rows]
            middle, speed = _pairs(pixels.astype(float), at, person, camera)
            middles.append(middle)
            speeds.append(speed)
        middle, speed = np.concatenate(middles), np.concatenate(speeds)
        if len(middle):
            order = np.argsort(middle)
            away = np.abs(person.time[:, None] - middle).min(1)
            near = np.interp(person.time, middle[order], speed[order])
            found[:, point] = np.where(away <= REACH, near, np.nan)
    return found


def _pairs(
    pixels: Float, frame: np.ndarray, person: Person, camera: CameraMotion
) -> tuple[Float, Float]:
    """Times (N,) s between successive looks at a point, and its speeds (N,) m/s there."""
    at = np.searchsorted(person.frame, frame)
    rows = camera_rows(camera, frame)
    ray = (pixels - np.array(person.image_size) / 2) / person.focal_length
    ray = np.concatenate([ray, np.ones((len(ray), 1))], 1)
    depth, time = person.joints3d[at, 0, 2], person.time[at]
    mean = (depth[1:] + depth[:-1])[:, None] / 2  # the same for both: it is seen across only
    turned = np.einsum("nij,nj->ni", camera.rotation[rows], ray)
    moved = np.diff(turned, axis=0) * mean + np.diff(camera.position[rows], axis=0)
    gap = np.diff(time)
    near = (gap > 0) & (gap <= LONGEST_GAP) & (np.diff(camera.shot[rows]) == 0)
    speed = np.linalg.norm(moved[near], axis=1) / gap[near]
    return ((time[1:] + time[:-1]) / 2)[near], speed
