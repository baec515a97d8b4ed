"""The ledger of an output folder: one row a clip, in summary.csv for people and spreadsheets and
in summary.json for programs.

Both are written again after every finished clip, so that a kill loses none. Rows of clips that
other commands brought into the same folder stay as they are.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from staf_cli.core.files import atomic, locked, printable
from staf_cli.core.version import __version__

CSV, JSON = "summary.csv", "summary.json"
DONE, DAMAGED, NOBODY, FAILED = STATUSES = ("done", "damaged", "nobody", "failed")
COLUMNS = (
    "clip", "folder", "status", "reused", "people", "frames", "damaged", "seconds", "message",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """How it went with one clip. Raises ValueError for what no row can be."""

    clip: str  # absolute path
    folder: str  # of its results, as seen from the output folder, with /
    status: str  # done; damaged: done as far as it can be read; nobody: no person seen; failed
    reused: bool = False  # everything stood already
    people: int = 0
    frames: int = 0
    damaged: int = 0  # packets, about one a frame; those missing at the end as well
    seconds: float = 0.0  # of computing, in this run or in the one whose results are used
    message: str = ""
    identity: str = ""  # what was looked through in vain: `pipeline.identity`

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind = int | float if field.type is float else field.type
            if not isinstance(value, kind):  # type: ignore[arg-type]
                raise ValueError(f"{field.name} is {value!r}")
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}")


class Ledger:
    """The rows of an output folder; every change is on the disk before it counts."""

    def __init__(self, output: Path, rows: dict[tuple[str, str], Row]) -> None:
        self.output = output
        self.rows = rows  # by clip and folder

    def row(self, clip: Path, folder: str) -> Row | None:
        """What is known of a clip."""
        return self.rows.get((str(clip.absolute()), folder))

    def add(self, row: Row) -> None:
        """Put a clip's row in the place of its older one. Raises OutputError."""
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
def opened(output: Path) -> Iterator[Ledger]:
    """The ledger of an output folder that no other command fills meanwhile.

    Raises OutputError where another one does.
    """
    busy = "another staf is filling this folder; wait for it, or choose another --output"
    with locked(output, "staf-ledger", busy):
        yield Ledger(output, _read(output / JSON))


def _read(path: Path) -> dict[tuple[str, str], Row]:
    """The rows of an earlier run; none from a file that cannot be understood."""
    try:
        rows = [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["clips"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {(row.clip, row.folder): row for row in rows}


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else printable(value)
