"""Bars on a terminal, lines elsewhere."""

import io
import re
import time

import pytest
from rich.console import Console
from rich.progress import Progress

from staf_cli.core import progress
from tests.support.made_batch import printed_on

PASSES = ("track", "landmarks", "recover", "refine", "show")


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def percentages(terminal, monkeypatch, passes):
    """How much of the whole run is shown after each pass (name, items, total)."""
    shown, bars = [], []
    add = Progress.add_task

    def remember(self, *arguments, **more):
        bars.append(self)
        return add(self, *arguments, **more)

    monkeypatch.setattr(Progress, "add_task", remember)
    with progress.whole_run(terminal, PASSES) as watch:
        for name, items, total in passes:
            assert list(watch(name, range(items), total)) == list(range(items))
            shown.append(bars[0].tasks[0].percentage)
    assert bars[0].tasks[0].percentage == 100
    return shown


def test_one_bar_moves_through_all_passes(terminal, monkeypatch):
    passes = [(name, 30, 30) for name in PASSES]
    shown = percentages(terminal, monkeypatch, passes)
    assert shown == sorted(shown) and shown[0] > 30 and shown[-1] == 100
    text = printed_on(terminal)
    assert text.index("whole run") < text.index("  track")
    assert "30/30 frames" in text


def test_passes_that_are_not_needed_are_left_out(terminal, monkeypatch):
    shown = percentages(
        terminal, monkeypatch, [("recover", 8, None), ("count", 3, 9), ("show", 8, 5)]
    )
    assert 40 < shown[0] < 90 and shown[1] == shown[0] and shown[2] == 100


def test_the_bar_says_how_much_time_is_left(terminal):
    with progress.whole_run(terminal, PASSES) as watch:
        for _ in watch("track", range(30), 30):
            time.sleep(0.01)  # bars are drawn ten times a second
    assert re.search(r"about \d+:\d\d left", printed_on(terminal))


def test_after_an_error_no_bar_stays(terminal):
    with pytest.raises(ValueError), progress.whole_run(terminal, PASSES) as watch:
        for _ in watch("track", range(4), 4):
            raise ValueError
    assert printed_on(terminal).endswith("\x1b[2K")  # the last line is erased


def test_elsewhere_every_pass_is_a_line():
    console = Console(file=io.StringIO())
    with progress.whole_run(console, PASSES) as watch:
        for name in PASSES[:2]:
            list(watch(name, range(30), 30))
    assert printed_on(console) == "track: 30 frames\nlandmarks: 30 frames\n"
