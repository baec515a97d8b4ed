"""Exports written again: who is gone from the result is gone from them, and nothing else is."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from staf_cli.core.camera_motion import still_camera
from staf_cli.core.records import Clip, select_rows
from staf_cli.export import FORMATS, Scene
from staf_cli.result import exports
from tests.support.made_people import make_person, make_track, open_body

CLIP = Clip(Path("clip.mp4"), 640, 480, 30.0, Fraction(1, 30), 12, False)


@pytest.fixture(scope="module")
def scene():
    """Two people in frames 3 to 7 and 6 to 10."""
    body, tracks = open_body(), [make_track(1, 5), make_track(2, 5)]
    people = [make_person(track, body, CLIP) for track in tracks]
    return Scene(tracks, people, body, range(12), camera=still_camera(np.arange(12)))


def cut(scene, people, frames):
    """The same with the first people alone, and with these frames of them."""
    rows = [np.flatnonzero(np.isin(one.frame, frames)) for one in scene.tracks[:people]]
    pairs = zip(scene.tracks[:people], scene.people[:people], rows, strict=True)
    chosen = [(select_rows(a, row), select_rows(b, row)) for a, b, row in pairs]
    return replace(
        scene, tracks=[a for a, _ in chosen], people=[b for _, b in chosen], frames=frames
    )


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize(("people", "frames"), [(1, range(12)), (2, range(3, 8))])
def test_nobody_and_no_frame_of_before_is_left(scene, tmp_path, name, people, frames):
    theirs = {
        *("bvh/person_2_retargeted.bvh", "bvh/person_7.bvh", "bvh/notes.txt", "amass/person_2.npz"),
        *(
            "meshes/person_2/000008_fixed.obj",
            "meshes/person_9/000008.ply",
            "openpose/frame_1.json",
        ),
    }
    for path in theirs:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("mine")
    list(exports.write(tmp_path, name, scene))
    smaller = cut(scene, people, frames)
    written = list(exports.write(tmp_path, name, smaller))
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert files(tmp_path) == {"exports.json", *names, *theirs}
    assert len(names) == len(FORMATS[name].names(smaller))
    exports.remove_all_but(tmp_path, [])
    assert files(tmp_path) == theirs


def test_a_killed_export_leaves_nothing_that_nobody_knows(scene, tmp_path):
    export = exports.write(tmp_path, "obj", scene)
    killed_at = [next(export) for _ in range(7)][-1]
    del export
    assert killed_at.exists() and "person_2" in str(killed_at)
    list(exports.write(tmp_path, "obj", cut(scene, 1, range(12))))
    assert not (tmp_path / "meshes" / "person_2").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"bvh": 1}', '{"bvh": ["a{0..999999999}"]}'])
def test_a_record_that_is_none_removes_nothing(scene, tmp_path, text):
    list(exports.write(tmp_path, "bvh", scene))
    (tmp_path / "exports.json").write_text(text)
    exports.remove_all_but(tmp_path, [])
    list(exports.write(tmp_path, "bvh", cut(scene, 1, range(12))))
    assert (tmp_path / "bvh" / "person_2.bvh").exists()
