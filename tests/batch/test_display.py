"""What a batch shows while it runs."""

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from staf_cli.batch import display
from staf_cli.batch.events import Finished, Note, Progress, Started, progress_callback
from tests.support.made_batch import ROW, printed_on


def test_the_table_shows_clips_at_work(monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with display.open_display(screen, 3, quiet=False) as show:
        show(Started("long/\x1b[2J" + "x" * 60))
        show(Progress("long/\x1b[2J" + "x" * 60, "track", 30, 120))
        show(Started("b"))
        show(Progress("b", "refine", 1, None))
        show(Finished("b", replace(ROW, folder="b", status="failed", message="no good")))
        show(Note("[bold]a note"))
        time.sleep(0.3)  # longer than the table's own pace
    text = printed_on(screen)
    assert "track 30 of 120" in text
    assert "b: 2 people, 30 frames, 4.2 s, no good" in text
    assert "0 done, 1 failed, 2 left" in text
    assert "note: [bold]a note" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("terminal", [False, True])
def test_verbose_shows_the_times_of_each_clip(terminal):
    rows = replace(ROW, times="track 1.5 s (20.0 frames/s)"), replace(ROW, folder="y")
    shown = {}
    for verbose in (False, True):
        screen = Console(file=io.StringIO(), force_terminal=terminal, width=120)
        with display.open_display(screen, len(rows), quiet=False, verbose=verbose) as show:
            for row in rows:
                show(Finished(row.folder, row))
        shown[verbose] = printed_on(screen)
    assert "time:" not in shown[False]
    assert shown[True].count("time:") == 1
    assert "time:    track 1.5 s (20.0 frames/s)" in shown[True]


def test_progress_is_reported_now_and_then(monkeypatch):
    times = iter(np.arange(100) * 0.1)
    monkeypatch.setattr("staf_cli.batch.events.time.monotonic", lambda: next(times))
    reported: list[Progress] = []
    watch = progress_callback("a", reported.append)
    assert list(watch("track", "abcdefgh", None)) == list("abcdefgh")
    assert 2 <= len(reported) < 8
    assert reported[0] == Progress("a", "track", 0, None)
