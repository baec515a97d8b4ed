"""Frames of a clip in reversed order, for which pieces of it are decoded forwards."""

from collections.abc import Iterator
from dataclasses import replace

from staf_cli.core.records import Clip, Float, Frame
from staf_cli.core.span import Span
from staf_cli.video.container import first_picture, open_container, video_stream
from staf_cli.video.damage import Damage
from staf_cli.video.reading import frames
from staf_cli.video.seeking import find_entry

LARGEST_PIECE = 128_000_000  # bytes of the frames that are held
SHORT = 500  # frames: so many may be decoded for each piece


def frames_before(clip: Clip, damage: Damage, times: Float, end: int) -> Iterator[Frame]:
    """Decode frames of a clip, the last one first.

    A few are held at a time. Each piece of them is decoded from the last key frame before it; in
    files that cannot be entered there from the beginning, so that long ones cost too much.

    Args:
        clip: From `probe`.
        damage: From `inspect`.
        times: (T,) s, of all frames of the clip.
        end: How many of them are wanted, those before this one.

    Yields:
        The same frames as `frames`, in reversed order; none where that would cost too much.

    Raises:
        VideoError: The file can no longer be opened.
    """
    if end > SHORT and not _can_enter(clip, damage, times):
        return
    held = max(1, LARGEST_PIECE // (3 * clip.width * clip.height))
    while end > 0:
        first = max(0, end - held)
        last = clip.span.end if end == len(times) else float(times[end])
        piece = list(frames(replace(clip, span=Span(float(times[first]), last)), damage))
        while piece:
            yield piece.pop()
        end = first


def _can_enter(clip: Clip, damage: Damage, times: Float) -> bool:
    """Whether decoding may begin at any key frame of the clip."""
    if clip.path.is_dir() or damage:
        return not damage
    span = Span(float(times[-1]), clip.span.end)
    with open_container(clip.path) as container:
        picture = first_picture(container, video_stream(container, clip.path), clip.path)
        return find_entry(replace(clip, span=span), picture) is not None
