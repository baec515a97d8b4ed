"""Makes whole pictures of interlaced ones, whose two fields show two moments, by FFmpeg's bwdif."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import av
import av.filter

# A picture for each picture, of the moment of its first field; progressive ones are left alone.
BWDIF = "mode=send_frame:parity=auto:deint=interlaced"


def deinterlaced(pictures: Iterable[Any]) -> Iterator[Any]:
    """Deinterlace the pictures that are flagged as interlaced.

    A picture depends on the one before and the one after it, and on no other.

    Args:
        pictures: PyAV's, in presentation order.

    Yields:
        As many pictures with the same times; each only once the next one is known.
    """
    bwdif: _Bwdif | None = None
    before = None
    for picture in pictures:
        if bwdif is not None and not bwdif.takes(picture):
            yield from bwdif.finish()
            bwdif = before = None
        if bwdif is None and picture.interlaced_frame:
            bwdif = _Bwdif(picture)
            if before is not None and bwdif.takes(before):
                bwdif.push(before, wanted=False)
        if bwdif is None:
            yield picture
        else:
            yield from bwdif.push(picture)
        before = picture
    if bwdif is not None:
        yield from bwdif.finish()


class _Bwdif:
    """FFmpeg's filter, for pictures of one size and format."""

    def __init__(self, picture: Any) -> None:
        self._layout = (picture.width, picture.height, picture.format.name)
        self._times: deque[tuple[int | None, bool]] = deque()  # and whether it is wanted
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=picture.width,
            height=picture.height,
            format=picture.format,
            time_base=picture.time_base,
        )
        bwdif, sink = self._graph.add("bwdif", BWDIF), self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()

    def takes(self, picture: Any) -> bool:
        """Whether a picture has the size and format of the others."""
        return (picture.width, picture.height, picture.format.name) == self._layout

    def push(self, picture: Any, wanted: bool = True) -> list[Any]:
        """Add a picture and return those that are complete."""
        self._times.append((picture.pts, wanted))
        self._graph.push(picture)
        return self._complete()

    def finish(self) -> list[Any]:
        """Return the pictures that waited for a next one."""
        self._graph.push(None)
        return self._complete()

    def _complete(self) -> list[Any]:
        made: list[Any] = []
        while True:
            try:
                picture: Any = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return made
            picture.pts, wanted = self._times.popleft()  # the filter has a clock of its own
            if wanted:
                made.append(picture)
