"""Rows, and pools of workers that need no network."""

import io
import json
from functools import partial

from staf_cli.batch.ledger import Row
from staf_cli.batch.workers import ProcessPool
from tests.support import scripted_workers

ROW = Row("/clips/x.mp4", "x", "done", False, 2, 30, 0, 4.25, "")


def saved_rows(output):
    """The rows of the ledger that a batch wrote."""
    return json.loads((output / "summary.json").read_text())["clips"]


def pool_of(log, number, start=""):
    """Scripted workers, which record in `log` what they do."""
    return ProcessPool((partial(scripted_workers.load, log, start),) * number)


def printed_on(screen):
    """What a console printed into memory."""
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()
