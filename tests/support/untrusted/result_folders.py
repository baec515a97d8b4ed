"""Result folders, as if finished: staf export FOLDER, staf render FOLDER."""

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np

from staf_cli.core.records import Person
from staf_cli.result import tracks_csv
from staf_cli.video import Damage
from tests.support.made_people import make_track
from tests.support.made_records import make_record
from tests.support.untrusted.attacks import ATTACKS, GIB, MIB, Arguments, Attack, Canary, attack
from tests.support.untrusted.crafted_files import as_npy, bomb, npy, write_zip


def result(folder: Path, **changes: object) -> Path:
    """A finished result of one person, with changes in its run.json."""
    record = make_record(str(folder / "v.mp4"), frames=8, damage=Damage(), passes={})
    tracks_csv.save(folder / "tracks.csv", [make_track(1, 8)])
    (folder / "run.json").write_text(json.dumps(record.to_json() | changes))
    return folder


def result_of(folder: Path, path: object) -> Path:
    """A finished result whose run.json has another path of its video."""
    video = make_record().to_json()["video"] | {"path": path}
    return result(folder, video=video)


@attack("run.json: cannot be read|not written by staf")
def result_of_nested_brackets(folder):
    (result(folder) / "run.json").write_text("[" * 10**6)
    return ["export", folder]


@attack("run.json: cannot be read|not written by staf")
def result_whose_run_record_takes_100_mb(folder):
    (result(folder) / "run.json").write_text("[" + "[]," * (33 * 2**20) + "0]")
    return ["export", folder]


@attack("run.json: cannot be read|not written by staf")
def result_whose_run_record_is_no_text(folder):
    (result(folder) / "run.json").write_bytes(b"\xff\xfe" * 100)
    return ["export", folder]


@attack("not written by staf")
def result_of_a_video_that_is_a_number(folder):
    return ["render", result(folder, video=7)]


@attack("not written by staf")
def result_of_a_video_at_a_number(folder):
    return ["render", result_of(folder, 7)]


@attack("not written by staf")
def result_of_a_body_that_is_a_list(folder):
    return ["export", result(folder, body_file=["x"])]


@attack("not written by staf|too long|no longer there")
def result_of_a_path_without_end(folder):
    return ["render", result_of(folder, "x/" * 10**6)]


@attack("not written by staf")
def result_of_negative_frames(folder):
    return ["render", result(folder, frames=-(10**30))]


@attack("no table of tracks")
def result_with_a_million_columns(folder):
    with (result(folder) / "tracks.csv").open("w") as stream:
        stream.write(",".join(f"c{n}" for n in range(10**6)) + "\n")
        stream.write(",".join("1" for _ in range(10**6)) + "\n")
    return ["export", folder]


@attack("no table of tracks")
def result_of_one_endless_line(folder):
    with (result(folder) / "tracks.csv").open("w") as stream:
        stream.write("1," * 2**25)
    return ["export", folder]


def one_row(folder: Path, **fields: str) -> Arguments:
    path = result(folder) / "tracks.csv"
    header, first, *_ = path.read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True)) | fields
    path.write_text(header + "\n" + ",".join(row.values()) + "\n")
    return ["export", folder]


@attack("line 2")
def result_of_a_person_without_end(folder):
    return one_row(folder, person="1e308")


@attack("line 2")
def result_of_half_a_person(folder):
    return one_row(folder, person="-1.5")


@attack("line 2")
def result_of_frames_without_end(folder):
    return one_row(folder, frame="1e300")


@attack("line 2")
def result_with_a_formula(folder):
    return one_row(folder, x1="=HYPERLINK(1)" + "\x1b[2J" * 10_000)


@attack("no such file")
def result_of_many_people(folder):
    path = result(folder) / "tracks.csv"
    header, first, *_ = path.read_text().splitlines()
    rest = first.split(",", 1)[1]
    with path.open("w") as stream:
        stream.write(header + "\n")
        for person in range(20_000):
            stream.write(f"{person + 2},{rest}\n")
    return ["export", folder]


def with_person(folder: Path, members: dict[str, bytes]) -> Arguments:
    named = [(f"{name}.npy", content) for name, content in members.items()]
    write_zip(result(folder) / "person_1.npz", named)
    return ["export", folder]


@attack("Python objects, which could run code")
def person_of_objects(folder):
    objects = np.array([Canary(folder)], dtype=object)
    return with_person(folder, {"person": as_npy(objects, allow_pickle=True)})


@attack("bytes, more than")
def person_that_inflates(folder):
    bomb(result(folder) / "person_1.npz", {"person.npy": (npy(f"({GIB // 4},)"), GIB)})
    return ["export", folder]


@attack("bytes, more than")
def person_of_many_arrays_that_inflate(folder):
    fields = ("person", "frame", "time", "poses", "betas", "trans", "pred_cam", "box")
    members = {f"{name}.npy": (npy(f"({40 * MIB},)"), 160 * MIB) for name in fields}
    bomb(result(folder) / "person_1.npz", members)
    return ["export", folder]


@attack("has no |not numbers|run the clip again|holds")
def person_of_text_that_is_none(folder):
    members = {"person": as_npy(np.array(1)), "body": npy("()", b"\xff" * 4, dtype="'<U1'")}
    return with_person(folder, members)


PIPES = ("run.json", "tracks.csv", "person_1.npz")


def piped(name: str) -> Attack:
    """A result with a pipe that nobody writes to."""

    def make(folder: Path) -> Arguments:
        (result(folder) / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        return ["export", folder]

    make.__name__ = f"result_with_a_pipe_for_{name}"
    return Attack(make, f"{name}: (cannot be read|is no file)")


ATTACKS += [piped(name) for name in PIPES]


@attack("run.json: cannot be read")
def result_of_a_device(folder):
    (result(folder) / "run.json").unlink()
    (folder / "run.json").symlink_to("/dev/zero")
    return ["export", folder]


@attack("person_1.npz: .*more than|run the clip again")
def person_whose_rows_are_wide(folder):
    """As many frames as in tracks.csv, each of 80 MB."""
    people = {
        "person": np.array(1), "focal_length": np.array(900.0), "image_size": np.array([640, 480]),
        "fps": np.array(30.0), "gender": np.array("neutral"), "body": np.array("x 0"),
        "weights": np.array("x 0"),
    }  # fmt: skip
    members = {f"{name}.npy": (as_npy(array), 0) for name, array in people.items()}
    for field in fields(Person):
        if field.name not in people:
            members[f"{field.name}.npy"] = npy(f"(8, {10 * MIB})", dtype="'<f8'"), 640 * MIB
    bomb(result(folder) / "person_1.npz", members)
    return ["export", folder]
