"""What users should know of how their video is read, in lines."""

from collections.abc import Iterator

from staf_cli.core.records import Clip
from staf_cli.video.damage import Damage
from staf_cli.video.sequence import listed, missing_names, numbers_left_aside
from staf_cli.video.timeline import ANY_TIME


def remarks(clip: Clip, damage: Damage) -> list[str]:
    """Say where a clip is not read just as its file has it.

    Args:
        clip: From `probe`.
        damage: From `inspect`.

    Returns:
        Lines for the user; none for most clips.
    """
    lines = []
    if jumps := _count_jumps(clip):
        places = "one place" if jumps == 1 else f"{jumps} places"
        lines.append(
            f"the video's times jump in {places}, as in joined recordings; "
            "there they go on at the frame rate"
        )
    if damage.interlaced and clip.deinterlace:
        lines.append("the video is interlaced: deinterlaced; --no-deinterlace leaves it as it is")
    elif damage.interlaced:
        lines.append("the video is interlaced and left so: moving edges are combed")
    if clip.hdr is not None:
        lines.append(
            f"the video is HDR ({clip.hdr.curve}, up to {clip.hdr.peak:.0f} cd/m2): "
            "shown and worked on as SDR (BT.709)"
        )
    if clip.path.is_dir():
        lines += _of_folder(clip, damage)
    return lines


def _of_folder(clip: Clip, damage: Damage) -> Iterator[str]:
    """Lines about the pictures of a folder that are not there, or not all there."""
    if names := missing_names(clip):
        yield f"the numbers of the pictures have gaps, which are gaps in time: {listed(names)}"
    if aside := numbers_left_aside(clip):
        yield (
            "the numbers of the pictures have too many gaps to be times: "
            f"{aside} are shown one after another"
        )
    if damage.pictures:
        yield f"pictures that cannot be read in full: {listed(damage.pictures)}"


def _count_jumps(clip: Clip) -> int:
    """Count the jumps of the pictures, which come first; one that moves all of them is none."""
    return sum(
        jump.stream == clip.jumps[0].stream and (jump.packet, jump.time) != (0, ANY_TIME)
        for jump in clip.jumps
    )
