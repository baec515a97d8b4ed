"""Datasets of any known layout: which one a folder has, what is in it, what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from staf_cli.body.skinning import Body
from staf_cli.core.errors import BodyError, DatasetError, counted
from staf_cli.core.files import printable
from staf_cli.evaluation import truth
from staf_cli.evaluation.datasets import threedpw
from staf_cli.evaluation.truth import Footage


@dataclass(frozen=True)
class Contents:
    """What a dataset's folder holds."""

    layout: str
    parts: tuple[str, ...]  # a line each
    problems: tuple[str, ...]  # a line each; none: it can be evaluated


def open_dataset(folder: Path, body_of: Callable[[str], Body]) -> list[Footage]:
    """Read the truth of a dataset of any known layout.

    Args:
        folder: Of the dataset.
        body_of: Opens a body by its name.

    Returns:
        Its clips.

    Raises:
        DatasetError: The layout is unknown, or something is missing, damaged or does not fit.
        BodyError: A body that the truth is of is not on this machine.
        VideoError: Pictures cannot be read, or are damaged.
    """
    split = threedpw.find_split(folder)
    if split is not None:
        return threedpw.open_split(*split, body_of)
    return truth.open_dataset(folder)


def examine(folder: Path, body_of: Callable[[str], Body]) -> Contents:
    """Say what a folder holds, and what is missing before it can be evaluated.

    Args:
        folder: Of the dataset.
        body_of: Opens a body by its name.

    Returns:
        The layout, the parts and the problems.

    Raises:
        DatasetError: The layout is unknown, or the truth of staf's own layout is unusable.
        VideoError: A video cannot be read, or is damaged.
    """
    split = threedpw.find_split(folder)
    if split is not None:
        return _examine_3dpw(split[0], body_of)
    dataset = truth.open_dataset(folder)
    people = [person for footage in dataset for person in footage.people]
    frames = counted(sum(len(person.frame) for person in people), "frame")
    clips = counted(sum(footage.clip.path.name != truth.IMAGES for footage in dataset), "clip")
    with_3d = sum(person.pose is not None for person in people)
    line = f"{clips}, {len(people)} people, {frames} of people; {with_3d} people with 3D truth"
    return Contents("staf's own clips and photos", (line,), ())


def _examine_3dpw(root: Path, body_of: Callable[[str], Body]) -> Contents:
    parts, problems, genders = [], [], set()
    for split in threedpw.SPLITS:
        people = judged = frames = read = 0
        for path in threedpw.sequence_files(root, split):
            try:
                sequence = threedpw.read_sequence(path)
            except DatasetError as error:
                problems.append(str(error))
                continue
            read += 1
            frames += len(sequence.cameras)
            people += len(sequence.actors)
            judged += sum(len(actor.judged) for actor in sequence.actors)
            genders |= {actor.gender for actor in sequence.actors}
            missing = threedpw.problem_of_images(root, sequence)
            problems += [missing] if missing else []
        if read:
            parts.append(
                f"{split}: {counted(read, 'sequence')}, {frames} images, {people} people, "
                f"judged in {counted(judged, 'frame')} of people"
            )
    if not parts and not problems:
        where = printable(root / threedpw.SEQUENCES)
        problems.append(f"{where}: no sequences (pkl); unpack sequenceFiles.zip of 3DPW there")
    for gender in sorted(genders):
        try:
            body_of(f"smpl-{gender}")
        except BodyError as error:
            problems.append(str(error))
    return Contents("3DPW, as its authors publish it", tuple(parts), tuple(problems))
