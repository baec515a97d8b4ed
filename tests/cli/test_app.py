"""The command line from end to end: a made-up walk in, results out; bad input, one clear line."""

import json
import shlex
import shutil
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import trimesh
from PIL import Image

from staf_cli import video
from staf_cli.pipeline import clip as clip_pipeline
from staf_cli.pipeline import loading
from staf_cli.pipeline.loading import default_weights, prepare
from staf_cli.pipeline.options import Options
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.result import person_npz
from staf_cli.tracking import detection
from tests.support import made_clips
from tests.support.made_people import open_body
from tests.support.walking_person import FRAMES, SIZE, film, walk


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Runs with the same recovery share its networks, which nothing changes after loading."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "prepare_recovery", cache(loading.prepare_recovery))
        yield


@pytest.fixture(scope="module")
def finished(walking, detector, tmp_path_factory):
    """The walk, run once with --refine."""
    output = tmp_path_factory.mktemp("out")
    options = Options(recovery=RecoveryOptions(refine=True))
    tools, notes = prepare(options)
    seen = []

    def watch(what, items, total):
        seen.append((what, total))
        return iter(items)

    summary = clip_pipeline.run_clip(walking, output / "walk", options, tools, watch)
    assert notes == []
    passes = ["track", "camera", "landmarks", "recover", "refine", "world", "show"]
    assert [what for what, _ in seen] == passes
    return summary


def times(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_overlay_has_every_frame_at_its_time(walking, finished):
    assert times(finished.overlay) == pytest.approx(times(walking), abs=1e-9)
    assert len({round(b - a, 4) for a, b in pairwise(times(walking))}) > 1


def test_parameters_lie_on_the_walking_person(finished):
    person = person_npz.load(finished.folder / "person_1.npz")
    assert len(person.frame) == FRAMES
    assert person.image_size == SIZE
    assert person.body.startswith("open-body ")
    assert person.weights.startswith("staf-open ")
    _, joints = walk(open_body(), FRAMES)
    truth = joints[..., :2] / joints[..., 2:] * 600 + np.array(SIZE) / 2
    error = np.linalg.norm(person.joints2d - truth, axis=-1)
    height = np.ptp(truth[..., 1], axis=1).mean()
    limbs = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
    assert np.median(error[:, limbs]) < 0.04 * height
    overlay = next(video.frames(video.probe(finished.overlay), video.Damage()))
    source = next(film(open_body(), 1))
    x, y = person.joints2d[0, 3].round().astype(int)  # the belly is drawn in another colour now
    assert np.abs(overlay.image[y, x].astype(int) - source.image[y, x]).max() > 40


def test_run_json_records_what_was_done(walking, finished):
    run = json.loads((finished.folder / "run.json").read_text())
    assert run["frames"] == FRAMES
    assert run["damage"] == {"packets": 0, "missing": 0, "interlaced": 0, "pictures": []}
    assert run["people"][0]["frames"] == FRAMES
    assert run["video"]["path"] == str(walking)
    assert set(run["seconds"]) == {
        "check",
        "track",
        "camera",
        "landmarks",
        "recover",
        "refine",
        "world",
        "show",
        "report",
    }
    assert run["options"]["refine"] is True


def test_open_weights_are_for_the_open_body_alone():
    assert default_weights(None) == default_weights("open-body") == "staf-open"
    assert default_weights("smpl-neutral") is None


def test_render_and_export_recompute_nothing(staf, finished):
    before = {p.name: p.read_bytes() for p in finished.folder.glob("*.npz")}
    code, out, _ = staf("render", finished.folder, "--side-view", "--plain", "--wireframe")
    assert code == 0
    assert "overlay.mp4" in out
    wide = video.probe(finished.overlay)
    assert wide.width > SIZE[0]
    code, out, _ = staf("export", finished.folder, "--format", "obj")
    assert code == 0
    assert staf("export", finished.folder, "--root-motion")[0] == 0
    assert b"COLOR_0" in (finished.folder / "people.glb").read_bytes()
    assert staf("render", finished.folder, "--no-clothes")[0] == 0
    assert staf("export", finished.folder, "--root-motion")[0] == 0
    assert b"COLOR_0" not in (finished.folder / "people.glb").read_bytes()
    assert b'"root"' in (finished.folder / "people.glb").read_bytes()
    code, _, err = staf("export", finished.folder, "--format", "bvh", "--root-motion")
    assert (code, err.count("\n")) == (2, 1)
    meshes = sorted((finished.folder / "meshes" / "person_1").glob("*.obj"))
    assert len(meshes) == FRAMES
    mesh = trimesh.load_mesh(meshes[0], process=False)
    assert len(mesh.vertices) == len(open_body().arrays.v_template)
    assert before == {p.name: p.read_bytes() for p in finished.folder.glob("*.npz")}


def test_run_prints_a_summary_and_quiet_prints_nothing(staf, walking, detector, tmp_path):
    code, out, err = staf("run", walking, "-o", tmp_path, "--batch", 4, "--export", "obj", "-v")
    assert code == 0, err
    assert "no trained weights" not in out
    assert f"1 person in {FRAMES} frames" in out
    assert "refine" in out  # the open weights' answer is fitted to the keypoints
    assert "frames/s" in out
    assert str(tmp_path / "walk" / "overlay.mp4") in out
    assert str(tmp_path / "walk" / "report.html") in out
    assert out.endswith(f" view {shlex.quote(str(tmp_path / 'walk'))}\n")
    code, out, err = staf("run", walking, "-o", tmp_path, "--batch", 4, "--export", "obj")
    assert code == 0 and "frames/s" not in out
    assert len(list((tmp_path / "walk" / "meshes" / "person_1").iterdir())) == FRAMES
    code, out, err = staf("run", walking, "-o", tmp_path, "-q", "--min-track", 0.2, "--no-refine")
    assert (code, out, err) == (0, "", "")
    run = json.loads((tmp_path / "walk" / "run.json").read_text())
    assert "refine" not in run["seconds"]


def test_a_photo_gets_a_picture(staf, detector, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(next(film(open_body(), 1)).image).save(photo, quality=95)
    quick = ["--no-refine", "--no-landmarks"]
    code, out, err = staf("run", photo, "-o", tmp_path, *quick, "--export", "glb,bvh,csv,obj")
    folder = tmp_path / "photo"
    assert (code, err) == (0, "")
    assert f"{photo}: the results will be in {folder} (the picture with the bodies" in out
    assert "\n1 person in one picture\n" in out and "frames" not in out
    assert f"overlay: {folder / 'overlay.png'}\n" in out
    with Image.open(folder / "overlay.png") as overlay:
        assert overlay.size == SIZE
    assert '"overlay":"overlay.png","still":true' in (folder / "report.html").read_text("utf-8")
    code, out, err = staf("render", folder, "--side-view")
    assert (code, err) == (0, "") and out.endswith(f"overlay: {folder / 'overlay.png'}\n")
    with Image.open(folder / "overlay.png") as overlay:
        assert overlay.width > SIZE[0]
    written = {path.name for path in folder.iterdir()}
    assert written == {
        "bvh", "exports.json", "joints.csv", "meshes", "overlay.png", "people.glb", "person_1.npz",
        "report.html", "run.json", "tracks.csv",
    }  # fmt: skip
    code, out, err = staf("run", photo, "-o", tmp_path, *quick)  # goes on from there
    assert (code, err) == (0, "") and "track:" not in out


@pytest.fixture
def clip_without_people(tmp_path):
    return made_clips.make_clip(tmp_path / "empty.mp4", range(12))


def test_nobody_in_the_video_is_one_line(staf, detector, clip_without_people, tmp_path):
    code, _, err = staf("run", clip_without_people, "-o", tmp_path / "out", "-q")
    assert code == 1
    assert err.count("\n") == 1
    assert "nobody was seen for long enough" in err
    assert "(nobody at all was seen); try --conf 0.1" in err or "(the longest was " in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"this is not a video\n" * 50, "not a video"),
    ],
)
def test_what_is_no_video_is_one_line(staf, tmp_path, name, content, complaint):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    code, out, err = staf("run", path, "-o", tmp_path / "out")
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert name in err
    assert complaint in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_a_damaged_video_is_finished_with_code_3(staf, walking, detector, tmp_path):
    path = tmp_path / "torn.mp4"
    path.write_bytes(walking.read_bytes())
    made_clips.overwrite(path, 40, seed=1)
    quick = ["--min-track", 0.2, "--no-refine", "--no-landmarks"]
    code, _, err = staf("run", path, "-o", tmp_path, *quick)
    assert code == 3, err
    assert "damaged" in err
    assert (tmp_path / "torn" / "run.json").exists()
    assert json.loads((tmp_path / "torn" / "run.json").read_text())["damage"]["packets"] > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--person", "one"], "--person"),
        (["--alpha", "2"], "alpha"),
        (["--export", "fbx"], "fbx"),
        (["--export", "obj", "--root-motion"], "only glb has it"),
        (["--export", "obj,trc", "--rig", "mixamo"], "only glb and bvh have it"),
        (["--export", "bvh", "--rig", "maya"], "rig"),
        (["--batch", "0"], "batch"),
        (["--focal", "-1"], "focal"),
        (["--focal", "inf"], "focal"),
        (["--conf", "2"], "conf"),
        (["--precision", "half", "--device", "cpu"], "half"),
        (["--min-track", "0"], "min-track"),
        (["--tracker", "deepsort"], "tracker"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_impossible_options_end_with_code_2(staf, walking, tmp_path, arguments, complaint):
    code, _, err = staf("run", walking, "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert complaint in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--detector", "nothing.pt"], "nothing.pt"),
        (["--weights", "nothing"], "nothing"),
        (["--body", "smpl-neutral"], "staf body import"),
        (["--weights", "yolo11n-pose"], "no checkpoint"),
        (["--device", "cuda:9"], "--device auto"),
        (["--device", "meta"], "--device auto"),
        (["--codec", "no_such_codec"], "codec"),
    ],
)
def test_missing_parts_are_reported_before_any_work(
    staf, walking, detector, tmp_path, arguments, complaint
):
    code, _, err = staf("run", walking, "-o", tmp_path / "out", *arguments)
    assert code == 1
    assert err.count("\n") == 1
    assert complaint in err
    assert not (tmp_path / "out").exists()


def test_nothing_of_the_user_s_is_overwritten(staf, walking, finished, tmp_path, monkeypatch):
    """Neither the video itself by its overlay, nor another clip's results of the same name."""
    for name in ("overlay.mp4", "overlay.mov", "overlay.png"):
        own = tmp_path / "overlay" / name
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(walking.read_bytes())
        code, _, err = staf("run", own, "-o", tmp_path, "-q")
        assert code == 2
        assert "own overlay" in err
        assert own.read_bytes() == walking.read_bytes()
    namesake = made_clips.make_clip(tmp_path / "walk.mp4", range(12))
    code, _, err = staf("run", namesake, "-o", finished.folder.parent, "-q")
    assert code == 2
    assert "choose another --output" in err
    code, _, err = staf("run", walking, "-o", "/proc/nowhere", "-q")
    assert code == 1
    assert "cannot write" in err


def test_a_rerun_leaves_nothing_of_the_run_before(staf, walking, finished, tmp_path):
    folder = tmp_path / "walk"
    shutil.copytree(finished.folder, folder)
    assert staf("run", walking, "-o", tmp_path, "-q", "--export", "obj")[0] == 0
    assert (folder / "meshes").is_dir()
    (folder / "person_9.npz").write_bytes(b"")
    theirs = [folder / "overlay.srt", folder / "meshes" / "hat.obj", folder / "person_notes.npz"]
    for path in theirs:
        path.write_bytes(b"the user's own")
    assert staf("run", walking, "-o", tmp_path, "-q", "--no-refine")[0] == 0
    assert {p.name for p in folder.iterdir()} == {
        "camera.npz", "meshes", "overlay.mp4", "overlay.srt", "person_1.npz", "person_notes.npz",
        "report.html", "run.json", "tracks.csv",
    }  # fmt: skip
    assert list((folder / "meshes").iterdir()) == [folder / "meshes" / "hat.obj"]


def test_refine_without_keypoints_is_refused(staf, walking, detector, tmp_path, monkeypatch):
    def no_keypoints(*arguments, **options):
        for seen in detection.detect(*arguments, **options):
            yield replace(seen, kp2d=seen.kp2d * 0)

    monkeypatch.setattr("staf_cli.pipeline.passes.detect", no_keypoints)
    code, _, err = staf("run", walking, "-o", tmp_path, "-q", "--refine")
    assert code == 2
    assert "needs keypoints" in err


def test_a_result_that_was_changed_by_hand_is_refused(staf, finished, tmp_path):
    folder = tmp_path / "walk"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("meshes"))
    for name, change, complaint in [
        ("tracks.csv", lambda text: "\n".join(text.splitlines()[:-5]) + "\n", "no longer fits"),
        ("tracks.csv", lambda text: text.splitlines()[0] + "\n", "no longer fits"),
        ("run.json", lambda text: "{}", "not written by staf run"),
        ("run.json", lambda text: text.replace("walk.mp4", "gone.mp4"), "--video"),
    ]:
        whole = (folder / name).read_text()
        (folder / name).write_text(change(whole))
        code, _, err = staf("render", folder)
        assert code == 1
        assert complaint in err
        (folder / name).write_text(whole)


def test_tracks_are_edited_from_the_command_line(staf, walking, finished, tmp_path):
    folder = tmp_path / "walk"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("meshes"))
    before = (folder / "person_1.npz").read_bytes()
    code, out, err = staf("tracks", folder, "--rename", "1=anna")
    assert code == 0, err
    assert "recover" not in out.splitlines()[0]  # nobody has changed: the overlay is drawn alone
    assert (folder / "person_1.npz").read_bytes() == before
    table = folder / "tracks.csv"
    assert table.read_text().splitlines()[1].endswith(",anna")
    for edit in (["--drop", "2"], ["--merge", "1"], [], ["--drop", "1"]):
        code, _, err = staf("tracks", folder, *edit)
        assert code in (1, 2)
        assert err.count("\n") == 1
    edited = tmp_path / "edited.csv"
    edited.write_text(table.read_text().replace("\n1,3,", "\n1,2,"))
    code, _, err = staf("run", walking, "-o", tmp_path, "--tracks", edited)
    assert code == 1
    assert "line 5: frames of a person must ascend" in err
    code, _, err = staf("run", walking, finished.folder, "-o", tmp_path, "--tracks", edited)
    assert code == 2
    assert "one video" in err
    shorter = table.read_text().splitlines(keepends=True)[:-3]
    edited.write_text("".join(shorter))
    code, out, err = staf("run", walking, "-o", tmp_path, "--tracks", edited, "--refine")
    assert code == 0, err
    assert len(person_npz.load(folder / "person_1.npz").frame) == FRAMES - 3


def test_interrupt_and_surprise_leave_one_line(staf, walking, detector, tmp_path, monkeypatch):
    for failure, code, words in [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by zero"), 1, "unforeseen ZeroDivisionError"),
        (OSError(28, "No space left on device"), 1, "no space left"),
    ]:

        def fail(*arguments, failure=failure):
            raise failure

        monkeypatch.setattr("staf_cli.pipeline.passes.recover_tracks", fail)
        got, _, err = staf("run", walking, "-o", tmp_path / "out", "-q")
        assert got == code
        assert "\n" not in err.strip()
        assert words in err.lower() or words in err
        assert {p.name for p in (tmp_path / "out" / "walk").iterdir()} == {
            "tracks.csv", "camera.npz", "landmarks_1.npz", "unfinished.json",
        }  # fmt: skip


def test_help_is_quick_and_complete(staf):
    code, out, _ = staf("--help")
    assert code == 0
    for command in ("run", "render", "export", "doctor", "weights", "body"):
        assert f"\n  {command} " in out
    code, out, _ = staf("run", "--help")
    for option in ("--refine", "--side-view", "--codec", "--max-people", "--person", "--device"):
        assert option in out


def test_doctor_reports_what_is_there_and_how_to_fix_the_rest(
    staf, detector, monkeypatch, tmp_path
):
    code, out, _ = staf("doctor")
    assert code == 0
    assert "open-body" in out
    assert out.endswith("\nstaf can run here.\n")
    monkeypatch.setenv("STAF_DATA", str(tmp_path))
    code, out, _ = staf("doctor")
    assert code == 1
    assert "staf weights fetch yolo11n-pose" in out
    assert out.endswith("\nstaf cannot run yet: do what the lines marked missing say.\n")


@pytest.mark.parametrize(
    ("cuda", "advice"),
    [
        (None, "this torch is for the CPU: /py/python -m pip install --force-reinstall torch "),
        ("13.0", "there is an NVIDIA card that torch cannot use: update its driver"),
    ],
)
def test_doctor_says_what_this_machine_needs(staf, monkeypatch, cuda, advice):
    """An NVIDIA card that is not used; on a Mac, no ffmpeg."""
    tools = {"nvidia-smi": "/bin/nvidia-smi"}
    monkeypatch.setattr("shutil.which", tools.get)
    monkeypatch.setattr("sys.executable", "/py/python")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", cuda)
    _, out, _ = staf("doctor")
    assert advice in next(line for line in out.splitlines() if line.startswith("device"))
    assert "only --codec needs it: brew install ffmpeg\n" in out
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "NVIDIA" not in staf("doctor")[1]


def test_weights_and_bodies_have_their_commands(staf, detector, tmp_path):
    code, out, _ = staf("weights", "list")
    assert code == 0
    assert "yolo11n-pose" in out
    code, out, _ = staf("weights", "path", "yolo11n-pose")
    assert Path(out.strip()) == detector
    code, _, err = staf("weights", "import", tmp_path)
    assert code == 1
    assert "3dpw_model_best.pth.tar" in err
    (tmp_path / "SMPL_NEUTRAL.pkl").write_bytes(b"not a pickle")
    code, _, err = staf("body", "import", tmp_path / "SMPL_NEUTRAL.pkl")
    assert code == 1
    assert err.count("\n") == 1
