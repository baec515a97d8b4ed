"""People followed on from where they are lost, and back from where they appear.

Back is on in reversed time: tracks are turned around, and frames come last first.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from staf_cli.core.records import Frame, Track
from staf_cli.landmarks.continuing import Look, follow_lost
from staf_cli.landmarks.handover import with_followed


class Read(Protocol):
    """Reads frames of a clip."""

    def __call__(self, first: int, backwards: bool) -> Iterable[Frame]:
        """Read frames, the last first if backwards.

        Args:
            first: index of the frame to begin with, none that was read in this direction before.
            backwards: whether those before it follow, not those after it.

        Returns:
            The frames.
        """
        ...


def follow_both_ways(
    people: Sequence[Track],
    shots: Sequence[tuple[int, int]],
    read: Read,
    look: Look,
    size: tuple[int, int],
) -> list[Track]:
    """Follow people where their tracks end, begin or jump inside the picture.

    Args:
        people: tracks without numbers, boxes not smoothed.
        shots: the first frame of each, and the one after its last.
        read: the clip.
        look: the landmark network.
        size: (width, height) of the frames, px.

    Returns:
        Tracks without numbers, with what was seen of people.
    """
    ends = {end - 1 for _, end in shots}
    on = follow_lost(lambda first: read(first, False), people, look, ends, size)
    people = with_followed(people, on)

    def read_back(first: int) -> Iterator[Frame]:
        for frame in read(-first, True):
            yield Frame(-frame.index, -frame.pts, -frame.time, frame.image)

    turned = [in_reverse(one) for one in people]
    ends = {-first for first, _ in shots}
    back = follow_lost(read_back, turned, look, ends, size, within=False)
    if back:
        people = [in_reverse(one) for one in with_followed(turned, back)]
    return people


def in_reverse(track: Track) -> Track:
    """Turn time around: a track's last frame comes first, frames and times change their signs.

    Args:
        track: of a person.

    Returns:
        The track in reversed time; of that the track itself.
    """
    return replace(
        track,
        frame=-track.frame[::-1],
        time=-track.time[::-1],
        box=track.box[::-1],
        score=track.score[::-1],
        interpolated=track.interpolated[::-1],
        kp2d=track.kp2d[::-1],
    )
