"""Ctrl-C, SIGTERM, readers that go away and disks that fill up: one line, and nothing half done."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from staf_cli import video
from staf_cli.checkpoints import registry
from staf_cli.core import files, interrupts
from staf_cli.core.errors import OutputError, WeightsError
from staf_cli.core.files import data_folder
from staf_cli.core.records import Clip
from staf_cli.result import person_npz, tracks_csv
from tests.support.made_people import make_person, make_track, open_body
from tests.support.walking_person import FPS, SIZE, film

LIMIT = 2.0  # s from the signal to the end
STAF = [sys.executable, "-m", "staf_cli"]
LONG = 240  # s; a machine may be busy
FRAMES = 26


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A clip of the walk, for the real detector."""
    try:
        registry.locate("yolo11n-pose")
    except WeightsError as error:
        pytest.skip(str(error))
    path = tmp_path_factory.mktemp("walk") / "walk.mp4"
    clip = Clip(path, *SIZE, float(FPS), Fraction(1, FPS), FRAMES, has_audio=False)
    video.write(path, clip, film(open_body(), FRAMES))
    return path


class Child:
    """A `staf` of its own session, whose words go to files."""

    def __init__(self, folder, *arguments, program=STAF):
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
            self.process = subprocess.Popen(
                [*program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={
                    **os.environ,
                    "TMPDIR": str(self.temporary),
                    "STAF_DATA": str(data_folder()),
                },
                start_new_session=True,
                # A shell's background jobs ignore Ctrl-C, and hand that on to us.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def out(self):
        return (self.folder / "out.txt").read_text()

    @property
    def err(self):
        return (self.folder / "err.txt").read_text()

    def wait_until(self, arrived):
        end = time.monotonic() + LONG
        while not arrived(self):
            assert self.process.poll() is None, f"ended too early: {self.out}{self.err}"
            assert time.monotonic() < end
            time.sleep(0.005)

    def listens(self):
        """Whether it has taken over SIGTERM, which a Python does not by itself."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def cpu(self):
        """The seconds of processor time it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number):
        """The seconds from this signal to the end."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(LONG)
        return time.monotonic() - start

    def relatives(self):
        """Processes of its session that still run."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(stat.parent.name)
        return found


pytestmark = pytest.mark.alone
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def assert_gone_cleanly(child, seconds, results=None):
    assert child.process.returncode == 130, child.err
    assert seconds < LIMIT
    (line,) = child.err.strip().splitlines()
    assert line.startswith("error: interrupted")
    assert "the same command goes on" in line
    assert child.relatives() == []
    places = [child.temporary, *([results] if results else [])]
    assert [p for place in places for p in place.rglob(f"{files.TEMPORARY}*")] == []


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_packages_are_imported(walk, tmp_path, number):
    child = Child(tmp_path, "run", walk, "-o", tmp_path / "out")
    child.wait_until(Child.listens)
    time.sleep(random.Random(int(number)).uniform(0, 1))
    assert_gone_cleanly(child, child.send(number))
    assert not (tmp_path / "out").exists()


@needs_proc
def test_a_signal_in_mid_run_reports_what_is_kept(walk, tmp_path):
    child = Child(tmp_path, "run", walk, "-o", tmp_path / "out", "--no-refine")
    child.wait_until(lambda child: "\nrecover: " in child.out)
    assert_gone_cleanly(child, child.send(signal.SIGINT), tmp_path / "out")
    assert f"{tmp_path / 'out' / 'walk'} keeps: check, track" in child.err
    assert not (tmp_path / "out" / "walk" / "run.json").exists()


@needs_proc
@pytest.mark.full
def test_a_signal_at_any_moment(walk, tmp_path):
    """Seeded moments over the whole life of a run, counted in processor time."""
    arguments = ("run", walk, "--export", "obj", "--batch", "64", "-o")
    whole = Child(tmp_path / "whole", *arguments, tmp_path / "whole" / "out")
    used = 0.0
    while whole.process.poll() is None:
        used = max(used, whole.cpu())
        time.sleep(0.02)
    assert whole.process.returncode == 0, whole.err
    chosen = random.Random(4)
    late = 0
    for n in range(24):
        number = chosen.choice([signal.SIGINT, signal.SIGTERM])
        moment = used * (n + chosen.random()) / 26
        folder = tmp_path / str(n)
        child = Child(folder, *arguments, folder / "out")
        child.wait_until(Child.listens)
        child.wait_until(lambda child, moment=moment: child.cpu() > moment)
        seconds = child.send(number)
        print(f"{signal.Signals(number).name} after {moment:.1f} s: {seconds:.2f} s", child.err)
        if child.process.returncode == 0:  # all was done when the signal came
            assert (folder / "out" / "walk" / "run.json").exists()
            late += 1
        else:
            assert_gone_cleanly(child, seconds, folder)
    assert late <= 2
    last = Child(folder, *arguments, folder / "out")
    assert last.process.wait(LONG) == 0, last.err
    assert (folder / "out" / "walk" / "run.json").exists()


def program(folder, body):
    """A Python program that handles signals as `staf` does; prints READY, then does `body`."""
    setup = (
        "import hashlib, os, signal, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from staf_cli.core import files, interrupts, streams\n"
        "streams.protect_standard_streams()\n"
        "interrupts.handle_signals('error: interrupted; the same command goes on')\n"
        "def ready(): print('READY', flush=True)\n"
    )
    return Child(folder, program=[sys.executable, "-c", setup + body])


STUCK = """
with files.atomic(Path('result.txt')) as temporary:
    child = subprocess.Popen(['sleep', '100'])
    with interrupts.cleanup(child.kill), files.scratch_folder() as folder:
        temporary.write_text('half')
        ready()
        hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)  # an hour in C, which hears no signal
"""
SWALLOWED = """
with files.atomic(Path('result.txt')) as temporary:
    child = subprocess.Popen(['sleep', '100'])
    with interrupts.cleanup(child.kill), files.scratch_folder() as folder:
        ready()
        while True:
            try:
                time.sleep(100)
            except BaseException:
                pass
"""
DESTROYED = """
class Thing:
    def __del__(self):
        ready()
        time.sleep(100)
Thing()
time.sleep(100)
"""


@needs_proc
@pytest.mark.parametrize("body", [STUCK, SWALLOWED, DESTROYED], ids=["stuck", "swallowed", "del"])
def test_a_process_that_does_not_hear_is_ended_by_force(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    child = program(tmp_path / "child", body)
    child.wait_until(lambda child: "READY" in child.out)
    seconds = child.send(signal.SIGINT)
    assert seconds > interrupts.GRACE
    assert_gone_cleanly(child, seconds, tmp_path)
    assert list(child.temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["child"]


@needs_proc
def test_an_interrupt_that_a_library_renames_is_still_one(tmp_path):
    """As pybind11 does while a module is imported."""
    body = "from staf_cli.checkpoints import registry\n"
    body += "from staf_cli.cli import app\n"
    body += "def examine():\n"
    body += " try: ready(); time.sleep(100)\n"
    body += " except KeyboardInterrupt: raise ImportError('KeyboardInterrupt: <EMPTY MESSAGE>')\n"
    body += "registry.verify = examine\n"
    body += "sys.argv = ['staf', 'weights', 'list']; app.main()"
    child = program(tmp_path, body)
    child.wait_until(lambda child: "READY" in child.out)
    assert_gone_cleanly(child, child.send(signal.SIGINT))


@needs_proc
def test_nothing_is_raised_in_a_module_that_is_imported(tmp_path):
    """As in the set-up of C++, which aborts."""
    (tmp_path / "fragile.py").write_text(
        "import os, time, __main__\n"
        "try: __main__.ready(); time.sleep(100)\n"
        "except BaseException: os.abort()\n"
    )
    child = program(tmp_path, f"sys.path.insert(0, {str(tmp_path)!r}); import fragile")
    child.wait_until(lambda child: "READY" in child.out)
    assert_gone_cleanly(child, child.send(signal.SIGTERM))


@needs_proc
def test_a_worker_ends_without_a_word_whatever_it_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = "signal.signal(signal.SIGTERM, interrupts.end_at_once)\n"
    body += "with files.atomic(Path('result.txt')): exec(" + repr(DESTROYED) + ")"
    child = program(tmp_path / "child", body)
    child.wait_until(lambda child: "READY" in child.out)
    assert child.send(signal.SIGTERM) < interrupts.GRACE
    assert (child.process.returncode, child.err) == (130, "")
    assert [path.name for path in tmp_path.iterdir()] == ["child"]


@needs_proc
def test_what_must_be_saved_is_given_its_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = "with interrupts.no_forced_exit():\n try: ready(); time.sleep(100)\n"
    body += f" finally: time.sleep({interrupts.GRACE + 0.5}); Path('saved').touch()"
    child = program(tmp_path / "child", body)
    child.wait_until(lambda child: "READY" in child.out)
    child.send(signal.SIGTERM)
    assert Path("saved").exists()


@needs_proc
def test_a_second_ctrl_c_does_not_disturb_the_cleaning_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = "try: ready(); time.sleep(100)\n"
    body += "finally: ready(); time.sleep(0.7); Path('cleaned').touch()"
    child = program(tmp_path / "child", body)
    child.wait_until(lambda child: "READY" in child.out)
    child.process.send_signal(signal.SIGINT)
    child.wait_until(lambda child: child.out.count("READY") == 2)
    child.send(signal.SIGINT)
    assert Path("cleaned").exists()


@needs_proc
def test_a_background_job_goes_on_ignoring_ctrl_c(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "SIG_DFL", signal.SIG_IGN)  # what Child starts its process with
    child = program(tmp_path / "child", "ready(); time.sleep(0.5); Path('done').touch()")
    child.wait_until(lambda child: "READY" in child.out)
    child.send(signal.SIGINT)
    assert child.process.returncode == 0
    assert Path("done").exists()


def staf(*arguments, **options):
    return subprocess.run([*STAF, *map(str, arguments)], text=True, stderr=-1, **options)


def test_a_reader_who_has_read_enough_is_no_failure():
    with subprocess.Popen([*STAF, "weights", "list"], text=True, stdout=-1, stderr=-1) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline().startswith("name")
        child.stdout.close()
        assert child.wait(LONG) == 0
        assert child.stderr.read() == ""


def test_closed_streams_are_no_failure():
    for closed in ((1,), (2,), (0, 1, 2)):
        done = staf("weights", "list", stdout=-1, preexec_fn=lambda c=closed: [*map(os.close, c)])
        assert done.returncode == 0
        assert done.stderr == ""


def test_what_libraries_print_never_gets_into_a_file(tmp_path, monkeypatch):
    """With descriptor 1 closed, the first file opened would be standard output to C code."""
    monkeypatch.chdir(tmp_path)
    body = "from staf_cli.core import streams; streams.protect_standard_streams()\n"
    body += "import os; f = open('result', 'w'); os.write(1, b'chatter'); f.write('whole')"
    subprocess.run([sys.executable, "-c", body], preexec_fn=lambda: os.close(1), check=True)
    assert Path("result").read_text() == "whole"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_output_that_cannot_be_written_is_reported():
    with Path("/dev/full").open("w") as full:
        done = staf("weights", "list", stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot write standard output: no space left" in done.stderr


@contextmanager
def largest_file(size):
    """Writing fails beyond so many bytes a file, as on a full disk (Python ignores SIGXFSZ)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_overlay(path):
    clip = Clip(path, *SIZE, float(FPS), Fraction(1, FPS), 3, has_audio=False)
    video.write(path, clip, film(open_body(), 3))


def write_person(path):
    track = make_track(1, 20)
    clip = Clip(path, 640, 480, 30.0, Fraction(1, 30), 20, has_audio=False)
    person_npz.save(path, make_person(track, open_body(), clip))


@pytest.mark.parametrize("size", [0, 1, 500])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("tracks.csv", lambda path: tracks_csv.save(path, [make_track(1, 20)])),
        ("person_1.npz", write_person),
        ("overlay.mp4", write_overlay),
    ],
)
def test_a_full_disk_leaves_the_older_file_and_no_other(tmp_path, name, write, size):
    path = tmp_path / name
    path.write_bytes(b"older")
    complaint = pytest.raises(OutputError, match=f"cannot write .*{name}: .*free some space")
    with complaint as caught, largest_file(size):
        write(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_vanishes_under_a_file_is_one_line(tmp_path):
    path = tmp_path / "out" / "result.txt"
    for spoil in (lambda folder: None, Path.touch):
        with pytest.raises(OutputError, match="cannot write"), files.atomic(path) as temporary:
            temporary.write_text("half")
            shutil.rmtree(path.parent)
            spoil(path.parent)
    assert path.parent.is_file()


def in_own_mounts(script, *arguments):
    """Run a shell script where it may mount what nobody else sees; $1, $2, ...: arguments."""
    words = ["unshare", "-rm", "sh", "-ec"]
    if subprocess.run([*words, "mount -t tmpfs tmpfs /mnt"], stderr=-1).returncode:
        pytest.skip("this kernel lets nobody mount")
    command = [*words, script, "sh", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * LONG)


@pytest.mark.full
def test_a_disk_that_is_full_or_read_only_and_then_is_not(walk, tmp_path):
    script = """
    mount -t tmpfs -o size=64k tmpfs "$1"
    "$2" -m staf_cli run "$3" -q -o "$1" || echo "ended with $?"
    find "$1" -name '.staf-*' -o -name run.json
    mount -o remount,ro "$1"
    "$2" -m staf_cli run "$3" -q -o "$1/new" || echo "ended with $?"
    mount -o remount,rw,size=8m "$1"
    "$2" -m staf_cli run "$3" -q -o "$1" && find "$1" -name '.staf-*' -o -name run.json
    """
    (tmp_path / "disk").mkdir()
    done = in_own_mounts(script, tmp_path / "disk", sys.executable, walk)
    finished = str(tmp_path / "disk" / "walk" / "run.json")
    assert done.stdout.splitlines() == ["ended with 1", "ended with 1", finished], done.stderr
    full, read_only = done.stderr.splitlines()
    assert "cannot write" in full and "no space left on device; free some space" in full
    assert "cannot write" in read_only and "read-only file system" in read_only


@pytest.mark.full
@needs_proc
def test_an_output_folder_removed_in_mid_run(walk, tmp_path):
    """One line, or whole results; never a folder that looks finished and is not."""
    arguments = ("run", walk, "-o", tmp_path / "out", "--no-refine")
    for line in ("track: ", "recover: "):
        child = Child(tmp_path / "child", *arguments)
        child.wait_until(lambda child, line=line: line in child.out)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        code = child.process.wait(LONG)
        written = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
        if code == 0:
            assert written >= {"tracks.csv", "person_1.npz", "overlay.mp4", "run.json"}
        else:
            assert code == 1
            assert len(child.err.splitlines()) == 1 and child.err.startswith("error: ")
            assert "run.json" not in written
        child = Child(tmp_path / "child", *arguments)
        assert child.process.wait(LONG) == 0, child.err
        shutil.rmtree(tmp_path / "out")
