"""What holds for all tests: none reaches the network, nor does a process that it starts."""

import importlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

NO_NETWORK = Path(__file__).parent / "support" / "no_network"


class Attempts:
    """What was refused since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = 0

    def new(self) -> list[str]:
        lines = self.path.read_text().splitlines()
        fresh, self.seen = lines[self.seen :], len(lines)
        return fresh


def _block_network() -> Attempts:
    path = Path(tempfile.mkdtemp(prefix="staf-tests-"), "sockets")
    path.touch()
    os.environ["STAF_TEST_SOCKETS"] = str(path)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(NO_NETWORK), os.environ.get("PYTHONPATH")])
    )
    sys.path.insert(0, str(NO_NETWORK))
    sys.modules.pop("sitecustomize", None)  # Python has imported another one, or none, by now
    importlib.import_module("sitecustomize")

    return Attempts(path)


ATTEMPTS = _block_network()


def pytest_configure(config):
    config.addinivalue_line("markers", "loopback: may use sockets on this machine")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if item.get_closest_marker("loopback"):
        os.environ["STAF_TEST_LOOPBACK"] = "1"
    try:
        return (yield)
    finally:
        os.environ.pop("STAF_TEST_LOOPBACK", None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    try:
        return (yield)
    finally:
        attempts = ATTEMPTS.new()
        if attempts:
            pytest.fail("tried to reach the network:\n" + "\n".join(attempts), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Also what a process did after the end of its test."""
    attempts = ATTEMPTS.new()
    if attempts:
        print("\ntried to reach the network:", *attempts, sep="\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    shutil.rmtree(ATTEMPTS.path.parent)


@pytest.fixture
def refused():
    """Return the network's refusals since the last look, for tests that provoke them."""
    return ATTEMPTS.new


@pytest.fixture
def staf(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, standard output and error."""
    from staf_cli.cli import app

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["staf", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            app.main()
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


@pytest.fixture
def heard():
    """Have this process hear a signal, also if a shell made it ignore that."""
    before = {}

    def hear(number):
        before[number] = signal.signal(number, signal.default_int_handler)

    yield hear
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def detector():
    """Where the detector is; `make test` fetches it first."""
    from staf_cli.checkpoints import registry
    from staf_cli.core.errors import WeightsError

    try:
        return registry.locate("yolo11n-pose")
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def walking(tmp_path_factory):
    """A video of the walk (tests/support/walking_person.py) at a rate that varies."""
    from tests.support.walking_person import film_unevenly

    return film_unevenly(tmp_path_factory.mktemp("walk") / "walk.mp4")
