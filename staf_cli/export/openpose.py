"""openpose/frame_<index>_keypoints.json: the detector's keypoints in OpenPose's format.

BODY_25, made from the detector's 17 COCO keypoints: the neck is the middle of the shoulders, the
mid-hip that of the hips, each with the lower confidence of the two. The keypoints of the feet
are zeros, as COCO has none.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.core.errors import UsageError
from staf_cli.core.files import atomic
from staf_cli.core.records import COCO_KEYPOINTS, Float, rows_by_frame
from staf_cli.export.scene import Scene

FILES = "openpose/frame_[0-9]*_keypoints.json"
BODY_25 = (
    ("nose",),
    ("left_shoulder", "right_shoulder"),
    *(("right_shoulder",), ("right_elbow",), ("right_wrist",)),
    *(("left_shoulder",), ("left_elbow",), ("left_wrist",)),
    ("left_hip", "right_hip"),
    *(("right_hip",), ("right_knee",), ("right_ankle",)),
    *(("left_hip",), ("left_knee",), ("left_ankle",)),
    *(("right_eye",), ("left_eye",), ("right_ear",), ("left_ear",)),
    *[()] * 6,  # big toe, small toe and heel, left and right
)  # the COCO keypoints whose middle each of OpenPose's is
EMPTY_KEYS = (
    "face_keypoints_2d",
    "hand_left_keypoints_2d",
    "hand_right_keypoints_2d",
    "pose_keypoints_3d",
    "face_keypoints_3d",
    "hand_left_keypoints_3d",
    "hand_right_keypoints_3d",
)  # readers expect the keys; nothing was detected for them


def names(scene: Scene) -> list[str]:
    """Return the files' names: one for each frame of the clip, with people or without.

    Raises:
        UsageError: The detector gave no keypoints at all.
    """
    if not any(track.kp2d[..., 2].any() for track in scene.tracks):
        raise UsageError(
            "openpose needs keypoints, and the detector gave none; "
            "run the clip with a pose detector such as yolo11n-pose"
        )
    return [f"openpose/frame_{frame:012d}_keypoints.json" for frame in scene.frames]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the keypoints (x, y px, confidence) of every frame.

    A frame has the people that the detector saw in it; people whose box was interpolated over a
    gap are not among them.

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        Each file's path, once the file is complete.
    """
    rows = rows_by_frame(scene.tracks)
    for frame, name in zip(scene.frames, names(scene), strict=True):
        people = [
            _person(scene.tracks[number].id, scene.tracks[number].kp2d[row])
            for number, row in rows.get(frame, ())
            if scene.tracks[number].kp2d[row, :, 2].any()
        ]
        path = folder / name
        with atomic(path) as temporary:
            text = json.dumps({"version": 1.3, "people": people}) + "\n"
            temporary.write_text(text, encoding="utf-8")
        yield path


def _person(person: int, coco: Float) -> dict[str, Any]:
    """Return an entry of people[]; coco: (17, 3) x, y px, confidence."""
    by_name = dict(zip(COCO_KEYPOINTS, coco, strict=True))
    keypoints = np.stack([_middle([by_name[name] for name in names]) for names in BODY_25])
    return {
        "person_id": [person],
        "pose_keypoints_2d": keypoints.round(3).ravel().tolist(),
        **{key: [] for key in EMPTY_KEYS},
    }


def _middle(keypoints: list[Float]) -> Float:
    """Return mean position and lowest confidence; zeros, as OpenPose has it, if one is unseen."""
    if not keypoints or min(keypoint[2] for keypoint in keypoints) == 0:
        return np.zeros(3)
    x, y, _ = np.mean(keypoints, 0)
    return np.array([x, y, min(keypoint[2] for keypoint in keypoints)], np.float64)
