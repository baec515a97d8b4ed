"""Names of files, folders and formats."""

import re
from pathlib import Path

from tests.support.untrusted.attacks import ATTACKS, Arguments, Attack, attack
from tests.support.untrusted.videos import played

NAMES = {
    "clears": "\x1b[2J\x1b]0;title\x07.mp4",
    "lines": "a\nerror: b\r\n.mp4",
    "backwards": "\u202egpj.\u2066x.mp4",
    "bytes": "\udcff\udc9b31m.mp4",
    "markup": "[red]x[link=file:x]y.mp4",
    "emoji": ":smile:.mp4",
    "protocol": "concat:a|b.mp4",
    "address": "http:..127.0.0.1.mp4",
    "pattern": "%s%n{0}%(x)s.mp4",
}


def named(kind: str) -> Attack:
    name = NAMES[kind]

    def make(folder: Path) -> Arguments:
        return played(folder, name, "no video")

    make.__name__ = f"name_with_{kind}"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return Attack(make, re.escape(f"{shown}: not a video"))


ATTACKS += [named(kind) for kind in NAMES]


@attack("no finished result")
def folder_with_a_name_for_the_terminal(folder):
    path = folder / "\x1b[2J\n[b]"
    path.mkdir()
    return ["export", path]


@attack("unknown format", code=2)
def export_to_a_format_that_climbs_out(folder):
    return ["export", folder, "--format", "../../x\x1b[2J"]
