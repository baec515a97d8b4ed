"""The people as the 3D view plays them: one animated file, small enough for a page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from staf_cli.body.skinning import Body
from staf_cli.core.files import scratch_folder
from staf_cli.core.options import Space
from staf_cli.core.records import Float, Person, Track, join_rows, select_rows
from staf_cli.export import Scene, glb
from staf_cli.export.motion import Y_UP
from staf_cli.result import person_npz

MOST_POSES = 12_000  # of all people together: 5 MB
FLUKES = 1  # %, joints at either end of an axis that the view need not show
SKIN = 0.2  # m, of a body beyond its outermost joints
MOST_PEOPLE = 12  # those in the most frames; each takes 0.5 MB beside the poses
FEET = (7, 8, 10, 11)  # joints: ankles and feet


@dataclass(frozen=True)
class Bodies:
    """What the 3D view needs, in the world, or as the camera sees it where no world is known.

    Axes as glTF has them: x right, y up, z towards the camera.
    """

    glb: bytes
    people: tuple[int, ...]  # numbers of those in it
    step: int  # of so many frames one is in it
    world: bool  # the floor is the ground
    floor: float  # m, its height: 0 in the world, else that of the lowest feet over the camera
    middle: Float  # (3,) m, of the box around all people at all times
    reach: float  # m, from there to its corners
    yfov: float  # degrees, of the camera that filmed the clip
    aspect: float  # width / height of the picture


def animate(
    folder: Path, tracks: Sequence[Track], frames: range, body: Body, clothes: bool
) -> Bodies:
    """Animate the people of a result folder, as many as fit in a page.

    Args:
        folder: of the clip's results.
        tracks: of the people.
        frames: the indices of the clip's frames.
        body: the people's body model.
        clothes: whether people wear any.

    Returns:
        The animation, and what the view needs beside it.

    Raises:
        TracksError: a person's file is damaged.
    """
    longest = sorted(tracks, key=lambda track: -len(track.frame))[:MOST_PEOPLE]
    shown = [track for track in tracks if any(track is one for one in longest)]
    step = max(1, -(-sum(len(track.frame) for track in shown) // MOST_POSES))
    pairs = [_thinned(folder, track, step) for track in shown]
    tracks, people = [track for track, _ in pairs], [person for _, person in pairs]
    thinned = range(frames.start // step, (frames.stop - 1) // step + 1)
    placed = [one.world_joints3d for one in people if one.world_joints3d is not None]
    world = len(placed) == len(people)
    space: Space = "world" if world else "camera"
    scene = Scene(tracks, people, body, thinned, space=space, clothes=clothes)
    with scratch_folder() as scratch:
        (path,) = glb.write(scratch, scene)
        content = path.read_bytes()
    joints = np.concatenate(placed if world else [one.joints3d @ Y_UP.T for one in people])
    low, high = np.percentile(joints, [FLUKES, 100 - FLUKES], axis=(0, 1))
    camera = people[0]
    width, height = camera.image_size
    return Bodies(
        glb=content,
        people=tuple(track.id for track in tracks),
        step=step,
        world=world,
        floor=0.0 if world else float(np.percentile(joints[:, FEET, 1].min(1), 10)),
        middle=(low + high) / 2,
        reach=float(np.linalg.norm(high - low)) / 2 + SKIN,
        yfov=float(np.degrees(2 * np.arctan(height / (2 * camera.focal_length)))),
        aspect=width / height,
    )


def _thinned(folder: Path, track: Track, step: int) -> tuple[Track, Person]:
    """The first of every `step` frames of a track and its person, renumbered without jumps."""
    numbers, chosen = np.unique(track.frame // step, return_index=True)
    parts = []
    begin = 0
    for stretch in person_npz.stretches(person_npz.path_of(folder, track.id)):
        here = chosen[(chosen >= begin) & (chosen < begin + len(stretch.frame))] - begin
        if len(here):
            parts.append(select_rows(stretch, here))
        begin += len(stretch.frame)
    person = join_rows(parts)
    return (
        replace(select_rows(track, chosen), frame=numbers),
        replace(person, frame=numbers, fps=person.fps / step),
    )
