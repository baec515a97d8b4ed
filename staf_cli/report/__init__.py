"""report.html: what a person looks at after a run; one page a clip that needs no network.

page.html page.css *.js   the page, as it is read; no build step
page.py                   the page put together, safely
content.py                all that it shows, as plain data
bodies.py                 the people for the 3D view
pictures.py curves.py     frames of the overlay; curves of bounded size
three.py                  three.js out of an installed package
measures.py quality.py    what is measured; the verdict in words
"""

from collections.abc import Sequence
from pathlib import Path

from staf_cli.body.skinning import Body
from staf_cli.core.errors import TracksError
from staf_cli.core.files import atomic
from staf_cli.core.records import Track
from staf_cli.report.content import gather
from staf_cli.report.page import assemble
from staf_cli.result.folder import REPORT
from staf_cli.result.run_record import RunRecord

FILES = REPORT


def write(
    folder: Path,
    tracks: Sequence[Track],
    frames: range,
    body: Body,
    overlay: Path,
    record: RunRecord,
) -> Path:
    """Write the page of a result folder from the files in it.

    Memory and the page's size do not grow with the clip, but for a few numbers for each frame
    and person.

    Args:
        folder: of the clip's results.
        tracks: of the people.
        frames: the indices of the clip's frames, also of those without people.
        body: the people's.
        overlay: the clip's overlay, in the folder.
        record: what run.json holds, or will hold.

    Returns:
        The page's path.

    Raises:
        TracksError: a person's file does not fit its track.
        VideoError: the overlay cannot be read.
        OutputError: the page cannot be written.
    """
    shown = gather(folder, tracks, frames, body, overlay, record)
    path = folder / FILES
    with atomic(path) as temporary:
        temporary.write_text(assemble(shown), encoding="utf-8")
    return path


def locate(folder: Path) -> Path:
    """Find the page of a result folder.

    Args:
        folder: of the clip's results.

    Returns:
        The page's path.

    Raises:
        TracksError: there is none.
    """
    path = folder / FILES
    if not path.is_file():
        raise TracksError(f"{path}: no such report; give the folder that staf run made")
    return path
