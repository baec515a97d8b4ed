"""The ledger of an output folder: a row per clip, in summary.csv and summary.json.

Both files are written again after every finished clip, so that a kill loses none. Rows of clips
that other commands processed into the same folder stay as they are.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from staf_cli.core.files import atomic, printable
from staf_cli.core.locks import locked
from staf_cli.core.version import __version__

LOCK = ".summary.lock"  # while a command fills the folder
CSV, JSON = "summary.csv", "summary.json"
DONE, DAMAGED, NOBODY, FAILED = STATUSES = ("done", "damaged", "nobody", "failed")
COLUMNS = (
    "clip", "folder", "status", "reused", "people", "frames", "damaged", "seconds", "message",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The result of one clip.

    Raises:
        ValueError: a field has the wrong type, or the status is unknown.
    """

    clip: str  # absolute path
    folder: str  # of its results, relative to the output folder, with /
    status: str  # done; damaged: done as far as it can be read; nobody: no person seen; failed
    reused: bool = False  # all results were up to date already
    people: int = 0
    frames: int = 0
    damaged: int = 0  # packets, about one a frame; those missing at the end as well
    seconds: float = 0.0  # of computing, in this run or in the one whose results are used
    message: str = ""
    times: str = ""  # how long each part took: `pipeline.clip.Summary.times`
    identity: str = ""  # where nobody was found: `pipeline.clip.tracking_key`

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = int | float if field.type is float else field.type
            if not isinstance(value, kind):  # type: ignore[arg-type]
                raise ValueError(f"{field.name} is {value!r}")
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}")


class Ledger:
    """The rows of an output folder.

    Args:
        output: the folder.
        rows: those of earlier commands, by clip and folder.
    """

    def __init__(self, output: Path, rows: dict[tuple[str, str], Row]) -> None:
        self.output = output
        self.rows = rows

    def row(self, clip: Path, folder: str) -> Row | None:
        """Look up the row of a clip.

        Args:
            clip: the video.
            folder: of its results, relative to the output folder.

        Returns:
            The row, None where there is none.
        """
        return self.rows.get((str(clip.absolute()), folder))

    def add(self, row: Row) -> None:
        """Put a clip's row in place of its older one, and write both files.

        Args:
            row: the clip's result.

        Raises:
            OutputError: a file cannot be written.
        """
        self.rows[row.clip, row.folder] = row
        rows = [self.rows[key] for key in sorted(self.rows, key=lambda key: (key[1], key[0]))]
        with atomic(self.output / JSON) as temporary:
            text = json.dumps(
                {"staf": __version__, "clips": [asdict(one) for one in rows]}, indent=1
            )
            temporary.write_text(text + "\n", encoding="utf-8")
        with (
            atomic(self.output / CSV) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            table = csv.writer(stream)
            table.writerow(COLUMNS)
            table.writerows([_cell(getattr(one, name)) for name in COLUMNS] for one in rows)


@contextmanager
def open_ledger(output: Path) -> Iterator[Ledger]:
    """Open the ledger of an output folder, and keep other commands out of the folder.

    Args:
        output: the folder; it need not exist.

    Yields:
        The ledger, with the rows of earlier commands.

    Raises:
        OutputError: another command is filling the folder.
    """
    with locked(output, LOCK, "another staf is filling this folder"):
        yield Ledger(output, {(row.clip, row.folder): row for row in read(output / JSON)})


def read(path: Path) -> list[Row]:
    """Read the rows of earlier commands.

    Args:
        path: of a summary.json, untrusted.

    Returns:
        The rows; none from a file that is not a ledger.
    """
    try:
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["clips"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else printable(value)
