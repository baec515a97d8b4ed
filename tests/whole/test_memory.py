"""Long clips in little memory: passes in stretches compute what they compute of the whole."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from staf_cli.core.errors import TracksError
from staf_cli.core.records import (
    Clip,
    Frame,
    frames_with_people,
    join_rows,
    rows_by_frame,
    select_rows,
)
from staf_cli.fitting import refine
from staf_cli.recovery import engine
from staf_cli.recovery.engine import Settings
from staf_cli.result import folder as result_folder
from staf_cli.result import person_npz, tracks_csv
from tests.support.long_stream import stream, upright_network
from tests.support.made_networks import estimates_of
from tests.support.made_people import make_person, make_track
from tests.support.simple_walk import (
    detected,
    error_2d,
    mean_pose,
    perturbed,
    small_body,
    walk,
)

CLIP = Clip(Path("clip.mp4"), 640, 480, 30.0, Fraction(1, 30), 20, False)
CPU = Settings(torch.device("cpu"), dtype=torch.float32, batch=5)
MEGABYTE = 2**20
TWO_MINUTES, TEN_MINUTES, TWO_HOURS = (minutes * 60 * 25 for minutes in (2, 10, 120))  # frames


def run_stream(frames, folder):
    """Run over so many frames in a process of its own; returns what it printed."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.support.long_stream", str(frames), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    printed = json.loads(done.stdout.splitlines()[-1])
    assert printed["frames"] == printed["written"] == frames
    return printed


@pytest.mark.full
@pytest.mark.parametrize("frames", [TEN_MINUTES, TWO_HOURS])
def test_a_long_stream_takes_little_more_memory_than_a_short_one(frames, tmp_path):
    short = run_stream(TWO_MINUTES, tmp_path / "short")
    long = run_stream(frames, tmp_path / "long")
    assert long["rows"] > 1.4 * frames  # a second person for half of the time
    more = {name: long["peaks"][name] - short["peaks"][name] for name in long["peaks"]}
    assert max(more.values()) < 200 * MEGABYTE, more


@pytest.fixture
def whole():
    """A track with a gap and its person."""
    track = make_track(1, 50)
    track = replace(track, frame=np.where(track.frame > 20, track.frame + 4, track.frame))
    return track, make_person(track, small_body(), CLIP)


def same(one, other):
    for field in fields(one):
        have, want = getattr(one, field.name), getattr(other, field.name)
        assert type(have) is type(want), field.name
        assert np.array_equal(have, want), field.name
        if isinstance(have, np.ndarray):
            assert have.dtype == want.dtype, field.name


@pytest.mark.parametrize("length", [1, 7, 50, 80])
def test_a_person_written_and_read_in_stretches_is_the_same(tmp_path, monkeypatch, whole, length):
    monkeypatch.setattr(person_npz, "FRAMES_IN_MEMORY", length)
    _, person = whole
    paths = []
    for first in range(0, 50, length):
        paths.append(tmp_path / f"{first}.npz")
        person_npz.save(paths[-1], select_rows(person, slice(first, first + length)))
    person_npz.join(tmp_path / "joined.npz", paths)
    person_npz.save(tmp_path / "whole.npz", person)
    same(person_npz.load(tmp_path / "joined.npz"), person)
    with np.load(tmp_path / "joined.npz") as joined, np.load(tmp_path / "whole.npz") as at_once:
        assert joined.files == at_once.files
        for name in joined.files:
            assert joined[name].dtype == at_once[name].dtype
            assert joined[name].tobytes() == at_once[name].tobytes()
    pieces = list(person_npz.stretches(tmp_path / "joined.npz"))
    assert [len(piece.frame) for piece in pieces[:-1]] == [length] * (len(pieces) - 1)
    same(join_rows(pieces), person)


def test_damaged_and_foreign_persons_are_refused_in_stretches_too(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(person_npz, "FRAMES_IN_MEMORY", 20)
    _, person = whole
    path = tmp_path / "person_1.npz"

    def read():
        list(person_npz.stretches(path))

    with pytest.raises(TracksError, match="no such file"):
        read()
    person_npz.save(path, person)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TracksError, match=r"person_1\.npz"):
        read()
    person_npz.save(path, person)
    with np.load(path) as archive:
        arrays = dict(archive)
    damages = {
        "poses": arrays["poses"][:-1],
        "betas": arrays["betas"].astype(object),
        "trans": arrays["trans"] * np.nan,
        "frame": np.int64(3),
    }
    for name, damaged in damages.items():
        np.savez(path, **{**arrays, name: damaged})
        with pytest.raises(TracksError, match=r"person_1\.npz"):
            read()
    np.savez(path, frame=arrays["frame"])
    with pytest.raises(TracksError, match="not written by staf run"):
        read()


def test_each_frame_has_the_people_who_are_in_it():
    tracks = [make_track(4, 9), make_track(1, 30), make_track(2, 1), make_track(3, 12)]
    tracks[1] = select_rows(tracks[1], np.r_[0:5, 9:30])
    image = np.zeros((1, 1, 3), np.uint8)
    by_frame = rows_by_frame(tracks)
    for indices in (range(50), range(11, 40, 2)):  # every frame; a span with frames left out
        frames = [Frame(n, n, n / 30, image) for n in indices]
        for frame, places in frames_with_people(frames, tracks):
            assert places == by_frame.get(frame.index, [])


def test_the_engine_gives_out_stretches_in_order(monkeypatch):
    monkeypatch.setattr(engine, "STRETCH_FRAMES", 8)
    tracks = [make_track(1, 40), make_track(2, 9), make_track(3, 3)]
    whole = estimates_of(stream(60), tracks, upright_network(), 1.1, CPU)
    rows = [0, 0, 0]
    for number, some, estimate in engine.infer_tracks(
        stream(60), tracks, upright_network(), 1.1, CPU
    ):
        assert some.start == rows[number]
        rows[number] = some.stop
        assert some.stop - some.start == len(estimate.box) <= 8
        assert np.array_equal(estimate.box, whole[number].box[some])
        assert np.array_equal(estimate.rotmats, whole[number].rotmats[some])
    assert rows == [40, 9, 3]


def test_results_are_read_back_frame_by_frame(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(person_npz, "FRAMES_IN_MEMORY", 6)
    track, person = whole
    other = make_track(5, 11)
    companion = make_person(other, small_body(), CLIP)
    for one in (person, companion):
        person_npz.save(person_npz.path_of(tmp_path, one.id), one)
    result_folder.check_people(tmp_path, [track, other])
    people, seen = [person, companion], []

    def split(stretch):
        for row in range(len(stretch.frame)):
            yield select_rows(stretch, slice(row, row + 1))

    tracks = [track, other]
    for frame, here in result_folder.frames_with_saved_people(stream(80), tmp_path, tracks, split):
        for (number, row), one in here:
            assert one.frame == frame.index
            same(one, select_rows(people[number], slice(row, row + 1)))
            seen.append((number, row))
    assert sorted(seen) == [(0, row) for row in range(50)] + [(1, row) for row in range(11)]
    joints = np.concatenate([one.joints3d.reshape(-1, 3) for one in people])
    sampled, in_world = result_folder.sample_joints(tmp_path, [track, other])
    assert np.array_equal(sampled, joints)
    assert not in_world
    for foreign in (replace(track, frame=track.frame + 1), select_rows(track, slice(40))):
        with pytest.raises(TracksError, match="no longer fits"):
            result_folder.check_people(tmp_path, [foreign])


def test_tracks_are_kept_small(tmp_path, whole):
    track, _ = whole
    tracks_csv.save(tmp_path / "tracks.csv", [track])
    (back,) = tracks_csv.load(tmp_path / "tracks.csv")
    columns = [getattr(back, field.name) for field in fields(back)]
    size = sum(column.nbytes for column in columns if isinstance(column, np.ndarray))
    assert size == 261 * len(back.frame)
    tracks_csv.save(tmp_path / "again.csv", [back])
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "tracks.csv").read_bytes()


@pytest.fixture(scope="module")
def long_walk():
    """A walk in a wide circle, four stretches of refine long."""
    truth = walk(np.linspace(0, 2 * np.pi, 160))
    return truth, detected(truth, 4)


def seams(person, rows):
    """The joints' jump in speed, m/s^2, at these rows and everywhere."""
    acceleration = np.linalg.norm(np.diff(person.joints3d, 2, axis=0), axis=-1).max(1) * 30**2
    return acceleration[[r - 2 for r in rows] + [r - 1 for r in rows]], acceleration


@pytest.mark.parametrize("start", [mean_pose, lambda truth: perturbed(truth, 1)])
def test_refined_stretches_go_on_smoothly(long_walk, monkeypatch, start):
    truth, track = long_walk
    monkeypatch.setattr(refine, "STEPS", 30)
    whole = refine.refine(start(truth), track, small_body())
    monkeypatch.setattr(refine, "STRETCH_FRAMES", 40)
    monkeypatch.setattr(refine, "CONTEXT", 10)
    pieced = refine.refine(start(truth), track, small_body())
    assert error_2d(pieced, truth) < 1.2 * error_2d(whole, truth)
    at_seams, everywhere = seams(pieced, (40, 80, 120))
    assert at_seams.max() < 1.1 * max(everywhere.max(), seams(whole, ())[1].max())
    assert at_seams.max() < 2 * np.quantile(seams(whole, ())[1], 0.95)
    assert (pieced.betas == pieced.betas[0]).all()


def test_a_stretch_without_keypoints_stays_as_it_was(long_walk, monkeypatch):
    truth, track = long_walk
    monkeypatch.setattr(refine, "STEPS", 20)
    monkeypatch.setattr(refine, "STRETCH_FRAMES", 60)
    monkeypatch.setattr(refine, "CONTEXT", 10)
    kp2d = track.kp2d.copy()
    kp2d[50:130, :, 2] = 0
    start = perturbed(truth, 1)
    pieced = refine.refine(start, replace(track, kp2d=kp2d), small_body())
    assert np.array_equal(pieced.poses[60:120], start.poses[60:120])
    assert not np.array_equal(pieced.poses[:60], start.poses[:60])
    assert not np.array_equal(pieced.poses[120:], start.poses[120:])
