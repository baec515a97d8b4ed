"""The report's page, assembled from its parts; no other code can run in it.

Everything that comes from outside the project, names of files above all, is put in as JSON that
is never read as HTML, or is escaped. A policy in the page itself allows by hash the scripts that
may run, and forbids to load anything but videos from where the page is: the overlay beside it, and
the video that it was made of.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

from staf_cli.report.three import library

SCRIPTS = (
    "clock.js",
    "original.js",
    "space.js",
    "charts.js",
    "page.js",
)  # in this order, after three.js


def assemble(shown: dict[str, Any]) -> str:
    """Assemble the whole page.

    Args:
        shown: what content.py collects, without NaN.

    Returns:
        HTML.
    """
    style = _file("page.css")
    scripts = [library(), *map(_file, SCRIPTS)]
    return Template(_file("page.html")).substitute(
        title=html.escape(f"{shown['title']} - staf"),
        policy=_policy(style, scripts),
        style=f"<style>{style}</style>",
        data=_inert(json.dumps(shown, separators=(",", ":"), allow_nan=False)),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _file(name: str) -> str:
    return resources.files("staf_cli.report").joinpath(name).read_text(encoding="utf-8")


def _inert(text: str) -> str:
    """JSON that ends no script element and begins no comment in one, whatever its strings are."""
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; "
        "img-src data: 'self' file:; media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
