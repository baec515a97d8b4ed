"""What every format is written from: the people of one clip and the body they wear."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from staf_cli.body.skinning import Body
from staf_cli.core.records import Person, Track


@dataclass(frozen=True)
class Scene:
    """One clip's result in memory. Tracks and people belong together and come in one order."""

    tracks: Sequence[Track]  # what the detector saw
    people: Sequence[Person]  # what was recovered from it
    body: Body  # the one the people's parameters mean
    frames: range  # their indices in the clip, those without anybody included

    def __post_init__(self) -> None:
        for track, person in zip(self.tracks, self.people, strict=True):
            if track.id != person.id or not np.array_equal(track.frame, person.frame):
                raise ValueError(f"track {track.id} is not that of person {person.id}")
            if person.frame[0] not in self.frames or person.frame[-1] not in self.frames:
                raise ValueError(f"person {person.id} is not within {self.frames}")
