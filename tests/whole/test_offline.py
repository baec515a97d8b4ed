"""Nothing but `staf weights fetch` reaches for the network; and the block that shows it works."""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from staf_cli import video
from staf_cli.core.errors import VideoError
from staf_cli.core.files import data_folder
from staf_cli.core.records import Clip
from tests.support.made_datasets import walk_truth, write_clip
from tests.support.made_people import open_body
from tests.support.walking_person import FPS, SIZE, film

FRAMES = 16
PACKAGE = Path(video.__file__).parents[1]

# Several commands in one process, as importing torch takes seconds. Prints what each ended with.
COMMANDS = """
import sys
from staf_cli.cli import app
for command in sys.stdin.read().splitlines():
    sys.argv = ["staf", *command.split("\\t")]
    try:
        app.main()
    except SystemExit as end:
        print("ENDED", end.code, *sys.argv[1:3], file=sys.stderr)
from staf_cli.tracking.ultralytics_import import import_networks
import_networks()
from ultralytics.utils import ONLINE, TESTS_RUNNING
from ultralytics.utils.events import events
assert not TESTS_RUNNING  # which would be reason enough for it to send nothing
print("ANALYTICS", ONLINE, events.enabled)
"""


def bare_environment(home, **more):
    """That of a user who has set nothing: no offline switches, no sign of tests."""
    dropped = ("YOLO_", "XDG_", "HF_", "MPL", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return {**kept, "HOME": str(home), "STAF_DATA": str(data_folder()), **more}


def send_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("192.0.2.1", 80))


def test_the_block_refuses_and_remembers_in_this_process_and_in_children(refused):
    for attempt in (
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        send_datagram,
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: urllib.request.urlopen("https://example.org", timeout=1),
    ):
        with pytest.raises(OSError, match="tests have no network"):
            attempt()
        (line,) = refused()
        assert "test_the_block_refuses" in line
    swallowed = "import socket\ntry: socket.socket().connect_ex(('192.0.2.1', 80))\nexcept: pass"
    subprocess.run([sys.executable, "-c", swallowed], check=True)
    assert "192.0.2.1" in refused()[0]
    assert refused() == []


def test_an_attempt_that_was_swallowed_fails_its_test(tmp_path):
    body = (
        "def test_it():\n    import socket\n    try: socket.create_connection(('192.0.2.1', 80))\n"
    )
    (tmp_path / "test_it.py").write_text(f"{body}    except OSError: pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", tmp_path, "-o", "addopts="]
    environment = {k: v for k, v in os.environ.items() if k != "STAF_TEST_SOCKETS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "tried to reach the network" in done.stdout
    assert "192.0.2.1" in done.stdout


@pytest.mark.loopback
def test_the_mark_allows_this_machine_alone(refused):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with pytest.raises(OSError, match="tests have no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert len(refused()) == 1


def test_only_fetching_can_speak_http():
    """No other module of the package imports anything that opens connections."""
    networks = {"socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "ftplib",
                "socketserver", "smtplib", "asyncio", "xmlrpc", "webbrowser"}  # fmt: skip
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.partition(".")[0] in networks and name != "urllib.parse":
                    found.setdefault(path.relative_to(PACKAGE).as_posix(), set()).add(name)
    assert found == {
        "checkpoints/registry.py": {"http.client", "urllib.request"},
        "cli/results.py": {"webbrowser"},  # `staf view` shows a page from the disk
    }


def unshared():
    """The words that start a command without any network, not even loopback; none: not allowed."""
    for words in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*words, "true"], stderr=-1).returncode == 0:
            return words
    return []


def traced(log):
    """The words that have the kernel's network calls written down; none: not possible."""
    words = ["strace", "-f", "--seccomp-bpf", "-e", "trace=%network", "-o", str(log)]
    if shutil.which("strace") and subprocess.run([*words, "true"], stderr=-1).returncode == 0:
        return words
    return []


@pytest.mark.parametrize("home", ["impossible", pytest.param("empty", marks=pytest.mark.full)])
def test_no_command_reaches_for_the_network_or_for_home(detector, tmp_path, home):
    """Real commands, with the kernel's network taken away and strace looking, where it may be."""
    (tmp_path / "empty").mkdir()
    at_home = tmp_path / "empty" if home == "empty" else "/dev/null/home"
    log = tmp_path / "strace.log"
    words = [*unshared(), *traced(log)]
    walk = tmp_path / "walk.mp4"
    clip = Clip(walk, *SIZE, float(FPS), Fraction(1, FPS), FRAMES, has_audio=False)
    video.write(walk, clip, film(open_body(), FRAMES))
    (tmp_path / "truth").mkdir()
    write_clip(tmp_path / "truth", walk_truth(open_body(), FRAMES))
    commands = [
        ["run", walk, "-o", tmp_path / "out", "--min-track", "0.2"],
        ["render", tmp_path / "out" / "walk", "--side-view", "--boxes"],
        ["export", tmp_path / "out" / "walk", "--format", "obj"],
        ["eval", tmp_path / "truth", "--method", "mean"],
        ["doctor"],
        ["weights", "list"],
        ["weights", "verify"],
        ["weights", "path", "yolo11n-pose"],
    ]
    done = subprocess.run(
        [*words, sys.executable, "-c", COMMANDS],
        input="\n".join("\t".join(map(str, command)) for command in commands),
        env=bare_environment(at_home),
        capture_output=True,
        text=True,
    )
    ended = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("ENDED")]
    assert ended == [["0", *map(str, command[:2])] for command in commands], done.stderr
    assert "ANALYTICS False False" in done.stdout
    left = [path for path in (tmp_path / "empty").rglob("*") if path.is_file()]
    assert [path for path in left if "matplotlib" not in path.parts] == []  # its list of fonts
    if log.exists():
        calls = log.read_text()
        assert "exited with 0" in calls
        reached = re.findall(r".*(?:connect|sendto|sendmsg|sendmmsg|bind)\(.*AF_INET.*", calls)
        assert reached == []


def test_strace_would_see_a_connection(tmp_path):
    """The search above finds what a C library does, too."""
    log = tmp_path / "strace.log"
    words = traced(log)
    if not words:
        pytest.skip("no strace here")
    program = "import ctypes, socket; s = socket.socket(); a = bytes([2, 0, 0, 9, 127, 0, 0, 1])"
    program += "; ctypes.CDLL(None).connect(s.fileno(), a + bytes(8), 16)"
    subprocess.run([*words, sys.executable, "-c", program], check=True)
    assert re.search(r"connect\(.*AF_INET.*127\.0\.0\.1", log.read_text())


@pytest.fixture
def visits():
    """A server on this machine; yields its address and the paths that were asked for."""
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{url}/a.mp4'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="9" width="64" height="64" codecs="avc1.4d401f">'
    "<BaseURL>{url}/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.loopback
@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".mpd", ".ffconcat"])
def test_a_playlist_in_a_video_s_clothes_fetches_nothing(visits, tmp_path, kind, suffix):
    url, asked = visits
    path = tmp_path / f"clip{suffix}"
    path.write_text(PLAYLISTS[kind].format(url=url))
    with pytest.raises(VideoError):
        video.probe(path)
    with pytest.raises(VideoError):
        video.probe(Path(f"{url}/a.mp4"))
    assert asked == []


@pytest.mark.loopback
def test_the_server_above_would_be_visited(visits):
    url, asked = visits
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{url}/a.mp4")
    assert asked == ["/a.mp4"]
