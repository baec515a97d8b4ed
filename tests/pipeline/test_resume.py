"""A clip that is run again: what is up to date is kept, what depends on a change is done anew."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from staf_cli import video
from staf_cli.core.errors import OutputError, TracksError
from staf_cli.pipeline import clip as clip_pipeline
from staf_cli.pipeline import passes as passes_of_clip
from staf_cli.pipeline.loading import prepare
from staf_cli.pipeline.options import ExportOptions, Look, Options
from staf_cli.recovery import engine
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.result import journal, tracks_csv
from staf_cli.result.journal import key_of
from staf_cli.result.run_record import TrackFacts
from staf_cli.tracking.detection import detect
from staf_cli.tracking.edits import apply_edits, parse_edits
from staf_cli.tracking.options import TrackOptions
from staf_cli.video import Damage
from staf_cli.world.options import WorldOptions
from tests.support.made_records import make_record
from tests.support.walking_person import FRAMES

ARRAYS = ("tracks.csv", "person_1.npz")


@pytest.fixture(scope="module")
def tools(detector):
    return prepare(Options())[0]


@pytest.fixture(scope="module")
def remembered(walking, tools):
    """What detector and network find in the walk, asked once: these tests are about files."""
    device = tools.settings.device
    clip = video.probe(walking)
    seen = list(detect(video.frames(clip, Damage()), tools.detector, device=device))
    return seen, {}


@pytest.fixture
def again(walking, tools, remembered, tmp_path, monkeypatch):
    """Run the walk into the same folder with other options; returns the summary and the passes."""
    seen, answers = remembered

    def replay(frames, *_, **__):
        return (detections for _, detections in zip(frames, seen, strict=True))

    def stretches(frames, tracks, *how):
        key = tuple(one.digest for one in tracks)
        if key not in answers:
            answers[key] = list(infer(frames, tracks, *how))
        for _ in frames:
            pass
        return iter(answers[key])

    infer = engine.infer_tracks
    monkeypatch.setattr("staf_cli.pipeline.passes.detect", replay)
    monkeypatch.setattr(engine, "infer_tracks", stretches)

    def run(edited=None, **changes):
        passes = []

        def watch(what, items, total):
            passes.append(what)
            return iter(items)

        recovery = RecoveryOptions(refine=False, focal=changes.pop("focal", None))
        options = replace(Options(recovery=recovery), **changes)
        summary = clip_pipeline.run_clip(walking, tmp_path / "walk", options, tools, watch, edited)
        return summary, passes

    return run


def content(folder):
    return {name: (folder / name).read_bytes() for name in ARRAYS}


def test_only_what_depends_on_a_change_is_done_again(again, tmp_path):
    first, passes = again()
    assert passes == ["track", "camera", "recover", "world", "show"]
    assert not first.reused
    before = content(first.folder)
    stamp = first.overlay.stat().st_mtime_ns
    second, passes = again()
    assert passes == []
    assert second.reused
    assert replace(second, reused=False) == first
    assert first.overlay.stat().st_mtime_ns == stamp
    _, passes = again(look=Look(alpha=0.5))  # a new look infers nothing
    assert passes == ["show"]
    _, passes = again(look=Look(alpha=0.5), export=("obj",))
    assert passes == ["export obj"]
    summary, passes = again(look=Look(alpha=0.5))  # an export that is still right stays
    assert (summary.reused, passes) == (True, [])
    assert content(first.folder) == before
    _, passes = again(focal=900.0)
    assert passes == ["camera", "recover", "world", "show"]
    assert not (first.folder / "meshes").exists()  # of the people as they were
    _, passes = again(focal=900.0, tracks=TrackOptions(min_track=0.2))
    assert passes == ["track"]  # the tracks came out the same
    _, passes = again(focal=900.0, deinterlace=False)  # other pictures, as far as staf knows
    assert passes == ["track", "camera", "recover", "world", "show"]
    static = {"focal": 900.0, "deinterlace": False, "camera": "static"}
    _, passes = again(**static)
    assert passes == ["world"]  # the camera's rotations are gone
    assert not (first.folder / "camera.npz").exists()
    _, passes = again(force=True)
    assert passes == ["track", "camera", "recover", "world", "show"]
    assert content(first.folder) == before


def test_people_are_recovered_with_the_focal_length_that_turns_tell(again, monkeypatch):
    follow, measured = passes_of_clip.follow_camera, 700.0

    def turning(source, tracks, given, *how):
        motion = follow(source, tracks, given, *how)
        return motion if given else replace(motion, moving=True, focal_length=measured)

    def focal_of(summary):
        return float(np.load(summary.folder / "person_1.npz")["focal_length"])

    usual = focal_of(again()[0])
    monkeypatch.setattr(passes_of_clip, "follow_camera", turning)
    summary, passes = again(force=True)
    assert usual != 700.0
    assert focal_of(summary) == 700.0
    assert "focal length of 700 px" in summary.camera
    summary, passes = again()
    assert (summary.reused, passes) == (True, [])
    summary, _ = again(focal=900.0)
    assert focal_of(summary) == 900.0
    assert "focal length" not in summary.camera
    assert focal_of(again(camera="static")[0]) == usual


def test_a_glb_is_written_again_for_root_motion_and_stays_as_it_is(again):
    summary, _ = again(export=("glb", "csv"))
    path = summary.folder / "people.glb"
    plain = path.read_bytes()
    rooted = {"export": ("glb", "csv"), "exporting": ExportOptions(root_motion=True)}
    assert again(**rooted)[1] == ["export glb"]
    assert b'"root"' in path.read_bytes()
    assert b'"root"' not in plain
    assert again(**rooted)[1] == []
    assert again()[1] == []  # not asked for anew: it stays
    assert b'"root"' in path.read_bytes()
    assert again(export=("glb",))[1] == ["export glb"]
    assert path.read_bytes() == plain


def test_clothes_are_put_on_and_taken_off(again):
    """In the overlay and the report, and in a glb when it is asked for."""
    summary, _ = again(export=("glb", "csv"))
    glb, report = summary.folder / "people.glb", summary.folder / "report.html"
    clothed, size = glb.read_bytes(), report.stat().st_size
    bare = {"look": Look(clothes=False)}
    assert again(**bare)[1] == ["show"]
    assert glb.read_bytes() == clothed  # not asked for anew: it stays
    assert report.stat().st_size < size - 20_000
    assert again(**bare, export=("glb", "csv"))[1] == ["export glb"]
    assert b"COLOR_0" not in glb.read_bytes()
    assert again(export=("glb", "csv"))[1] == ["show", "export glb"]
    assert glb.read_bytes() == clothed
    assert report.stat().st_size == pytest.approx(size, abs=1000)


def test_a_side_view_is_drawn_again_where_the_ground_is_elsewhere(again):
    again()
    assert again(world=WorldOptions(tilt=5))[1] == ["world"]
    beside = {"look": Look(side_view=True)}
    assert again(**beside, world=WorldOptions(tilt=5))[1] == ["show"]
    assert again(**beside, world=WorldOptions(tilt=9))[1] == ["world", "show"]


def test_exports_with_bones_are_written_again_for_a_rig(again):
    """Others, and a bvh whose rig stays, are as they were."""
    again(export=("glb", "bvh", "csv"))
    unreal = {"export": ("glb", "bvh", "csv"), "exporting": ExportOptions(rig="unreal")}
    summary, passes = again(**unreal)
    assert passes == ["export glb", "export bvh"]
    assert b'"thigh_l"' in (summary.folder / "people.glb").read_bytes()
    assert again()[1] == []
    rooted = {**unreal, "exporting": ExportOptions(root_motion=True, rig="unreal")}
    assert again(**rooted)[1] == ["export glb"]


def test_what_was_lost_or_damaged_is_made_again(again):
    summary, _ = again()
    before = content(summary.folder)
    whole = summary.overlay.read_bytes()
    summary.overlay.write_bytes(whole[:-100])
    assert again()[1] == ["show"]
    assert summary.overlay.read_bytes() == whole
    (summary.folder / "person_1.npz").unlink()
    assert again()[1] == ["recover", "world"]
    assert content(summary.folder) == before
    (summary.folder / "run.json").write_text("{")
    assert again()[1] == ["track", "camera", "recover", "world", "show"]
    assert content(summary.folder) == before


def test_a_table_edited_by_hand_is_not_thrown_away(again):
    summary, _ = again()
    table = summary.folder / "tracks.csv"
    table.write_text(table.read_text() + "\n")
    with pytest.raises(TracksError, match="--force"):
        again()
    assert table.read_text().endswith("\n\n")
    assert again(force=True)[1] == ["track", "camera", "recover", "world", "show"]


def test_edited_tracks_are_kept_until_others_are_given(again):
    summary, _ = again()
    before = content(summary.folder)
    tracks = tracks_csv.load(summary.folder / "tracks.csv")
    halves = apply_edits(tracks, parse_edits([], ["1@9"], [], ["1=anna"]))
    summary, passes = again(edited=halves)
    assert passes == ["camera", "recover", "world", "show"]
    assert [one.id for one in summary.people] == [1, 2]
    assert again(edited=halves)[0].reused
    assert again()[0].reused  # the same command as before keeps what was edited
    named = apply_edits(halves, parse_edits([], [], [], ["2=bo"]))
    assert again(edited=named)[1] == ["show"]  # a name is drawn, not recovered
    again(edited=named, export=("bvh", "obj"))
    dropped = apply_edits(named, parse_edits([], [], ["2"], []))
    summary, passes = again(edited=dropped, export=("bvh",))
    assert passes == ["camera", "world", "show", "export bvh"]  # the ground is shared
    assert [path.name for path in (summary.folder / "bvh").iterdir()] == ["person_1.bvh"]
    assert not (summary.folder / "meshes").exists()
    assert not (summary.folder / "person_2.npz").exists()
    with pytest.raises(TracksError, match="changed by hand"):
        again(tracks=TrackOptions(min_track=0.2))
    assert len(tracks_csv.load(summary.folder / "tracks.csv")) == 1
    late = [replace(tracks[0], frame=tracks[0].frame + 1)]
    with pytest.raises(TracksError, match=f"frames 1 to {FRAMES}, the video has 0 to {FRAMES - 1}"):
        again(edited=late)
    assert again(force=True)[1] == ["track", "camera", "recover", "world", "show"]
    assert content(summary.folder) == before


@pytest.mark.parametrize("stop", ["recover", "finish"])
def test_a_run_cut_short_goes_on_and_ends_the_same(again, monkeypatch, stop):
    """It ends when a pass begins; what it did before is kept, byte for byte."""
    whole, _ = again()
    want = content(whole.folder)
    shutil.rmtree(whole.folder)
    where = {
        "recover": "staf_cli.pipeline.passes.recover_tracks",
        "finish": "staf_cli.result.journal.Journal.finish",
    }

    def cut_short(*_):
        (whole.folder / ".staf-overlay-x.mp4").write_bytes(b"what a kill leaves behind")
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(where[stop], cut_short)
        again()
    assert not (whole.folder / "run.json").exists()
    resumed, passes = again()
    done = {"recover": 2, "finish": 5}[stop]
    assert passes == ["track", "camera", "recover", "world", "show"][done:]
    assert content(resumed.folder) == want
    assert sorted(p.name for p in resumed.folder.iterdir()) == [
        "camera.npz", "overlay.mp4", "person_1.npz", "report.html", "run.json", "tracks.csv",
    ]  # fmt: skip


def test_damage_is_counted_once(again, monkeypatch):
    monkeypatch.setattr(video, "inspect", lambda clip: Damage(3, 1))
    assert again()[0].damage == Damage(3, 1)
    monkeypatch.setattr(video, "inspect", lambda clip: Damage())
    assert again()[0].damage == Damage(3, 1)
    assert json.loads((again()[0].folder / "run.json").read_text())["damage"]["packets"] == 3


# ── the journal itself ────────────────────────────────────────────────────────────────────


def test_a_pass_is_up_to_date_while_key_and_files_agree(tmp_path):
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "1.obj").write_text("a")
    (tmp_path / "meshes" / "2.obj").write_text("b")
    (tmp_path / "tracks.csv").write_text("t")
    facts = TrackFacts(0, 3, "check")
    log = journal.read(tmp_path)
    log.begin()
    log.keep("track", "key", ["meshes/{1..2}.obj", "tracks.csv"], {"x": 1.0}, facts)
    log.save()
    log = journal.read(tmp_path)
    assert not log.finished
    known = log.up_to_date("track", "key")
    assert known is not None
    assert known.facts == facts
    assert log.up_to_date("track", "other") is None
    log.finish(make_record(passes=log.passes))
    assert journal.read(tmp_path).finished
    assert not (tmp_path / "unfinished.json").exists()
    (tmp_path / "meshes" / "1_edited.obj").write_text("theirs")
    assert journal.read(tmp_path).up_to_date("track", "key") is not None
    (tmp_path / "meshes" / "2.obj").write_text("c")
    assert journal.read(tmp_path).up_to_date("track", "key") is None
    assert journal.read(tmp_path).edited("track") == "meshes/{1..2}.obj"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"passes": []}', '{"passes": {"x": {"key": 1}}}', "[" * 100_000,
        '{"passes": {"x": {"key": "k", "files": {"../../etc/passwd": "0"}}}}',
        '{"passes": {"x": {"key": "k", "files": {"a{0..999999999}": "0"}, "facts": {}}}}',
        '{"passes": {"x": {"key": "k", "files": {"/etc/passwd": "0"}}}}',
        '{"passes": {"x": {"key": "k", "seconds": {"a": "b"}}}}',
    ],
)  # fmt: skip
def test_a_journal_that_makes_no_sense_is_an_empty_one(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    log = journal.read(tmp_path)
    assert log.passes == {}
    assert not log.finished


def test_only_one_works_on_a_clip(tmp_path):
    same = tmp_path / "other" / ".." / "clip"
    with (
        journal.opened(tmp_path / "clip"),
        pytest.raises(OutputError, match="another staf"),
        journal.opened(same),
    ):
        pass
    assert not (tmp_path / "clip").exists()
    with journal.opened(tmp_path / "clip"):
        pass


def test_keys_differ_where_values_do():
    values = [("a", 1), ("a", "1"), ("a1",), (["a"], 1), ({"a": 1},), (None,), (True,), (1.5,)]
    assert len({key_of(*value) for value in values}) == len(values)
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        key_of(np.nan)
