"""What every format is written from: the people of one clip and their body model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from staf_cli.body.skinning import Body
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.options import Rig, Space
from staf_cli.core.records import Person, Track
from staf_cli.export.motion import in_level_camera


@dataclass(frozen=True)
class Scene:
    """One clip's result in memory; tracks and people are pairs, in the same order.

    Raises:
        ValueError: A track is not that of its person, a person is outside `frames`, or the world
            is asked for and not known.
    """

    tracks: Sequence[Track]  # what the detector saw
    people: Sequence[Person]  # what was recovered from it
    body: Body  # the body model that the people's parameters belong to
    frames: range  # the clip's frame indices, those without people included
    root_motion: bool = False  # glb: whether a joint above the pelvis carries place and heading
    rig: Rig = "smpl"  # glb, bvh: whose names the bones have
    space: Space = "camera"  # where people are in WORLD_FORMATS
    camera: CameraMotion | None = None  # how the camera moves, if that was asked for
    clothes: bool = True  # glb: whether people wear what `body.clothes` says

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        for track, person in zip(self.tracks, self.people, strict=True):
            if track.id != person.id or not np.array_equal(track.frame, person.frame):
                raise ValueError(f"track {track.id} is not that of person {person.id}")
            if person.frame[0] not in self.frames or person.frame[-1] not in self.frames:
                raise ValueError(f"person {person.id} is not within {self.frames}")
            if self.space == "world" and person.world_poses is None:
                raise ValueError(f"person {person.id} is not placed in the world")

    def placed(self) -> "Scene":
        """Return the scene as the formats write it that know a world.

        In the world it is as a level camera would have it that stands at the world's origin.
        """
        if self.space == "camera":
            return self
        return replace(self, people=[in_level_camera(person) for person in self.people])
