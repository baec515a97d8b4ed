"""Tracks put right by hand: what comes out, and which edits are refused."""

from dataclasses import replace

import numpy as np
import pytest

from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.records import select_rows
from staf_cli.result import tracks_csv
from staf_cli.tracking.edits import Edits, apply_edits, parse_edits
from tests.support.made_people import make_track


@pytest.fixture
def walks():
    """Person 1 in frames 0 to 9, 2 in 20 to 29, 3 in 5 to 14."""
    first = make_track(1, 10)
    first = replace(first, frame=np.arange(10))
    return [
        first,
        replace(make_track(2, 10, seed=1), frame=np.arange(20, 30)),
        replace(make_track(3, 10, seed=2), frame=np.arange(5, 15)),
    ]


def test_edits_are_read_as_they_are_written():
    assert parse_edits(["3,7"], ["2@140"], ["5", "6,8"], ["1=anna", "2= Jo Ann "]) == Edits(
        ((3, 7),), ((2, 140),), (5, 6, 8), ((1, "anna"), (2, "Jo Ann"))
    )
    assert not parse_edits([], [], [], [])


@pytest.mark.parametrize(
    "words",
    [
        {"merge": "3"}, {"merge": "3,3"}, {"merge": "a,b"}, {"merge": "-1,2"}, {"split": "2"},
        {"split": "2@x"}, {"drop": ""}, {"rename": "1"}, {"rename": "a=b"}, {"rename": "1=a\nb"},
        {"rename": "1=" + 50 * "x"},
    ],
)  # fmt: skip
def test_edits_that_cannot_be_read_are_refused(words):
    edits: dict[str, list[str]] = {"merge": [], "split": [], "drop": [], "rename": []}
    edits.update({option: [text] for option, text in words.items()})
    with pytest.raises(UsageError, match=f"--{next(iter(words))}"):
        parse_edits(**edits)


def test_merged_people_are_one_with_a_gap(walks):
    one, three = apply_edits(walks, parse_edits(["2,1"], [], [], []))
    assert (one.id, three.id) == (2, 3)
    assert one.frame.tolist() == [*range(10), *range(20, 30)]
    assert np.array_equal(one.kp2d, np.concatenate([walks[0].kp2d, walks[1].kp2d]))
    assert len(one.runs) == 2
    assert three is walks[2]


def test_a_split_person_is_two_and_merging_undoes_it(walks):
    before, two, three, after = apply_edits(walks, parse_edits([], ["1@4"], [], []))
    assert before.frame.tolist() == [0, 1, 2, 3]
    assert (after.id, after.frame.tolist()) == (4, [4, 5, 6, 7, 8, 9])
    assert (two, three) == (walks[1], walks[2])
    whole, *_ = apply_edits([before, two, three, after], parse_edits(["1,4"], [], [], []))
    assert whole.digest == walks[0].digest


def test_an_interleaved_person_is_merged_in_order(walks):
    middle, ends = select_rows(walks[0], slice(3, 6)), walks[0]
    ends = replace(
        ends,
        **{
            name: np.delete(getattr(ends, name), slice(3, 6), axis=0)
            for name in ("frame", "time", "box", "score", "interpolated", "kp2d")
        },
    )
    (whole,) = apply_edits([ends, replace(middle, id=9)], parse_edits(["1,9"], [], [], []))
    assert whole.digest == walks[0].digest


def test_dropped_and_named(walks):
    two, three = apply_edits(walks, parse_edits([], [], ["1"], ["3=anna"]))
    assert (two.id, three.id, three.name) == (2, 3, "anna")
    assert three.digest == walks[2].digest  # a name changes nothing that is recovered


@pytest.mark.parametrize(
    ("merge", "split", "drop", "rename", "complaint"),
    [
        ("1,3", "", "", "", "both in frame 5 and 4 others"),
        ("1,8", "", "", "", "person 8 is not there; there are 1, 2, 3"),
        ("", "1@0", "", "", "frames 0 to 9"),
        ("", "1@10", "", "", "not at 10"),
        ("", "", "4", "", "person 4 is not there"),
        ("", "", "1,2,3", "", "nobody would be left"),
        ("1,2", "", "", "2=bo", "person 2 is not there"),
    ],
)
def test_edits_that_cannot_be_are_refused(walks, merge, split, drop, rename, complaint):
    edits = parse_edits(*([words] if words else [] for words in (merge, split, drop, rename)))
    with pytest.raises(TracksError, match=complaint):
        apply_edits(walks, edits)


def test_names_stay_in_the_table(walks, tmp_path):
    named = apply_edits(walks, parse_edits([], [], [], ["1=Zoë, the first", "2=-"]))
    path = tmp_path / "tracks.csv"
    tracks_csv.save(path, named)
    back = tracks_csv.load(path)
    assert [track.name for track in back] == ["Zoë, the first", "-", ""]
    text = path.read_text(encoding="utf-8")
    head = text.splitlines()[0].rsplit(",", 1)[0]
    rows = [line.rsplit(",", 1)[0] for line in text.replace('"Zoë, the first"', "").splitlines()]
    path.write_text("\n".join([head, *rows[1:]]) + "\n", encoding="utf-8")
    assert [track.digest for track in tracks_csv.load(path)] == [track.digest for track in back]


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("x2", "-5", "line 4: the box"),
        ("frame", "0", "line 4: frames of a person must ascend"),
        ("name", "another one", "line 4: person 1 is 'another one' here"),
        ("name", "x" * 41, "line 4: a name has"),
        ("score", "high", "line 4: could not convert"),
    ],
)
def test_a_bad_edit_of_the_table_is_reported_with_its_line(
    walks, tmp_path, column, value, complaint
):
    path = tmp_path / "tracks.csv"
    tracks_csv.save(path, walks)
    lines = path.read_text().splitlines()
    fields = lines[3].split(",")
    fields[lines[0].split(",").index(column)] = value
    lines[3] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(TracksError, match=complaint):
        tracks_csv.load(path)
