"""The Python interface: what it exports, what it computes, what it refuses."""

import inspect
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import weakref
from dataclasses import fields, replace
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import trimesh

import staf_cli as staf
from staf_cli import api
from staf_cli.checkpoints import registry
from staf_cli.core import errors
from staf_cli.core.progress import silent
from staf_cli.fitting import refine
from staf_cli.pipeline.rework import export
from staf_cli.recovery import engine
from staf_cli.result import journal
from staf_cli.tracking import detection
from tests.support import made_clips
from tests.support.made_people import open_body
from tests.support.paths import ROOT
from tests.support.simple_walk import detected, small_body, walk
from tests.support.staf_child import MeanPoseNetwork, find_one

SIZE = (64, 48)  # width, height, px
NAMES = [
    "BodyError", "Boxes", "DatasetError", "ExportOptions", "Frame", "Human", "Look", "MissingTool",
    "NobodyFound", "Options", "OutOfMemory", "OutputError", "Person", "Recovery",
    "RecoveryOptions", "Result", "Span", "StafError", "Tools", "Track", "TrackOptions",
    "TracksError", "UsageError", "VideoError", "Watch", "WeightsError", "WorldOptions",
    "__version__", "load", "prepare", "prepare_recovery", "read_frames", "recover", "run",
]  # fmt: skip


class Seeing(MeanPoseNetwork):
    """The mean pose, with a camera and a shape that the mean colour of the window decides."""

    def recover(self, maps, windows):
        *_, theta = super().recover(maps, windows)
        colour = maps.reshape(-1, 3)[windows].mean(1).sigmoid()  # (N, 3)
        betas = theta.betas + torch.nn.functional.pad(colour, (0, 7))
        seen = replace(theta, betas=betas, pred_cam=theta.pred_cam + 0.1 * colour)
        return seen, seen, seen


def recovery(network, body=None):
    cpu = engine.Settings(torch.device("cpu"), dtype=torch.float32)
    return staf.Recovery(body or open_body(), network, "standing 0", 1.1, cpu, None)


@pytest.fixture(scope="module")
def mean_pose_tools():
    """A network whose answer is always the mean pose."""
    return recovery(MeanPoseNetwork())


@pytest.fixture
def tools(monkeypatch):
    """Tools for `run`: a person in the middle of every frame, and a network that sees colours."""
    monkeypatch.setattr(detection, "load_detector", lambda *_: None)
    monkeypatch.setattr(detection, "find_people", find_one)
    monkeypatch.setattr(
        detection, "associate", lambda sightings, *_: (seen for _, seen in sightings)
    )
    path = registry.shipped("open_body.npz")
    return staf.Tools(**vars(recovery(Seeing())), detector=path, detector_sha256="0")


@pytest.fixture
def clip(tmp_path):
    return made_clips.make_clip(tmp_path / "clip.mp4", range(20), width=128, height=96)


def images(number, size=SIZE):
    return [np.full((size[1], size[0], 3), 10 * n % 256, np.uint8) for n in range(number)]


def boxes(number, left=10.0, **more):
    return staf.Boxes(np.tile([left, 5, left + 20, 45], (number, 1)), **more)


def same(one, other):
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in fields(one)
    )


def test_exported_names_are_these():
    assert sorted(staf.__all__) == NAMES
    assert set(NAMES) <= set(dir(staf))
    assert set(api.__all__) < set(NAMES)
    modules = {module.name for module in pkgutil.iter_modules(staf.__path__)}
    assert not modules & set(NAMES)  # a name would hide the module, or the module the name
    assert all(getattr(staf, name) is not None for name in NAMES)
    missing = "nonsense"
    with pytest.raises(AttributeError, match=missing):
        getattr(staf, missing)


def public_functions():
    for name in NAMES:
        thing = getattr(staf, name)
        if inspect.isfunction(thing):
            yield name, thing
    for kind in (staf.Human, staf.Result, staf.Boxes):
        for name, method in vars(kind).items():
            method = method.fget if isinstance(method, property) else method
            if inspect.isfunction(method) and not name.startswith("_"):
                yield f"{kind.__name__}.{name}", method


@pytest.mark.parametrize("name", [name for name in NAMES if name[0].isupper()])
def test_public_classes_say_what_they_are(name):
    thing = getattr(staf, name)
    if issubclass(thing, staf.StafError):
        assert re.search(rf"{name} .*\d   \S", errors.__doc__ or "")
    else:
        assert not thing.__doc__.startswith(f"{name}(")  # what dataclass writes by itself


@pytest.mark.parametrize(("name", "function"), list(public_functions()))
def test_public_functions_document_shapes_units_and_errors(name, function):
    text = function.__doc__
    assert text
    words = " ".join(map(str, inspect.get_annotations(function).values()))
    if re.search(r"ndarray|ArrayLike|Frame\b", words):
        assert re.search(r"\([\w.]+, ?[\w, ]*\)", text), "no shape"
        assert re.search(r"\b(m|metres|px|s|seconds|indices|RGB)\b", text), "no unit"
    raises = "raise " in inspect.getsource(function) or "Path" in words
    assert not raises or "aises" in text


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, staf_cli as staf; staf.Span(); staf.StafError; dir(staf);"
        "print(sorted({'torch', 'numpy', 'cv2', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_types_are_seen_from_outside(tmp_path):
    """mypy knows what comes back, and that what is not exported is not there."""
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np\n"
        "import staf_cli as staf\n"
        "result = staf.recover([], [staf.Boxes(np.zeros((1, 4)))], fps=25)\n"
        "reveal_type(result.people[0].vertices(3))\n"
        "staf.nonsense\n"
        "staf.run('x.mp4', speed=2)\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    cache = ROOT / ".mypy_cache"
    done = subprocess.run(
        [*mypy, "--cache-dir", str(cache), str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    printed = done.stdout.splitlines()
    assert re.search(r"Revealed type is .*ndarray\[.*floating\[.*_32Bit", printed[0])
    assert 'no attribute "nonsense"' in printed[1]
    assert 'Unexpected keyword argument "speed"' in printed[2]
    assert printed[-1].startswith("Found 2 errors")


def test_recover_puts_people_where_their_boxes_are(mean_pose_tools):
    """Against the crop's camera written out, and the body's template, which is the mean pose."""
    frame = np.array([1, 2, 3, 7])
    two = [boxes(10), boxes(4, left=30.0, frame=frame, name="Jo")]
    focal = 100.0
    result = staf.recover(
        iter(images(10)),
        two,
        fps=25,
        options=staf.RecoveryOptions(focal=focal),
        tools=mean_pose_tools,
    )
    assert result.frames == range(10)
    assert result.folder is None
    first, second = result.people
    assert (first.motion.id, second.motion.id) == (1, 2)
    assert second.track.name == "Jo"
    assert np.array_equal(first.motion.time, np.arange(10) / 25)
    assert np.array_equal(second.motion.frame, frame)
    assert np.array_equal(second.motion.time, frame / 25)
    side, scale = 1.1 * 40, 0.9  # px; the mean camera's
    centre = np.array([40.0, 25]) - np.array(SIZE) / 2
    place = np.array([*(2 * centre / (scale * side)), 2 * focal / (scale * side)])
    assert np.abs(second.motion.trans - place).max() < 1e-6
    mesh = second.vertices(np.int64(7))
    assert mesh.dtype == np.float32
    assert np.abs(mesh - (open_body().arrays.v_template + place.astype(np.float32))).max() < 1e-5
    assert second.faces.max() == len(mesh) - 1
    seen = second.pixels(mesh)
    assert np.abs(seen - (focal * mesh[:, :2] / mesh[:, 2:] + np.array(SIZE) / 2)).max() < 1e-3
    assert np.abs(second.pixels(second.motion.joints3d) - second.motion.joints2d).max() < 1e-9


def test_recover_agrees_with_run_and_load_reads_it(clip, tools, tmp_path):
    options = staf.Options(recovery=staf.RecoveryOptions(refine=False), export=("csv",))
    result = staf.run(clip, tmp_path / "out", options, tools)
    assert result.folder is not None and result.folder == tmp_path / "out" / "clip"
    assert (result.folder / "overlay.mp4").is_file()
    human = result.people[0]
    assert np.ptp(human.motion.pred_cam, axis=0).min() > 0  # the network looks at the frames
    loaded = staf.load(str(result.folder))
    assert loaded.frames == result.frames == range(20)
    assert same(loaded.people[0].motion, human.motion)
    assert np.array_equal(loaded.people[0].vertices(5), human.vertices(5))
    regressor = open_body().arrays.J_regressor
    for frame in (5, 11):  # of a network that sees them differently
        joints = regressor @ human.vertices(frame)  # of the mean pose they are the template's own
        assert np.abs(joints - human.motion.joints3d[frame]).max() < 1e-4

    frames = list(staf.read_frames(clip))
    given = staf.Boxes(human.track.box, frame=human.track.frame)
    for timing in ({"fps": 25}, {"times": [frame.time for frame in frames]}):
        mine = staf.recover((f.image for f in frames), [given], tools=tools, **timing)
        motion = replace(mine.people[0].motion, score=human.motion.score)
        assert motion.fps == pytest.approx(human.motion.fps)
        assert same(replace(motion, fps=human.motion.fps), human.motion)


def test_frames_are_looked_at_one_by_one_and_no_more_than_needed(mean_pose_tools):
    alive = 0
    most = 0

    def gone():
        nonlocal alive
        alive -= 1

    def endless():
        nonlocal alive, most
        for n in count():
            image = np.full((48, 64, 3), n % 256, np.uint8)
            weakref.finalize(image, gone)
            alive += 1
            most = max(most, alive)
            yield image
            del image

    result = staf.recover(endless(), [boxes(200)], fps=25, tools=mean_pose_tools)
    assert len(result.people[0].motion.frame) == 200
    assert most <= 3


def test_passes_report_their_progress(mean_pose_tools):
    seen = []

    def watch(what, items, total):
        items = list(items)
        seen.append((what, len(items), total))
        return iter(items)

    options = staf.RecoveryOptions(smooth=0.1, constant_shape=True)
    staf.recover(
        images(12), [boxes(9)], fps=25, options=options, tools=mean_pose_tools, watch=watch
    )
    assert seen == [("recover", 9, 9), ("smooth", 1, 1)]


def test_keypoints_refine(monkeypatch):
    monkeypatch.setattr(refine, "STEPS", 40)
    truth = walk(np.full(10, 0.4))
    track = detected(truth, seed=0)
    tools = recovery(MeanPoseNetwork(), small_body())
    size = truth.person.image_size

    def error(**changes):
        options = staf.RecoveryOptions(focal=truth.person.focal_length, **changes)
        given = [staf.Boxes(track.box, kp2d=track.kp2d)]
        result = staf.recover(images(10, size), given, fps=30, options=options, tools=tools)
        off = result.people[0].motion.joints2d - truth.person.joints2d
        return np.linalg.norm(off, axis=-1).mean()

    assert error(refine=True) < 0.2 * error()  # these weights are refined only where it is asked


def test_smoothing_and_one_shape_are_applied(tools):
    rng = np.random.default_rng(0)
    noise = [np.full((48, 64, 3), rng.integers(256), np.uint8) for _ in range(30)]

    def motion(**changes):
        options = staf.RecoveryOptions(**changes)
        result = staf.recover(noise, [boxes(30)], fps=25, options=options, tools=tools)
        return result.people[0].motion

    def shaking(motion):
        return np.abs(np.diff(motion.trans, 2, axis=0)).mean()

    plain = motion()
    assert np.ptp(plain.betas[:, 0]) > 0.1
    assert np.ptp(motion(constant_shape=True).betas, axis=0).max() == 0
    assert shaking(motion(smooth=0.2)) < 0.2 * shaking(plain)


def given(frames, timing, *who, **options):
    return lambda tools: staf.recover(
        frames, who, options=staf.RecoveryOptions(**options), tools=tools, **timing
    )


FPS = {"fps": 25}
MEANINGLESS = {
    "no boxes": given(images(3), FPS),
    "either fps or times": given(images(3), {}, boxes(3)),
    "either fps or times ": given(images(3), {"fps": 25, "times": [0, 1, 2]}, boxes(3)),
    "fps is 0": given(images(3), {"fps": 0}, boxes(3)),
    "times has shape": given(images(3), {"times": [0, 1]}, boxes(3)),
    "times has shape ": given(images(1), {"times": [0]}, boxes(1)),
    "times: needs seconds that ascend": given(images(3), {"times": [0, 1, 1]}, boxes(3)),
    "only 2 came": given(images(2), FPS, boxes(3)),
    "only 0 came": given([], FPS, boxes(3)),
    "frame 1: shape": given([*images(1), np.zeros((9, 9, 3), np.uint8)], FPS, boxes(3)),
    "frame 0: shape .* float32": given([np.zeros((9, 9, 3), np.float32)], FPS, boxes(1)),
    "frame 0: shape .*, 4": given([np.zeros((9, 9, 4), np.uint8)], FPS, boxes(1)),
    "refine needs keypoints": given(images(3), FPS, boxes(3), refine=True),
    "Boxes.box: shape": lambda _: staf.Boxes(np.zeros((3, 3))),
    "Boxes.box: shape ": lambda _: staf.Boxes(np.array([["a"] * 4])),
    "Boxes.box: is empty": lambda _: staf.Boxes(np.zeros((0, 4))),
    "Boxes.box: needs x1 < x2": lambda _: staf.Boxes(np.array([[3, 0, 3, 9]])),
    "Boxes.box: holds": lambda _: staf.Boxes(np.array([[3, 0, np.nan, 9]])),
    "Boxes.frame: shape": lambda _: boxes(3, frame=np.arange(2)),
    "Boxes.frame: needs": lambda _: boxes(3, frame=np.array([0, 2, 2])),
    "Boxes.frame: needs ": lambda _: boxes(3, frame=np.array([-1, 2, 3])),
    "Boxes.frame: needs whole": lambda _: boxes(2, frame=np.array([0.5, 2])),
    "Boxes.name: has": lambda _: boxes(2, name=41 * "x"),
    "Boxes.name: has ": lambda _: boxes(2, name="a\nb"),
    "Boxes.kp2d: shape": lambda _: boxes(3, kp2d=np.zeros((3, 17, 2))),
}


@pytest.mark.parametrize("message", MEANINGLESS)
def test_what_cannot_be_meant_is_refused(mean_pose_tools, message):
    with pytest.raises(staf.UsageError, match=message.rstrip()):
        MEANINGLESS[message](mean_pose_tools)


@pytest.fixture
def recovered(mean_pose_tools):
    names = {"name": "Jo"}
    two = [boxes(4, frame=np.array([0, 1, 2, 9])), boxes(12, left=30.0, **names)]
    return staf.recover(images(12), two, fps=25, tools=mean_pose_tools)


def test_a_saved_result_is_loaded_and_exported(recovered, tmp_path):
    saved = recovered.save(tmp_path / "mine")
    assert sorted(path.name for path in saved.folder.iterdir()) == [
        "person_1.npz", "person_2.npz", "run.json", "tracks.csv",
    ]  # fmt: skip
    for result in (saved, staf.load(saved.folder)):
        assert result.frames == range(12)
        assert [human.track.name for human in result.people] == ["", "Jo"]
        for one, other in zip(result.people, recovered.people, strict=True):
            assert same(one.motion, other.motion)
            assert np.array_equal(one.vertices(2), other.vertices(2))
    export(saved.folder, ["glb"], staf.ExportOptions(), silent)
    written = recovered.export("glb", tmp_path / "elsewhere")
    assert [path.read_bytes() for path in written] == [(saved.folder / "people.glb").read_bytes()]
    scene = trimesh.load_scene(written[0])
    assert {len(mesh.vertices) for mesh in scene.geometry.values()} == {7565}  # at seams twice
    rooted = staf.ExportOptions(root_motion=True)
    (path,) = recovered.export("glb", tmp_path / "elsewhere", rooted)
    assert "root" in trimesh.load_scene(path).graph.nodes
    with pytest.raises(staf.UsageError, match="only glb has it"):
        recovered.export("csv", tmp_path / "elsewhere", rooted)
    named = staf.ExportOptions(rig="mixamo")
    path, _ = recovered.export("bvh", tmp_path / "elsewhere", named)
    assert path.read_text().count("mixamorig:") == 24
    with pytest.raises(staf.UsageError, match="only glb and bvh have it"):
        recovered.export("csv", tmp_path / "elsewhere", named)
    with pytest.raises(staf.UsageError, match="rig is 'maya': choose smpl, mixamo, unreal"):
        staf.ExportOptions(rig="maya")  # type: ignore[arg-type]
    with pytest.raises(staf.UsageError, match="options is dict: give ExportOptions"):
        recovered.export("glb", tmp_path, {"root_motion": True})
    with pytest.raises(staf.UsageError, match="unknown format 'fbx'"):
        recovered.export("fbx", tmp_path)


def test_saving_again_replaces_what_was_saved(recovered, tmp_path):
    saved = recovered.save(tmp_path)
    export(saved.folder, ["csv"], staf.ExportOptions(), silent)
    alone = replace(saved, people=saved.people[1:]).save(tmp_path)
    assert [human.motion.id for human in alone.people] == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "person_2.npz", "run.json", "tracks.csv",
    ]  # fmt: skip


def test_nothing_that_run_has_left_is_replaced_nor_what_was_saved(clip, tools, tmp_path):
    options = staf.Options(recovery=staf.RecoveryOptions(refine=False))
    result = staf.run(clip, tmp_path / "out", options, tools)
    assert result.folder is not None
    with pytest.raises(staf.UsageError, match="holds what staf run has made"):
        result.save(result.folder)
    assert (result.folder / "overlay.mp4").is_file()
    moved = replace(
        result.people[0],
        motion=replace(result.people[0].motion, trans=result.people[0].motion.trans + 1),
    )
    copy = replace(result, people=(moved,)).save(tmp_path / "mine" / "clip")
    with pytest.raises(staf.TracksError, match="--force"):
        staf.run(clip, tmp_path / "mine", options, tools)
    assert copy.folder is not None
    assert same(staf.load(copy.folder).people[0].motion, moved.motion)
    again = staf.run(clip, tmp_path / "mine", replace(options, force=True), tools)
    assert same(again.people[0].motion, result.people[0].motion)


def test_a_save_cut_short_is_no_result(recovered, tmp_path, monkeypatch):
    def cut_short(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(journal.Journal, "finish", cut_short)
        recovered.save(tmp_path)
    with pytest.raises(staf.TracksError, match="no finished result"):
        staf.load(tmp_path)
    recovered.save(tmp_path)
    assert len(staf.load(tmp_path).people) == 2


def test_what_does_not_belong_together_is_refused(recovered):
    first, second = recovered.people
    with pytest.raises(staf.UsageError, match="not in frame 5"):
        first.vertices(5)
    with pytest.raises(staf.UsageError, match="not in frame 20"):
        first.vertices(20)
    with pytest.raises(staf.UsageError, match="person 1 and track 2"):
        replace(first, track=second.track)
    with pytest.raises(staf.UsageError, match="other frames"):
        replace(first, track=replace(second.track, id=1))
    with pytest.raises(staf.UsageError, match="has the body"):
        replace(first, body=small_body())
    with pytest.raises(staf.UsageError, match="one person"):
        replace(recovered, people=())
    with pytest.raises(staf.UsageError, match="frames 0 to 11, the clip has 0 to 10"):
        replace(recovered, frames=range(11))


def test_foreign_folders_and_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(staf.TracksError, match="no finished result"):
        staf.load(tmp_path)
    with pytest.raises(staf.VideoError, match="no such file"):
        staf.run(tmp_path / "clip.mp4")
    with pytest.raises(staf.VideoError, match="no such file"):
        staf.read_frames(tmp_path / "clip.mp4")


def test_lines_for_the_user_are_warnings(clip, tools, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "load_recovery", lambda _: (tools, ["untrained"]))
    with pytest.warns(UserWarning, match="untrained") as warned:
        staf.prepare_recovery()
    assert warned[0].filename == __file__
    made_clips.overwrite(clip, 20, seed=1, start=0.1, end=0.6)
    with pytest.warns(UserWarning, match=r"clip\.mp4: is damaged") as warned:
        result = staf.run(clip, tmp_path / "out", tools=tools)
    assert warned[0].filename == __file__
    assert result.people[0].motion.damaged_packets > 0


def test_the_example_runs(detector, tmp_path, monkeypatch, capsys):
    held_out = tmp_path / "examples" / "held_out"
    held_out.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "held_out" / "gesturing.mp4", held_out)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "python_api.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "1 person in 9 frames" in printed
    assert "VideoError: no_such_video.mp4" in printed
    obj = trimesh.load_mesh(tmp_path / "out" / "python_api" / "frame_4.obj", process=False)
    assert len(obj.vertices) == 6900
    assert np.ptp(obj.vertices[:, 1]) > 1.3  # m; upright
    head, feet = obj.vertices[:, 1].max(), obj.vertices[:, 1].min()
    assert obj.vertices[obj.vertices[:, 1] > head - 0.1][:, 1].mean() > feet + 1.2
    assert (tmp_path / "out" / "python_api" / "frame_4.png").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda options: staf.recover([], [boxes(1)], fps=25, options=options), staf.Options()),
        (lambda options: staf.prepare_recovery(options), staf.Options()),
        (lambda options: staf.prepare(options), staf.RecoveryOptions()),
        (lambda options: staf.run("clip.mp4", options=options), staf.RecoveryOptions()),
    ],
)
def test_the_other_record_of_options_is_refused(function, options):
    with pytest.raises(staf.UsageError, match="RecoveryOptions for recover"):
        function(options)


# ── what is accepted as it is, and what is refused in one line ────────────────────────────

loose: Any = staf  # its arguments here are not of the types that it states


def one_of(tools, frames, people=None, **more):
    how = {"fps": 30, "tools": tools} | more
    return loose.recover(frames, people or [boxes(9)], **how).people[0]


def test_what_is_unambiguous_is_accepted(mean_pose_tools):
    want = one_of(mean_pose_tools, images(9))
    pil = [PIL.Image.fromarray(image) for image in images(9)]
    for frames in (pil, [torch.from_numpy(one) for one in images(9)], np.stack(images(9))):
        assert same(one_of(mean_pose_tools, frames).motion, want.motion)
    listed = loose.Boxes(boxes(9).box.tolist(), frame=list(range(9)))
    tensors = loose.Boxes(torch.tensor(boxes(9).box), frame=torch.arange(9))
    for people in ([listed], [tensors], listed):
        assert same(one_of(mean_pose_tools, images(9), people).motion, want.motion)
    for rate in (np.float32(30), Fraction(30)):  # as PyAV has it
        assert same(one_of(mean_pose_tools, images(9), fps=rate).motion, want.motion)
    assert np.array_equal(want.pixels([[0, 0, 3]]), [[32, 24]])


def keypoints(xy, confidence):
    return np.dstack([np.full((9, 17, 2), xy), np.full((9, 17), confidence)])


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda t: one_of(t, [None] * 9), "frame 0 is None: its picture could not be read"),
        (lambda t: one_of(t, ["a.png"] * 9), "frame 0 is a file name"),
        (lambda t: one_of(t, "clip.mp4"), "give images"),
        (lambda t: one_of(t, 5), "give images"),
        (lambda t: one_of(t, [[[1, 2], [3]]] * 9), "frame 0: no array"),
        (
            lambda t: one_of(t, [PIL.Image.fromarray(np.zeros((48, 64), np.uint16))] * 9),
            "frame 0: has more than 8 bits",
        ),
        (lambda t: one_of(t, images(9), fps="30"), "fps is '30': give a number"),
        (lambda _: one_of("x", images(9)), "tools is str: give what prepare"),
        (lambda t: loose.run("a.mp4", tools=t), "tools is Recovery: give what prepare"),
        (lambda t: one_of(t, images(9), watch=3), "watch is 3: give a function"),
        (lambda _: loose.run("a.mp4", watch="bar"), "watch is 'bar': give a function"),
        (lambda _: loose.RecoveryOptions(refine="no"), "refine is 'no': give True or False"),
        (lambda _: loose.Look(wireframe=[]), r"wireframe is \[\]: give True or False"),
        (lambda t: one_of(t, images(9), fps=None, times=["a"] * 9), "times is"),
        (lambda t: one_of(t, images(9), [boxes(9).box]), r"boxes\[0\] is ndarray: give Boxes"),
        (lambda t: one_of(t, images(9), 7), "give one Boxes for every person"),
        (lambda t: one_of(t, images(9), [loose.Boxes([[0.2, 0.2, 0.4, 0.9]] * 9)]), "is in 0..1"),
        (
            lambda t: one_of(t, images(9), [boxes(9, left=500)]),
            "frame 0: .* wholly outside, the im",
        ),
        (lambda t: one_of(t, images(9), [boxes(9, left=-30)]), "wholly outside"),
        (lambda t: one_of(t, images(9), [loose.Boxes([[-1e9, -1e9, 1e9, 1e9]] * 9)]), "far larger"),
        (lambda t: one_of(t, images(9), [boxes(9, kp2d=keypoints(0.5, 1))]), "kp2d is in 0..1"),
        (lambda _: boxes(9, kp2d=keypoints(20, 80)), "confidences from 0 to 1"),
        (lambda _: loose.Boxes(None), "Boxes.box is None: give numbers"),
        (lambda _: loose.Boxes([]), "Boxes.box: "),
        (lambda _: loose.Boxes([["a"] * 4]), "give numbers"),
        (lambda _: loose.Boxes([[1, 2, 3, 4], [1, 2]]), "Boxes.box: no array"),
        (lambda _: loose.Boxes(3), "Boxes.box: shape"),
        (lambda _: boxes(9, name=3), "Boxes.name is 3: give text"),
        (
            lambda t: one_of(t, images(9), options=loose.RecoveryOptions(weights="x")),
            "weights x, the",
        ),
        (lambda t: one_of(t, images(9), options={"fps": 3}), "options is dict"),
        (lambda t: one_of(t, images(9)).vertices(3.0), "frame is 3.0"),
        (lambda t: one_of(t, images(9)).pixels(np.zeros((5, 2))), "points: shape"),
        (lambda t: one_of(t, images(9)).pixels("a"), "points is 'a'"),
        (lambda _: loose.run(None), "None is no path"),
        (lambda _: loose.load(1.5), "1.5 is no path"),
        (lambda _: loose.read_frames(0), "0 is no path"),
        (lambda _: loose.read_frames("a.mp4", fps="3"), "fps is '3'"),
        (lambda _: loose.RecoveryOptions(focal="800"), "focal is 800"),
        (lambda _: loose.Options(recovery={"focal": 3}), "recovery is"),
        (lambda _: loose.Options(export=["fbx"]), "unknown format 'fbx'"),
        (lambda _: loose.Span("1", 2), "start is '1'"),
    ],
)
def test_what_cannot_be_meant_is_one_line(mean_pose_tools, call, complaint):
    with pytest.raises(staf.UsageError, match=complaint) as refused:
        call(mean_pose_tools)
    assert "\n" not in str(refused.value)


def test_an_export_that_is_no_name_is_one_line(mean_pose_tools, tmp_path):
    result = loose.recover(images(9), [boxes(9)], fps=30, tools=mean_pose_tools)
    for name in (["glb"], None, 3, "GLB"):
        with pytest.raises(staf.UsageError, match="unknown format"):
            result.export(name, tmp_path)
    with pytest.raises(staf.UsageError, match="None is no path"):
        result.export("glb", None)
