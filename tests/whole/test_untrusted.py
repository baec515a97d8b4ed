"""Untrusted files are refused quickly, in one line and little memory, and nothing in them is run.

The command line runs in a process that measures itself (support/measured_process.py); the files
are made by support/untrusted/.
"""

import contextlib
import os
import pickle
import re
import shutil
import socket
import sys
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from staf_cli.core import files
from staf_cli.core.errors import OutputError, StafError
from staf_cli.result import exports
from staf_cli.result import folder as result_folder
from tests.support import made_clips, measured_process
from tests.support.staf_child import Child
from tests.support.untrusted import ATTACKS, bodies, datasets, releases, smpl_files, videos

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is measured with /proc"),
    pytest.mark.loopback,
]

SECONDS = 5  # of processor time
MEGABYTES = 500
EVIL = "\x1b[2J[red]\u202e:smile:"  # clears, colours and turns what it is printed on


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of every attack, with its folder; one child is given all of them."""
    root = tmp_path_factory.mktemp("untrusted")
    (root / "data" / "weights").mkdir(parents=True)
    (root / "data" / "weights" / f"{EVIL}.safetensors").touch()
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        server.setblocking(False)
        patch.setenv("STAF_TEST_PORT", str(server.getsockname()[1]))
        commands = [attack.make(made(root / attack.name)) for attack in ATTACKS]
        before = set(root.rglob("*"))
        given = {argument for command in commands for argument in command}
        secrets = [path for path in root.rglob("secret*") if path not in given]
        with measured_process.opened_files(secrets) as opened:
            found = measured_process.attempt([*commands, ["weights", "list"], [f"--{EVIL}"]], root)
        with pytest.raises(BlockingIOError):
            server.accept()
    # No file was written anywhere, none was opened that another refers to.
    new = {path for path in set(root.rglob("*")) - before if "openvino" not in path.parts}
    assert {path.name for path in new} == {"outcomes.jsonl"}
    assert opened == []
    names = [attack.name for attack in ATTACKS] + ["list", "usage"]
    names = names[: len(found)]  # fewer were found where the process ended in one of them
    yield {name: (one, root / name) for name, one in zip(names, found, strict=True)}
    shutil.rmtree(root)  # more than half a gigabyte


def made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_hostile_files_are_refused(outcomes, attack):
    assert attack.name in outcomes, "the process crashed or hung, in this attack or before"
    outcome, folder = outcomes[attack.name]
    assert outcome.code == attack.code
    assert re.search(attack.error, outcome.err), outcome.err
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    assert outcome.err[:-1].isprintable() and outcome.out[:-1].isprintable()
    assert re.fullmatch(r"(.+: the results will be in .+\n|layout: .+\n)?", outcome.out)
    assert len(outcome.err) < 800 + len(str(folder))
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES
    assert outcome.events == []
    assert not (folder / "canary").exists() and not (folder / "out").exists()


@pytest.mark.parametrize("name", ["list", "usage"])
def test_tables_and_usage_show_no_escapes(outcomes, name):
    outcome, _ = outcomes[name]
    printed = outcome.out + outcome.err
    assert all(line.isprintable() for line in printed.splitlines())
    assert "\\x1b[2J[red]\\u20" in printed  # a table may cut it off


# --- the same files do harm where nobody is careful ---------------------------------------------


def test_the_canaries_sing_for_ordinary_readers(tmp_path):
    def objects(folder):
        bodies.body_of_objects(folder)
        np.load(folder / "body.npz", allow_pickle=True)["v_template"]

    def smpl(folder):
        smpl_files.smpl_with_code(folder)
        pickle.loads((folder / smpl_files.SMPL).read_bytes())

    def release(folder):
        releases.release_with_code(folder)
        torch.load(folder / releases.RELEASE[0], weights_only=False)

    def photos(folder):
        datasets.photos_of_objects(folder)
        np.load(folder / "images.npy", allow_pickle=True)

    for read in (objects, smpl, release, photos):
        folder = made(tmp_path / read.__name__)
        read(folder)
        assert (folder / "canary").exists()


@pytest.mark.parametrize("name", ["list.ffconcat", "list.mp4", "numbered", "elsewhere"])
def test_videos_that_refer_to_others_open_them_for_an_ordinary_player(tmp_path, name):
    options = {}
    if name == "numbered":
        path = videos.video_of_a_numbered_name(tmp_path)[1]
    elif name == "elsewhere":
        path = videos.video_whose_samples_are_elsewhere(tmp_path)[1]
        options = {"enable_drefs": "1", "use_absolute_path": "1"}
    else:
        path = videos.played(tmp_path, name, videos.PLAYLISTS[name])[1]
    secrets = measured_process.opened_files(list(tmp_path.glob("secret*")))
    with secrets as opened, contextlib.suppress(av.FFmpegError):
        av.open(f"file:{path}", options=options).close()
    assert set(opened) - {path}


# --- links in result folders --------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """Run `staf` with a detector that finds a person in every frame at once."""
    child = Child()
    yield lambda *arguments: child.run(*arguments, limit=120)
    child.close()


def test_a_run_replaces_links_and_never_what_they_lead_to(run, tmp_path):
    folder, outside = tmp_path / "out" / "v", made(tmp_path / "outside")
    folder.mkdir(parents=True)
    for name in ("overlay.mp4", "person_1.npz", "person_2.npz", "tracks.csv", "unfinished.json"):
        (outside / name).write_text("precious")
        (folder / name).symlink_to(outside / name)
    (folder / "run.json").symlink_to(outside / "not there yet")
    video = made_clips.make_clip(tmp_path / "v.mp4", range(30))
    outcome = run("run", video, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    for name in ("overlay.mp4", "person_1.npz", "tracks.csv", "run.json"):
        assert (folder / name).is_file() and not (folder / name).is_symlink()
    assert {path.read_text() for path in outside.iterdir()} == {"precious"}
    assert len(list(outside.iterdir())) == 5


def test_folders_behind_links_are_neither_emptied_nor_filled(run, tmp_path):
    folder, outside = tmp_path / "out" / "v", tmp_path / "outside"
    made(outside / "person_1" if made(outside) else outside)
    folder.mkdir(parents=True)
    precious = [outside / "person_1" / "000001.obj", outside / f"{files.TEMPORARY}x.obj"]
    for path in precious:
        path.write_text("precious")
    (folder / "meshes").symlink_to(outside)
    video = made_clips.make_clip(tmp_path / "v.mp4", range(30))
    outcome = run("run", video, "-o", tmp_path / "out", "--export", "obj")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "meshes: is a link to another folder" in outcome.err
    result_folder.remove_outdated(folder, ())
    (folder / "exports.json").write_text('{"obj": ["meshes/person_1/000001.obj", "../x"]}')
    exports.remove_all_but(folder, ())
    files.remove_leftovers(folder)
    with pytest.raises(OutputError, match="is a link"):
        files.check_links(folder)
    assert sorted(p for p in outside.rglob("*") if p.is_file()) == sorted(precious)
    assert all(path.read_text() == "precious" for path in precious)


def test_names_of_videos_are_escaped_where_all_goes_well(run, tmp_path):
    video = made_clips.make_clip(tmp_path / "v.mp4", range(30)).rename(tmp_path / f"{EVIL}\n.mp4")
    outcome = run("run", video, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert all(line.isprintable() for line in outcome.out.splitlines())
    assert "\\x1b[2J[red]\\u202e:smile:\\n" in outcome.out
    assert (tmp_path / "out" / video.stem / "run.json").is_file()


CAFE, LOT = os.fsdecode(b"caf\xe9"), os.fsdecode(b"lot\xff")  # no UTF-8


def run_under_names_that_are_not_utf8(run, root):
    """In every place that a name takes; in text they are escaped."""
    video = made_clips.make_clip(root / "v.mp4", range(30)).rename(made(root / LOT) / f"{CAFE}.mp4")
    out = root / f"out-{LOT}"
    commands = [
        ("run", video, "-o", out),
        ("render", out / CAFE, "--plain"),
        ("export", out / CAFE, "--format", "bvh"),
        ("tracks", out / CAFE, "--rename", "1=anna"),
        ("view", out / CAFE, "--no-browser"),
    ]
    for command in commands:
        outcome = run(*command)
        assert (outcome.code, outcome.err) == (0, ""), command
        assert "out-lot\\udcff/caf\\udce9" in outcome.out
        assert all(line.isprintable() for line in outcome.out.splitlines())
    assert (out / CAFE / "bvh" / "person_1.bvh").is_file()
    missing = run("run", root / f"{LOT}.mp4", "-o", out)
    assert missing.code == 1 and "lot\\udcff.mp4: no such file" in missing.err


def test_names_that_are_not_utf8_are_names_like_others(run, tmp_path):
    run_under_names_that_are_not_utf8(run, tmp_path)


def test_names_that_are_not_utf8_in_an_ascii_locale(tmp_path, monkeypatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    child = Child()
    try:
        run_under_names_that_are_not_utf8(partial(child.run, limit=120), tmp_path)
    finally:
        child.close()


def test_a_name_of_dots_does_not_climb_out(run, tmp_path):
    video = made_clips.make_clip(tmp_path / "v.mp4", range(30)).rename(tmp_path / "...mp4")
    outcome = run("run", video, "-o", made(tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "run.json").exists() and not (tmp_path / "out" / "run.json").exists()
    assert len(list((tmp_path / "out").glob("*/run.json"))) == 1


def test_an_attachment_stays_in_its_video(run, tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        output.add_attachment("../../climbed.ttf", "font/ttf", b"precious")
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(made_clips.pattern(index, 128, 96), "rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    outcome = run("run", path, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert not list(tmp_path.parent.rglob("*climbed*")) and not Path("../climbed.ttf").exists()


def test_every_error_is_one_printable_line():
    assert str(StafError("a\n\x1b[31mb\u202ec\udcff")) == "a\\n\\x1b[31mb\\u202ec\\udcff"
    assert os.linesep not in str(pickle.loads(pickle.dumps(StafError("a\nb"))))
