"""People as points, a network that sees them at known places, and what a detector sees of them."""

import numpy as np

from staf_cli.core.records import COCO_KEYPOINTS, LANDMARKS, MASK_PIXELS, Frame, Track
from staf_cli.core.regions import around_boxes, to_frame
from staf_cli.landmarks.reading import Landmarks

FPS = 30
SIZE = (640, 360)
FIGURE = {  # from the hips, in px
    "nose": (0, -70),
    "shoulder": (15, -50),
    "elbow": (25, -25),
    "wrist": (30, 0),
    "hip": (10, 0),
    "knee": (12, 40),
    "ankle": (14, 80),
}


def points(names):
    """Where the joints of the figure are; what it lacks is at the nose."""
    places = np.zeros((len(names), 2))
    for row, name in enumerate(names):
        x, y = FIGURE.get(name.removeprefix("left_").removeprefix("right_"), FIGURE["nose"])
        places[row] = (-x if name.startswith("right_") else x), y
    return places


BODY, JOINTS = points(LANDMARKS), points(COCO_KEYPOINTS)


def a_track(places, score=0.9):
    """What the detector sees: {frame: (x, y) of the hips}."""
    frame, hips = np.array(list(places)), np.array(list(places.values()), float)
    joints = hips[:, None] + JOINTS
    return Track(
        id=0,
        frame=frame,
        time=frame / FPS,
        box=np.concatenate([joints.min(1) - 6, joints.max(1) + 6], 1),
        score=np.full(len(frame), score),
        interpolated=np.zeros(len(frame), bool),
        kp2d=np.concatenate([joints, np.ones((*joints.shape[:2], 1))], 2),
    )


def frames(count):
    for index in range(count):
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        image[0, 0, 0] = index  # by which the network below knows where people are
        yield Frame(index, index, index / FPS, image)


def network(*people, score=lambda index: 1.0):
    """A network that sees the nearest of the people, functions from the frame to (x, y) or None."""

    def look(image, regions):
        index = int(image[0, 0, 0])
        there = np.array([place for one in people if (place := one(index)) is not None], float)
        seen = []
        for region in regions:
            nearest = there[np.linalg.norm(there - region[:2], axis=1).argmin()]
            seen.append(nearest + BODY)
        kp2d = np.concatenate([np.array(seen), np.ones((len(seen), len(BODY), 1))], 2)
        boxes = np.concatenate([kp2d[..., :2].min(1), kp2d[..., :2].max(1)], 1)
        n = len(regions)
        return Landmarks(
            kp2d=kp2d,
            metres=np.zeros((n, len(BODY), 3)),
            score=np.full(n, score(index)),
            region=regions,
            next_region=around_boxes(boxes),
            mask=np.stack(
                [mask_of(box, region) for box, region in zip(boxes, regions, strict=True)]
            ),
        )

    return look


def mask_of(box, region):
    """Everything in a box is on the person."""
    centres = np.stack(np.meshgrid(*[np.arange(MASK_PIXELS) + 0.5] * 2), -1).reshape(1, -1, 2)
    places = to_frame(centres, region[None], MASK_PIXELS)[0]
    inside = ((places >= box[:2]) & (places <= box[2:])).all(1)
    return 255 * inside.reshape(MASK_PIXELS, MASK_PIXELS).astype(np.uint8)


def walking(index):
    return 100 + 4 * index, 180


def standing(index):
    return 500, 190


def hips(track):
    return (track.kp2d[:, 11, :2] + track.kp2d[:, 12, :2]) / 2
