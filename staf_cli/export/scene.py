"""What every format is written from: the people of one clip and their body model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from staf_cli.body.skinning import Body
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.records import Person, Track


@dataclass(frozen=True)
class Scene:
    """One clip's result in memory; tracks and people are pairs, in the same order.

    Raises:
        ValueError: A track is not that of its person, or a person is outside `frames`.
    """

    tracks: Sequence[Track]  # what the detector saw
    people: Sequence[Person]  # what was recovered from it
    body: Body  # the body model that the people's parameters belong to
    frames: range  # the clip's frame indices, those without people included
    root_motion: bool = False  # glb: whether a joint above the pelvis carries place and heading
    camera: CameraMotion | None = None  # how the camera moves, if that was asked for

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        for track, person in zip(self.tracks, self.people, strict=True):
            if track.id != person.id or not np.array_equal(track.frame, person.frame):
                raise ValueError(f"track {track.id} is not that of person {person.id}")
            if person.frame[0] not in self.frames or person.frame[-1] not in self.frames:
                raise ValueError(f"person {person.id} is not within {self.frames}")
