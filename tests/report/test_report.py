"""The report: curves, pictures and bodies that stay small, a page in which nothing foreign runs.

In a browser (`make test-full`, where Chromium is installed) it plays, and asks for no network.
"""

import base64
import hashlib
import io
import json
import re
import shutil
import struct
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from staf_cli import report, video
from staf_cli.batch import overview
from staf_cli.core.camera_motion import still_camera
from staf_cli.core.errors import MissingTool, TracksError
from staf_cli.core.records import Clip, Frame, Track, select_rows
from staf_cli.core.span import Span
from staf_cli.export.anatomy import clinical_angles
from staf_cli.export.motion import Y_UP, in_level_camera, motion_of
from staf_cli.fitting.smoothing import Effect
from staf_cli.report import bodies, pictures, three
from staf_cli.report.content import WORST, gather, open_overlay
from staf_cli.report.curves import curve, curves
from staf_cli.report.measures import ANGLES, measure
from staf_cli.result import person_npz
from staf_cli.result.run_record import DetectorRecord
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import place_in_world
from tests.support import made_clips, made_walks
from tests.support.made_people import make_person, make_track, open_body
from tests.support.made_records import make_record

SIZE = (320, 240)
FRAMES = 40
RATE = 30
WORLD_KEYS = (
    "world_poses",
    "world_trans",
    "world_joints3d",
    "world_contacts",
    "world_camera",
    "world_sigma",
)
UNTRUSTED = '</script><script>alert(1)</script><img src=x onerror=alert(1)>"\u202e\x1b[31m.mp4'
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def run_record(**changes):
    return make_record(width=SIZE[0], height=SIZE[1], fps=float(RATE), **changes)


@pytest.fixture(scope="module")
def body():
    return open_body()


@pytest.fixture(scope="module")
def tracks():
    """Two people; the second is lost for a while."""
    first, second = make_track(1, FRAMES), make_track(2, 20, seed=1)
    first = replace(first, frame=np.arange(FRAMES), time=np.arange(FRAMES) / RATE)
    index = np.arange(20) + np.where(np.arange(20) < 8, 5, 12)
    return [first, replace(second, frame=index, time=index / RATE)]


@pytest.fixture
def folder(tmp_path, tracks, body):
    """A result folder with what the report is made from."""
    path = tmp_path / "result"
    path.mkdir()
    clip = Clip(path / "x.mp4", *SIZE, float(RATE), Fraction(1, 600), FRAMES, False)
    for track in tracks:
        person_npz.save(person_npz.path_of(path, track.id), make_person(track, body, clip, 300))
    frames = (Frame(k, 20 * k, k / RATE, made_clips.pattern(k, *SIZE)) for k in range(FRAMES))
    video.write(path / "overlay.mp4", clip, frames)
    return path


class Scripts(HTMLParser):
    """What a browser would run, and what else a page has."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.tags, self.policy, self.inside = [], [], "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"]

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)


def data_of(path):
    return json.loads(Scripts(path.read_text(encoding="utf-8")).scripts[0])


# ── parts ─────────────────────────────────────────────────────────────────────────────────────


def test_three_js_comes_without_the_viewer_around_it():
    code = three.library()
    assert "SkinnedMesh" in code
    assert "base64_data" not in code
    assert "</script" not in code
    assert code.endswith(three.LOADER)


def test_a_trimesh_without_three_js_is_reported(monkeypatch):
    monkeypatch.setattr(three, "PARTS", (*three.PARTS, "THREE.NoSuchThing="))
    with pytest.raises(MissingTool, match="trimesh"):
        three.library()


def test_a_short_curve_is_drawn_as_it_is():
    drawn = curve(
        np.arange(4) / 30, np.array([1.23456, 2, np.nan, 4]), 10, np.arange(4, dtype="i1")
    )
    assert drawn["value"] == [1.235, 2, None, 4]
    assert drawn["time"] == [0, 0.0333, 0.0667, 0.1]
    assert drawn["label"] == [0, 1, 2, 3]


def test_a_long_curve_keeps_its_peaks():
    rng = np.random.default_rng(0)
    value = rng.uniform(1, 2, 50_000)
    value[[17_001, 33_333]] = 9, -9
    drawn = curve(np.arange(50_000) / 30, value, 400)
    assert len(drawn["value"]) <= 400
    assert max(drawn["value"]) == 9
    assert min(drawn["value"]) == -9
    assert drawn["time"] == sorted(drawn["time"])
    at = drawn["value"].index(9)
    assert drawn["time"][at] == pytest.approx(17_001 / 30, abs=1e-3)


def test_a_curve_breaks_at_gaps():
    frame = np.array([0, 1, 2, 9, 10])
    drawn = curve(frame / 30, np.ones(5), 100, np.arange(5, dtype="i1"))
    assert drawn["value"] == [1, 1, 1, None, 1, 1]
    assert drawn["time"][3] == pytest.approx(5.5 / 30, abs=1e-3)
    assert drawn["label"] == [0, 1, 2, 0, 3, 4]


def test_pictures_are_the_frames_asked_for(folder):
    overlay = video.probe(folder / "overlay.mp4")
    wanted = {0: 0.0, 13: 13 / RATE, FRAMES - 1: (FRAMES - 1) / RATE, FRAMES + 5: 1.5}
    found = pictures.extract(overlay, wanted)
    assert sorted(found) == [0, 13, FRAMES - 1]
    for number, picture in found.items():
        assert picture.time == pytest.approx(number / RATE)
        image = np.asarray(Image.open(io.BytesIO(picture.jpeg))).astype(int)
        right, before, after = (
            np.abs(image - made_clips.pattern(number + off, *SIZE)).mean() for off in (0, -1, 1)
        )
        assert right < min(before, after)


def test_a_gap_in_time_stays_one_in_the_overlay(tmp_path):
    """As a folder of pictures has where numbers are missing."""
    clip = Clip(tmp_path, *SIZE, 25.0, Fraction(1, 25), 20, False)
    ticks = [*range(10), *range(60, 70)]
    made = (Frame(n, k, k / 25, made_clips.pattern(n, *SIZE)) for n, k in enumerate(ticks))
    video.write(tmp_path / "overlay.mp4", clip, made)
    found = pictures.extract(open_overlay(tmp_path / "overlay.mp4"), {12: ticks[12] / 25})
    assert found[12].time == pytest.approx(ticks[12] / 25)


def test_pictures_far_from_each_other_are_looked_up_apart(folder, monkeypatch):
    asked = []

    def frames(clip, damage):
        asked.append(clip.span)
        return []

    monkeypatch.setattr(video, "frames", frames)
    pictures.extract(video.probe(folder / "overlay.mp4"), {5: 0.2, 9000: 300.0, 9030: 301.0})
    assert asked == [Span(0, 0.7), Span(299.5, 301.5)]


def test_curves_with_common_times_break_at_gaps_and_where_an_angle_comes_round():
    frame = np.array([0, 1, 2, 9, 10, 11])
    values = np.array([[10.4, 0], [11, 0], [12, 0], [13, 0], [14, 179], [15, -179]])
    drawn = curves(frame / 30, values, ("one", "other"), 100)
    assert drawn["one"] == [10, 11, 12, None, 13, 14, None, 15]
    assert drawn["other"] == [0, 0, 0, None, 0, 179, None, -179]
    assert drawn["time"][3] == pytest.approx(5.5 / 30, abs=1e-3)
    assert curves(frame[:1] / 30, values[:1], ("one", "other"), 100)["one"] == [10]
    long = curves(np.arange(1001) / 30, np.zeros((1001, 1)), ("one",), 100)
    assert len(long["one"]) <= 100
    assert None not in long["one"]


def gltf_of(glb):
    size = struct.unpack("<I", glb[12:16])[0]
    return json.loads(glb[20 : 20 + size])


def keys_of(gltf):
    """How many moments each person's motion has."""
    animation = gltf["animations"][0]
    inputs = {
        sampler["input"]
        for sampler in animation["samplers"]
        if sampler["interpolation"] == "LINEAR"
    }
    return [gltf["accessors"][number]["count"] for number in sorted(inputs)]


def test_bodies_are_all_there_in_short_clips(folder, tracks, body):
    shown = bodies.animate(folder, tracks, range(FRAMES), body, True)
    assert shown.people == (1, 2)
    assert shown.step == 1
    assert keys_of(gltf_of(shown.glb)) == [FRAMES, 20]
    joints = person_npz.load(person_npz.path_of(folder, 1)).joints3d
    assert shown.floor < -np.median(joints[:, 0, 1])  # below the pelvis; y is up there
    ends = [person_npz.load(person_npz.path_of(folder, k)).joints3d.reshape(-1, 3) for k in (1, 2)]
    away = np.linalg.norm(np.concatenate(ends) * (1, -1, -1) - shown.middle, axis=1)
    assert shown.reach > np.percentile(away, 99) + 0.1  # a view of that sphere shows everybody
    assert shown.yfov == pytest.approx(2 * np.degrees(np.arctan(SIZE[1] / 600)))


def test_bodies_of_long_clips_are_thinned(folder, tracks, body, monkeypatch):
    monkeypatch.setattr(bodies, "MOST_POSES", 21)  # 60 there are
    monkeypatch.setattr(person_npz, "FRAMES_IN_MEMORY", 7)
    shown = bodies.animate(folder, tracks, range(FRAMES), body, True)
    assert shown.step == 3
    gltf = gltf_of(shown.glb)
    # Every third frame, or the next where it is missing: 0 3 .. 39; 5 6 9 12, 20 21 24 27 30.
    assert keys_of(gltf) == [14, 9]
    comes_and_goes = [
        gltf["accessors"][sampler["input"]]
        for sampler in gltf["animations"][0]["samplers"]
        if sampler["interpolation"] == "STEP"
    ]
    assert comes_and_goes[-1]["max"] == pytest.approx([(30 + 3) / RATE])
    monkeypatch.setattr(bodies, "MOST_PEOPLE", 1)
    assert bodies.animate(folder, tracks, range(FRAMES), body, True).people == (1,)


@pytest.fixture(scope="module")
def walked():
    """A walk of two seconds before a camera that looks down, in the world, and its track."""
    made = made_walks.walk(2.0, 0.6, (-1, -7))
    person = made_walks.filmed(made, *made_walks.looking(15, 0, 2.0))
    camera = still_camera(person.frame)
    (person,) = place_in_world([person], [None], made_walks.body(), camera, WorldOptions())
    count = len(person.frame)
    box = np.tile([0.0, 0, 100, 200], (count, 1))
    guessed, kp2d = np.zeros(count, bool), np.zeros((count, 17, 3))
    track = Track(1, person.frame, person.time, box, person.score, guessed, kp2d)
    return made, person, track


def test_bodies_stand_on_the_ground_where_it_is_known(walked, tmp_path):
    _, person, track = walked
    person_npz.save(person_npz.path_of(tmp_path, 1), person)
    frames = range(len(person.frame))
    shown = bodies.animate(tmp_path, [track], frames, made_walks.body(), True)
    assert (shown.world, shown.floor) == (True, 0)
    low, high = person.world_joints3d.reshape(-1, 3).min(0), person.world_joints3d.max((0, 1))
    assert (low < shown.middle).all() and (shown.middle < high).all()
    camera = next(node for node in gltf_of(shown.glb)["nodes"] if node["name"] == "camera")
    assert camera["translation"] == pytest.approx(person.world_camera[0, :, 3], abs=1e-4)
    unplaced = replace(person, **dict.fromkeys(WORLD_KEYS))
    person_npz.save(person_npz.path_of(tmp_path, 1), unplaced)
    shown = bodies.animate(tmp_path, [track], frames, made_walks.body(), True)
    assert not shown.world
    assert shown.floor < -0.3  # m, below the camera


def test_feet_and_angles_are_measured(walked):
    made, person, track = walked
    measured = measure(
        track, [select_rows(person, slice(0, 25)), select_rows(person, slice(25, None))]
    )
    assert (measured.stands == made.stands).mean() > 0.85
    wanted = clinical_angles(motion_of(in_level_camera(person), Y_UP))
    for column, name in enumerate(ANGLES):
        np.testing.assert_allclose(measured.angles[:, column], wanted[name], atol=1e-3)
    unplaced = measure(track, [replace(person, **dict.fromkeys(WORLD_KEYS))])
    assert not unplaced.stands.any()
    arms = [k for k, name in enumerate(ANGLES) if "elbow" in name or "shoulder" in name]
    np.testing.assert_allclose(unplaced.angles[:, arms], measured.angles[:, arms], atol=0.01)


# ── the page ──────────────────────────────────────────────────────────────────────────────────


def test_report_agrees_with_the_files(folder, tracks, body):
    path = report.write(folder, tracks, range(FRAMES), body, folder / "overlay.mp4", run_record())
    assert path == folder / "report.html"
    assert path.stat().st_size < 5e6
    data = data_of(path)
    assert data["title"] == "clip.mp4"
    assert data["clip"] == {
        "overlay": "overlay.mp4",
        "still": False,
        "original": None,  # it is gone
        "start": 0,
        "end": pytest.approx((FRAMES - 1) / RATE),
        "offset": 0,
        "fps": pytest.approx(RATE),
    }
    first, second = data["people"]
    assert first["there"] == [[0, pytest.approx(FRAMES / RATE, abs=1e-3)]]
    assert len(second["there"]) == 2
    assert first["bridged"] == [[pytest.approx(1 / 30, abs=1e-3), pytest.approx(2 / 30, abs=1e-3)]]
    assert first["stands"] == [[], []]  # no world is known
    assert len(first["angles"]["time"]) == len(first["angles"]["left_knee_flexion"]) == FRAMES
    assert base64.b64decode(data["space"]["glb"])[:4] == b"glTF"
    assert 1 <= len(data["worst"]) <= WORST
    assert all(one["picture"].startswith("data:image/jpeg;base64,") for one in data["worst"])
    assert any("damaged in 2 places" in doubt["text"] for doubt in data["verdict"]["doubts"])
    assert "not for people" not in data["record"]
    again = path.read_bytes()
    report.write(folder, tracks, range(FRAMES), body, folder / "overlay.mp4", run_record())
    assert path.read_bytes() == again


def test_the_page_finds_its_video_where_it_shows_the_same(folder, tracks, body):
    source = folder.parent / "a clip #1.mp4"

    def found(remarks=()):
        record = run_record(path=str(source))
        record = replace(record, video=replace(record.video, remarks=remarks))
        overlay = folder / "overlay.mp4"
        return gather(folder, tracks, range(FRAMES), body, overlay, record)["clip"]["original"]

    assert found() is None
    source.touch()
    assert found() == "../a%20clip%20%231.mp4"
    assert found(remarks=("its times jump in 2 places",)) is None
    source.unlink()
    source.mkdir()  # pictures
    assert found() is None


def test_an_overlay_of_a_stretch_has_its_own_clock(folder, tracks, body):
    """Frames 100 to 139 of a video, asked for from a moment before the first of them."""
    later = [replace(one, frame=one.frame + 100, time=one.time + 100 / RATE) for one in tracks]
    for track in later:
        path = person_npz.path_of(folder, track.id)
        person_npz.save(path, replace(person_npz.load(path), frame=track.frame, time=track.time))
    record = run_record(start=99.4 / RATE)
    overlay = folder / "overlay.mp4"
    data = data_of(report.write(folder, later, range(100, 100 + FRAMES), body, overlay, record))
    assert data["clip"]["offset"] == pytest.approx(100 / RATE)
    assert data["clip"]["end"] == pytest.approx((99 + FRAMES) / RATE)
    assert data["people"][0]["there"][0][0] == pytest.approx(100 / RATE, abs=1e-3)


def test_what_smoothing_did_is_reported(folder, tracks, body):
    record = run_record(smoothing=Effect(20, 43.52, 13.6, 800.0, 90.0, 0.5))
    overlay = folder / "overlay.mp4"
    shown = gather(folder, tracks, range(FRAMES), body, overlay, record)
    settings = dict(shown["settings"])
    assert settings["Acceleration, smoothed"] == "43.5 m/s² before, 13.6 after"
    assert settings["Jitter, smoothed"] == "800 m/s³ before, 90 after"
    shown = gather(folder, tracks, range(FRAMES), body, overlay, run_record())
    assert not any("smoothed" in name for name, _ in shown["settings"])


def test_untrusted_names_stay_names(folder, tracks, body):
    record = run_record(path=UNTRUSTED, weights=UNTRUSTED, detector=DetectorRecord(UNTRUSTED, "0"))
    named = [replace(one, name=UNTRUSTED) for one in tracks]
    path = report.write(folder, named, range(FRAMES), body, folder / "overlay.mp4", record)
    page = Scripts(path.read_text(encoding="utf-8"))
    plain = report.write(folder, tracks, range(FRAMES), body, folder / "overlay.mp4", run_record())
    assert page.tags == Scripts(plain.read_text(encoding="utf-8")).tags
    data = json.loads(page.scripts[0])
    weights = dict(data["settings"])["Weights"]
    assert weights.startswith("</script><script>alert(1)</script><img")
    assert "\u202e" not in weights  # nor does anything turn the text around
    allowed = re.findall(r"'sha256-([^']+)'", page.policy)
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in page.scripts[1:]
    ]
    assert hashes == allowed[: len(hashes)]
    assert "default-src 'none'" in page.policy
    assert "unsafe" not in page.policy


def test_the_page_of_all_clips_says_what_the_report_says(folder, tracks, body):
    path = report.write(folder, tracks, range(FRAMES), body, folder / "overlay.mp4", run_record())
    data = data_of(path)
    text = overview.write(folder.parent).read_text(encoding="utf-8")
    for shown in (data["verdict"]["headline"], data["subtitle"], data["worst"][0]["picture"]):
        assert shown in text


def test_foreign_people_are_refused(folder, tracks, body):
    person_npz.path_of(folder, 2).write_bytes(b"no zip")
    with pytest.raises(TracksError, match="person_2"):
        report.write(folder, tracks, range(FRAMES), body, folder / "overlay.mp4", run_record())
    assert not (folder / "report.html").exists()


# ── staf view ─────────────────────────────────────────────────────────────────────────────────


def test_view_opens_the_report(staf, tmp_path, monkeypatch):
    opened = []

    def open_page(url):
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", open_page)
    page = tmp_path / "a clip" / "report.html"
    code, out, err = staf("view", page.parent)
    assert code == 1
    assert "no such report" in err
    assert err.count("\n") == 1
    page.parent.mkdir()
    page.write_text("<p>")
    assert staf("view", page.parent)[0] == 0
    assert opened == [page.as_uri()]
    code, out, _ = staf("view", page.parent, "--no-browser")
    assert (code, out) == (0, f"{page}\n")
    assert len(opened) == 1


def test_view_without_a_browser_is_one_line(staf, tmp_path, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    (tmp_path / "report.html").write_text("<p>")
    code, _, err = staf("view", tmp_path)
    assert code == 1
    assert err.count("\n") == 1
    assert "open the file yourself" in err


# ── in a browser ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM,
            args=["--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, folder, tracks, body):
    """A report in a browser, with all that was complained of and asked for."""
    named = folder.with_name("<img src=x onerror=alert(1)>&amp;")
    folder.rename(named)
    overlay = named / "overlay.mp4"
    record = run_record(path=UNTRUSTED, body=UNTRUSTED)
    path = report.write(named, tracks, range(FRAMES), body, overlay, record)
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append("alert"), dialog.dismiss()))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(path.as_uri())
    until(page, "video.readyState >= 2 && space.view === 'free'")
    yield page
    assert page.complaints == []
    loaded = {url for url in page.asked if not url.startswith("data:")}
    assert loaded == {path.as_uri(), overlay.as_uri()}


def until(page, condition):
    """Wait for a condition in the page; its policy lets no text be run there, as waiting would."""
    for _ in range(300):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"never: {condition}")


def drawn(page):
    """How many pixels of the 3D view are a person's, and a hash of all."""
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"))
    vivid = np.ptp(shot[:-60].astype(int), axis=-1) > 60  # the buttons are below
    return int(vivid.sum()), hashlib.sha256(shot.tobytes()).hexdigest()


@pytest.mark.full
def test_report_plays_in_a_browser(opened):
    weights = opened.locator("#settings dd").all_text_contents()
    assert any(text.startswith("</script><script>alert(1)") for text in weights)
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    until(opened, f"Math.abs(clock.time - 2 / {RATE}) < 0.01")
    opened.keyboard.press("ArrowLeft")
    until(opened, f"Math.abs(clock.time - 1 / {RATE}) < 0.01")
    opened.keyboard.press(" ")
    until(opened, "!clock.playing && clock.time > 1")  # to the end
    opened.keyboard.press("Home")
    until(opened, "clock.time === 0")


@pytest.mark.full
def test_report_shows_the_people_in_3d(opened):
    views = {}
    for key in "osct":
        opened.keyboard.press(key)
        opened.wait_for_timeout(500)
        count, views[key] = drawn(opened)
        assert count > 50
    assert len(set(views.values())) == 4
    opened.keyboard.press("End")
    opened.wait_for_timeout(500)
    assert drawn(opened)[1] != views["t"]  # another pose
    opened.evaluate(f"clock.seek(6 / {RATE})")  # both people are there
    opened.keyboard.press("c")
    opened.wait_for_timeout(500)
    both, _ = drawn(opened)
    opened.select_option("#person", "1")
    opened.wait_for_timeout(500)
    assert 0 < drawn(opened)[0] < both


@pytest.mark.full
def test_report_shows_angles_of_the_person_chosen(opened):
    def shown():
        return opened.evaluate("""() => [
            document.getElementById("whose").textContent,
            [...document.querySelectorAll("#angles path")].map((path) => path.getAttribute("d")),
        ]""")

    (first, curves_of_first), _ = shown(), opened.select_option("#person", "2")
    second, curves_of_second = shown()
    assert (first, second) == ("person 1", "person 2")
    assert len(curves_of_first) == len(curves_of_second) == 8
    assert not set(curves_of_first) & set(curves_of_second)
    assert opened.locator("#angles output").first.text_content().startswith("left ")


@pytest.mark.full
def test_report_shows_where_people_went(chromium, walked, tmp_path):
    """The floor with a path on it, feet that stand, and the camera's view through a tilted one."""
    _, person, track = walked
    person_npz.save(person_npz.path_of(tmp_path, 1), person)
    count = len(person.frame)
    clip = Clip(tmp_path / "x.mp4", *SIZE, float(RATE), Fraction(1, 600), count, False)
    made = (Frame(k, 20 * k, k / RATE, made_clips.pattern(k, *SIZE)) for k in range(count))
    video.write(tmp_path / "overlay.mp4", clip, made)
    overlay, body = tmp_path / "overlay.mp4", made_walks.body()
    path = report.write(tmp_path, [track], range(count), body, overlay, run_record())
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.goto(path.as_uri())
    until(page, "video.readyState >= 2 && space.view === 'free'")
    assert page.locator("#feet").is_visible()
    assert page.locator("#original").is_hidden()  # the video is gone, or is of another shape
    assert page.locator("#tracks rect").count() > 4
    page.keyboard.press("t")
    page.wait_for_timeout(500)
    with_path, on_the_ground = drawn(page)
    page.keyboard.press("w")
    page.wait_for_timeout(500)
    assert page.locator("#world").get_attribute("aria-pressed") == "false"
    assert drawn(page)[1] != on_the_ground  # from above the camera, which looks down
    page.keyboard.press("c")
    page.wait_for_timeout(500)
    filmed = drawn(page)
    page.keyboard.press("w")
    page.wait_for_timeout(500)
    assert drawn(page)[0] == pytest.approx(filmed[0], rel=0.02)  # the camera sees the same
    path.write_text(path.read_text().replace('"world":true', '"world":false'))
    page.goto(path.as_uri())
    until(page, "video.readyState >= 2 && space.view === 'free'")
    page.keyboard.press("t")
    page.wait_for_timeout(500)
    assert with_path > 1.2 * drawn(page)[0]
    page.keyboard.press("c")
    page.wait_for_timeout(500)
    assert drawn(page)[0] > 50


@pytest.mark.full
def test_report_shows_picture_and_bodies_of_one_moment(opened):
    moments = opened.evaluate("""() => {
        const pairs = [];
        clock.listen(() => pairs.push([clock.shown, video.seeking]));
        clock.seek(1); clock.seek(0.2); clock.seek(0.8);
        return [clock.shown, document.getElementById("overlay").className, pairs.length];
    }""")
    assert moments[0] == 0  # the picture has not come yet
    until(opened, "Math.abs(clock.shown - 0.8) < 0.05 && !video.seeking")
    until(opened, "document.getElementById('overlay').className === ''")


@pytest.mark.full
def test_report_shows_the_video_without_bodies(chromium, folder, tracks, body):
    """The overlay's copy in another colour stands for the video."""
    source, size = folder.parent / "x.mp4", (SIZE[1], SIZE[0], 3)
    clip = Clip(source, *SIZE, float(RATE), Fraction(1, 600), FRAMES, False)
    colours = (np.full(size, (6 * k, 0, 250 - 6 * k), np.uint8) for k in range(FRAMES))
    made = (Frame(k, 20 * k, k / RATE, image) for k, image in enumerate(colours))
    video.write(source, clip, made)
    record = run_record(path=str(source))
    path = report.write(folder, tracks, range(FRAMES), body, folder / "overlay.mp4", record)
    page = chromium.new_page()
    page.goto(path.as_uri())
    until(page, "!document.getElementById('bodies-label').hidden")

    def shown():
        page.wait_for_timeout(500)
        shot = page.locator("#overlay").screenshot()
        image = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
        return image[image.shape[0] // 2, image.shape[1] // 2].astype(int)

    page.keyboard.press("b")
    page.evaluate(f"clock.seek(25 / {RATE})")
    until(page, "!document.getElementById('original').seeking && !video.seeking")
    assert np.abs(shown() - (150, 0, 100)).max() < 12  # frame 25, of which none is like another
    page.keyboard.press("b")
    assert np.abs(shown() - (150, 0, 100)).max() > 30
    page.keyboard.press("b")
    page.keyboard.press(" ")
    until(page, "!clock.playing && clock.time > 1")
    assert np.abs(shown() - (234, 0, 16)).max() < 12  # the last one


@pytest.mark.full
def test_report_loops_and_has_help(opened):
    opened.keyboard.press("l")
    opened.keyboard.press("m")
    assert opened.evaluate("[clock.loop, video.muted]") == [True, True]
    opened.evaluate(f"clock.seek({(FRAMES - 5) / RATE})")
    opened.keyboard.press(" ")
    until(opened, "clock.playing && clock.time < 0.5")
    opened.keyboard.press("?")
    assert opened.locator("#help").is_visible()
    opened.keyboard.press("Home")  # is for the page below
    assert opened.evaluate("clock.playing")
    opened.locator("#help button").click()
    assert not opened.locator("#help").is_visible()
    opened.keyboard.press("?")
    opened.keyboard.press("?")
    assert not opened.locator("#help").is_visible()
    opened.keyboard.press("l")
    until(opened, "!clock.playing")


@pytest.mark.full
def test_report_leads_to_the_places_it_names(opened):
    opened.locator("#worst button").last.click()
    time = opened.evaluate("report.worst.at(-1).time")
    until(opened, f"Math.abs(clock.time - {time}) < 0.001")
    opened.locator("#doubts button").last.click()
    time = opened.evaluate("report.verdict.doubts.at(-1).start")
    until(opened, f"Math.abs(clock.time - {time}) < 0.001")
    box = opened.locator(".plot svg").first.bounding_box()
    opened.locator(".plot svg").first.click(position={"x": box["width"] / 2, "y": 20})
    middle = (FRAMES - 1) / RATE / 2
    until(opened, f"Math.abs(clock.time - {middle}) < 0.02")


@pytest.mark.full
@pytest.mark.parametrize("width", [390, 820, 1280, 1920])
def test_report_fits_every_width(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.wait_for_timeout(300)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.full
def test_report_works_without_its_video(chromium, folder, tracks, body):
    overlay = folder / "overlay.mp4"
    path = report.write(folder, tracks, range(FRAMES), body, overlay, run_record())
    overlay.unlink()
    page = chromium.new_page()
    page.goto(path.as_uri())
    page.locator("#no-video").wait_for(state="visible")
    assert "overlay.mp4" in page.locator("#no-video").text_content()
    page.keyboard.press("l")
    page.keyboard.press(" ")
    until(page, "clock.time > 1")
    until(page, "clock.time < 0.5")
    page.keyboard.press("l")
    until(page, "!clock.playing && clock.time > 1")
    page.keyboard.press(" ")
    until(page, "!clock.playing && clock.time > 1")
