"""run.json: written and read back, of an older version, and by nobody one can trust."""

import copy
import json

import pytest

from staf_cli.core.span import Span
from staf_cli.fitting.smoothing import Effect
from staf_cli.pipeline.options import Look, Options
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.result.run_record import (
    PassRecord,
    PeopleFacts,
    Presence,
    RunRecord,
    TrackFacts,
    VideoRecord,
    passes_from_json,
)
from staf_cli.tracking.options import TrackOptions
from staf_cli.video import Damage
from tests.support.made_records import make_record

EFFECT = Effect(20, 43.5, 13.6, 800.0, 90.0, 0.5)
PASSES = {
    "check": PassRecord("c", {}, Damage(2, 1, 3, ("a.png (empty)",)), {"check": 0.1}),
    "track": PassRecord("t", {"tracks.csv": "0"}, TrackFacts(3, 20, "c", "found", 4)),
    "recover": PassRecord("r", {"person_1.npz": "1"}, PeopleFacts({1: "k", 12: "l"}, EFFECT)),
    "export glb": PassRecord("g", {"people.glb": "2"}, None, {"export glb": 1.5}),
}

# As version 0.1.0 wrote it.
OLD = """
{"staf": "0.1.0",
 "video": {"path": "/clips/walk.mp4", "sha256": "ab", "width": 640, "height": 480, "fps": 29.97,
           "start": 0.0, "end": null},
 "frames": 20, "damage": {"packets": 0, "missing": 0},
 "people": [{"person": 1, "frames": 20, "first": 0, "last": 19, "interpolated": 2}],
 "options": {"span": {"start": 0.0, "end": null}, "fps": null, "detector": "yolo11n-pose",
   "trust": false, "tracker": "botsort",
   "tracks": {"conf": 0.25, "min_track": 9, "max_people": null, "person": [1, 3]},
   "weights": null, "body": "open-body", "focal": 900.0, "refine": false, "smooth": 0.07,
   "constant_shape": true, "device": "cpu", "half": null, "batch": 8,
   "look": {"alpha": 0.5, "plain": false, "wireframe": false, "boxes": true, "side_view": true,
            "renderer": "auto", "codec": null},
   "export": ["glb", "bvh"], "force": true},
 "weights": "staf-open 01", "body": "open-body 02", "body_file": "open-body",
 "detector": {"file": "yolo11n-pose.pt", "sha256": "cd"}, "device": "cpu", "half": false,
 "seconds": {"check": 0.05}, "versions": {"python": "3.11.7"},
 "passes": {
   "check": {"key": "c", "files": {}, "facts": {"packets": 0, "missing": 0}, "seconds": {}},
   "track": {"key": "t", "files": {"tracks.csv": "0"}, "seconds": {"track": 1.0},
             "facts": {"first": 0, "frames": 20, "of": "c"}},
   "recover": {"key": "r", "files": {"person_1.npz": "1"}, "facts": {"1": "k"}, "seconds": {}}}}
"""


def test_what_is_written_is_read_back():
    record = make_record(
        video=VideoRecord("a.ts", "0", 320, 240, 30.0, 1.0, None, ("its times jump", "HDR")),
        people=(Presence(1, 20, 0, 19, 2), Presence(12, 3, 4, 6, 0)),
        seconds={"check": 0.1},
        versions={"python": "3"},
        smoothing=EFFECT,
        passes=PASSES,
    )
    text = json.dumps(record.to_json())
    back = RunRecord.from_json(json.loads(text))
    assert json.dumps(back.to_json()) == text
    assert (back.people, back.smoothing) == (record.people, EFFECT)
    assert back.passes == PASSES


def test_a_record_of_version_0_1_0_is_read():
    values = json.loads(OLD)
    record = RunRecord.from_json(values)
    assert record.precision == "float32"  # it only wrote whether it was float16
    now = {**values, "precision": "float32", "video": {**values["video"], "remarks": ()}}
    now["damage"] = {**values["damage"], "interlaced": 0, "pictures": ()}
    now["passes"]["check"]["facts"] |= {"interlaced": 0, "pictures": ()}
    del now["half"]
    assert record.to_json() == now
    assert record.passes["track"].facts == TrackFacts(0, 20, "c")
    assert record.passes["recover"].facts == PeopleFacts({1: "k"})
    options = Options.from_json(record.options)
    assert options == Options(
        span=Span(),
        tracker="botsort",
        camera="static",  # it had no such pass
        tracks=TrackOptions(person=(1, 3)),
        recovery=RecoveryOptions(
            body="open-body", focal=900.0, refine=False, landmarks=False, smooth=0.07,
            constant_shape=True, device="cpu", batch=8,
        ),
        look=Look(alpha=0.5, boxes=True, side_view=True),
        export=("glb", "bvh"),
        force=True,
    )  # fmt: skip
    now = {**values["options"], "precision": "auto", "detect_size": None, "every": 1}
    now |= {"landmarks": False, "deinterlace": True, "fit": False, "camera": "static"}
    now["exporting"] = {"root_motion": False, "rig": "smpl", "space": "world"}
    now["world"] = {"camera_height": None, "tilt": None, "lock_feet": True}
    now["look"] = {**now["look"], "clothes": True}
    now["tracks"] = {**now["tracks"], "main": None, "min_track": 0.4}  # it counted frames
    del now["half"]
    assert json.loads(json.dumps(options.to_json())) == now


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), []), (("staf",), 1), (("video",), None), (("video", "path"), 3),
        (("video", "path"), "x" * 5000), (("video", "fps"), "fast"), (("video", "start"), -1.0),
        (("video", "start"), "soon"), (("video", "end"), {}), (("video", "fps"), float("nan")),
        (("video", "remarks"), [1]), (("video", "remarks"), "none"),
        (("video", "width"), True), (("frames",), -1), (("frames",), 2.5), (("frames",), 2**60),
        (("damage", "packets"), "0"), (("people",), {}), (("people", 0, "person"), None),
        (("options",), []), (("half",), 0), (("device",), None), (("detector",), "yolo"),
        (("seconds",), {"check": "long"}), (("versions",), {"python": 3}),
        (("smoothing",), {"acceleration_before": 1}), (("smoothing",), "much"),
        (("passes",), []), (("passes", "track", "key"), None),
        (("passes", "track", "facts"), {"first": 0}),
        (("passes", "track", "files"), {"../../etc/passwd": "0"}),
        (("passes", "track", "files"), {"/etc/passwd": "0"}),
        (("passes", "track", "files"), {"tracks.csv": 0}),
        (("passes", "recover", "facts"), {"one": "k"}),
        (("passes", "check", "facts"), {"packets": -1, "missing": 0}),
        (("passes", "check", "seconds"), {"check": float("inf")}),
    ],
)  # fmt: skip
def test_what_staf_does_not_write_is_refused(path, value):
    values = json.loads(OLD)
    whole = copy.deepcopy(values)
    if not path:
        whole = value
    else:
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    with pytest.raises(ValueError, match=r"\w"):
        RunRecord.from_json(whole)


@pytest.mark.parametrize("key", ["video", "frames", "damage", "body_file", "options", "passes"])
def test_what_is_missing_is_named(key):
    values = json.loads(OLD)
    del values[key]
    with pytest.raises(ValueError, match=key):
        RunRecord.from_json(values)


def test_passes_without_facts_are_passes():
    (one,) = passes_from_json(
        {"show": {"key": "k", "files": {"overlay.mp4": "0"}, "facts": {}, "seconds": {"show": 2}}}
    ).values()
    assert one == PassRecord("k", {"overlay.mp4": "0"}, None, {"show": 2.0})
