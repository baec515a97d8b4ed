"""Datasets of any known layout: which one a folder has, what is in it, what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from staf_cli.body.skinning import Body
from staf_cli.core.errors import BodyError, DatasetError, UsageError, counted
from staf_cli.core.files import printable
from staf_cli.evaluation import truth
from staf_cli.evaluation.datasets import (
    coco_json,
    eft_json,
    mpi_inf_3dhp,
    spin_npz,
    threedpw,
    vibe_db,
)
from staf_cli.evaluation.truth import Footage

OWN = "clips and photos"  # in staf's own layout, not a benchmark
BENCHMARKS = ("3dpw", *spin_npz.TABLES)


@dataclass(frozen=True)
class Contents:
    """What a dataset's folder holds."""

    layout: str
    parts: tuple[str, ...]  # a line each
    problems: tuple[str, ...]  # a line each; none: it can be evaluated
    benchmarks: tuple[str, ...]  # that it can be evaluated by; none: it is for training


def find_benchmark(folder: Path, wanted: str | None) -> str:
    """Say what a folder is evaluated by.

    Args:
        folder: Of the dataset.
        wanted: Of `BENCHMARKS`; None: the one that the folder is for.

    Returns:
        One of `BENCHMARKS`, or what is not one of them and has no figures in the paper: `OWN`, or
        another split of 3DPW than the test split.

    Raises:
        DatasetError: The folder is not for the wanted benchmark.
        UsageError: It is for several.
    """
    found = _benchmarks(folder)
    if wanted is not None:
        if wanted not in found:
            raise DatasetError(
                f"{printable(folder)}: is no dataset of {wanted}; "
                "`staf data check` says what it holds"
            )
        return wanted
    if len(found) > 1:
        raise UsageError(
            f"{printable(folder)}: can be evaluated by {' and '.join(found)}; name one of them "
            f"before the folder: staf eval {found[0]} ..."
        )
    return found[0] if found else OWN


def open_dataset(folder: Path, benchmark: str, body_of: Callable[[str], Body]) -> list[Footage]:
    """Read the truth of a dataset.

    Args:
        folder: Of the dataset.
        benchmark: From `find_benchmark`.
        body_of: Opens a body by its name.

    Returns:
        Its clips.

    Raises:
        DatasetError: The layout is unknown, or something is missing, damaged or does not fit.
        BodyError: A body that the truth is of is not on this machine.
        MissingTool: The format needs a library that is not installed.
        VideoError: Pictures cannot be read, or are damaged.
    """
    if benchmark in spin_npz.TABLES:
        table = spin_npz.find_table(folder, benchmark)
        if table is None:  # 3dhp
            return mpi_inf_3dhp.open_test(mpi_inf_3dhp.test_files(folder))
        return spin_npz.open_table(table, benchmark)
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
    benchmarks = _benchmarks(folder)
    split = threedpw.find_split(folder)
    if split is not None:
        return _examine_3dpw(split[0], benchmarks, body_of)
    tables = spin_npz.tables_in(folder)
    if tables:
        return _examine_tables(tables, benchmarks)
    if mpi_inf_3dhp.test_files(folder) or mpi_inf_3dhp.training_files(folder):
        return _examine_3dhp(folder, benchmarks)
    for layout, files, describe in (
        ("arrays of people's frames by joblib, as VIBE publishes them", _databases, _database),
        ("fits as EFT publishes them", eft_json.files_in, _fits),
        ("labels in COCO's JSON", coco_json.labels_in, _labels),
    ):
        paths = files(folder)
        if paths:
            return _examine_files(layout, folder, paths, describe)
    dataset = truth.open_dataset(folder)
    people = [person for footage in dataset for person in footage.people]
    frames = counted(sum(len(person.frame) for person in people), "frame")
    clips = counted(sum(footage.clip.path.name != truth.IMAGES for footage in dataset), "clip")
    with_3d = sum(person.pose is not None for person in people)
    line = f"{clips}, {len(people)} people, {frames} of people; {with_3d} people with 3D truth"
    return Contents("staf's own clips and photos", (line,), (), (OWN,))


def _benchmarks(folder: Path) -> list[str]:
    split = threedpw.find_split(folder)
    if split is not None:
        return ["3dpw" if split[1] == threedpw.JUDGED else f"3dpw {split[1]}"]
    found = [name for name in spin_npz.TABLES if spin_npz.find_table(folder, name)]
    raw = "3dhp" not in found and mpi_inf_3dhp.test_files(folder)
    return [*found, "3dhp"] if raw else found


def _examine_tables(tables: list[Path], benchmarks: list[str]) -> Contents:
    parts, problems = [], []
    for path in tables:
        try:
            contents = spin_npz.read_contents(path)
        except DatasetError as error:
            problems.append(str(error))
            continue
        images = counted(len(set(contents.images)), "image")
        entries = " ".join(contents.entries)
        parts.append(
            f"{printable(path.name)}: {len(contents.images)} people in {images}; {entries}"
        )
        missing = spin_npz.problem_of_images(contents)
        problems += [missing] if missing else []
    layout = "tables of labelled images, as SPIN, PyMAF and EFT publish them"
    return Contents(layout, tuple(parts), tuple(problems), tuple(benchmarks))


def _examine_files(
    layout: str, folder: Path, paths: list[Path], describe: Callable[[Path], str]
) -> Contents:
    """A line for each file that can be read, or what is wrong with it."""
    parts, problems = [], []
    for path in paths:
        try:
            parts.append(f"{printable(path.relative_to(folder).as_posix())}: {describe(path)}")
        except DatasetError as error:
            problems.append(str(error))
    return Contents(layout, tuple(parts), tuple(problems), ())


def _databases(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*_db.pt"))


def _database(path: Path) -> str:
    found = vibe_db.read_contents(path)
    entries = " ".join(printable(name) for name in found.entries)
    return (
        f"{counted(found.people, 'clip')} of a person, {counted(found.frames, 'frame')}; {entries}"
    )


def _fits(path: Path) -> str:
    found = eft_json.read_contents(path)
    images = counted(found.images, "image")
    return f"{found.people} people in {images}, {found.with_keypoints} with keypoints"


def _labels(path: Path) -> str:
    found = coco_json.read_contents(path)
    tracks = f", {counted(found.tracks, 'track')}" if found.tracks else ""
    return f"{found.people} people in {counted(len(found.images), 'image')}{tracks}"


def _examine_3dhp(folder: Path, benchmarks: list[str]) -> Contents:
    layout = "MPI-INF-3DHP, as its authors publish it"
    trained = _examine_files(
        layout, folder, mpi_inf_3dhp.training_files(folder), mpi_inf_3dhp.describe_training
    )
    parts, problems = list(trained.parts), list(trained.problems)
    for path in mpi_inf_3dhp.test_files(folder):
        try:
            sequence = mpi_inf_3dhp.read_sequence(path)
        except DatasetError as error:
            problems.append(str(error))
            continue
        frames = counted(len(sequence.points), "frame")
        parts.append(f"{sequence.name}: {frames}, {sequence.valid.sum()} of them valid")
        missing = mpi_inf_3dhp.problem_of_images(sequence)
        problems += [missing] if missing else []
    return Contents(layout, tuple(parts), tuple(problems), tuple(benchmarks))


def _examine_3dpw(root: Path, benchmarks: list[str], body_of: Callable[[str], Body]) -> Contents:
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
    layout = "3DPW, as its authors publish it"
    return Contents(layout, tuple(parts), tuple(problems), tuple(benchmarks))
