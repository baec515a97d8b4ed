"""summary.html: all clips of an output folder on one page, each with a link to its report.

The page is made from what is in the folder, needs no script and loads nothing. All text in it comes
from untrusted files and is escaped.
"""

import base64
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any
from urllib.parse import quote

from staf_cli.batch import ledger
from staf_cli.batch.ledger import Row
from staf_cli.core.errors import TracksError, counted, one_line
from staf_cli.core.files import atomic, printable
from staf_cli.result.folder import REPORT

PAGE = "summary.html"
GRADES = ("good", "fair", "poor")  # as in report/quality.py
PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*")
DATA = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
LARGEST_REPORT = 32 * 2**20  # bytes


@dataclass(frozen=True)
class _Card:
    """What the page shows of a clip."""

    name: str
    status: str  # as in the ledger
    link: str = ""  # to the report, relative; "": there is none
    picture: str = ""  # data:image/jpeg
    grade: str = "unknown"
    lines: tuple[str, ...] = ()


def is_batch(folder: Path) -> bool:
    """Whether a folder is no result itself but holds results."""
    if (folder / REPORT).is_file() or not folder.is_dir():
        return False
    return (folder / ledger.JSON).is_file() or any(_results(folder))


def write(folder: Path) -> Path:
    """Write the page of a folder of results.

    Args:
        folder: with a ledger, or with result folders.

    Returns:
        The page's path.

    Raises:
        TracksError: there is no clip in the folder.
        OutputError: the page cannot be written.
    """
    rows = ledger.read(folder / ledger.JSON)
    known = {row.folder for row in rows}
    rows += [Row("", name, ledger.DONE) for name in _results(folder) if name not in known]
    if not rows:
        raise TracksError(f"{printable(folder)}: no clip is in its summary; run the clips again")
    path = folder / PAGE
    with atomic(path) as temporary:
        cards = [_card(folder, row) for row in sorted(rows, key=lambda row: row.folder)]
        temporary.write_text(_page(folder, cards), encoding="utf-8")
    return path


def _results(folder: Path) -> Iterator[str]:
    """The names of the folders just below that have a report."""
    for path in sorted(folder.glob(f"*/{REPORT}")):
        yield path.parent.name


def _card(folder: Path, row: Row) -> _Card:
    inner = PurePosixPath(row.folder)
    path = folder / inner / REPORT
    if inner.is_absolute() or ".." in inner.parts or not path.is_file():
        return _Card(row.folder, row.status, lines=(row.message,) * bool(row.message))
    shown = _shown(path)
    verdict = shown.get("verdict")
    headline, grade = "", "unknown"
    if isinstance(verdict, dict):
        headline = str(verdict.get("headline", ""))
        grade = verdict["grade"] if verdict.get("grade") in GRADES else grade
    lines = [headline, str(shown.get("subtitle", "")), row.message]
    link = "./" + quote(os.fsencode(f"{row.folder}/{REPORT}"))
    return _Card(
        row.folder, row.status, link, _picture(shown), grade, tuple(line for line in lines if line)
    )


def _shown(path: Path) -> dict[str, Any]:
    """What a report shows, as report/content.py collected it; empty if that cannot be read."""
    try:
        if path.stat().st_size > LARGEST_REPORT:
            return {}
        found = DATA.search(path.read_bytes())
        shown = json.loads(found[1]) if found else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return shown if isinstance(shown, dict) else {}


def _picture(shown: dict[str, Any]) -> str:
    """The first of a report's pictures."""
    worst = shown.get("worst")
    first = worst[0] if isinstance(worst, list) and worst else None
    picture = first.get("picture") if isinstance(first, dict) else None
    return picture if isinstance(picture, str) and PICTURE.fullmatch(picture) else ""


def _page(folder: Path, cards: Sequence[_Card]) -> str:
    style = _file("overview.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    counts = Counter(card.status for card in cards)
    listed = ", ".join(f"{counts[status]} {status}" for status in ledger.STATUSES if counts[status])
    return Template(_file("overview.html")).substitute(
        title=_text(folder.resolve().name),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:",
        style=style,
        subtitle=_text(f"{counted(len(cards), 'clip')}: {listed}"),
        cards="\n".join(map(_html, cards)),
    )


def _file(name: str) -> str:
    return resources.files("staf_cli.batch").joinpath(name).read_text(encoding="utf-8")


def _html(card: _Card) -> str:
    """A clip's part of the page."""
    picture = f'<img src="{card.picture}" alt="">' if card.picture else '<div class="none"></div>'
    name = f"<h2>{_text(card.name)}</h2>"
    status = "" if card.status == ledger.DONE else f'<p class="status">{_text(card.status)}</p>'
    lines = "".join(f"<p>{_text(line)}</p>" for line in card.lines)
    inner = f"{picture}{name}{status}{lines}"
    if card.link:
        inner = f'<a href="{escape(card.link)}">{inner}</a>'
    return f'<li class="{card.grade}">{inner}</li>'


def _text(text: str) -> str:
    return escape(one_line(text))
