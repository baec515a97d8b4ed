"""Damaged files from end to end: a whole result or one line, and no damage passed over.

The judge is FFmpeg's plain decoding, and what it logs meanwhile, against the clip as it was
before: the same bytes always decode to the same pictures, so any other picture is damage.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import av
import av.logging
import numpy as np
import pytest
from numpy.typing import NDArray

from staf_cli import video
from tests.support import damaged_videos
from tests.support.damaged_videos import Damaged
from tests.support.staf_child import Child, Outcome

LIMIT = 60  # s for one file
CHILDREN = 2
LONGEST_STEP = 1.0  # s; docs/formats.md: after a longer one, pictures go on at once

# Damage that no decoder can find: the file is then another legal video. None has checksums.
ANOTHER_PICTURE = {
    "flip_bit",
    "flip_1_early",
    "flip_1_late",
    "flip_12",
    "flip_end",
    "zero_a_little",
}
ANY_BYTES = {"vp8.webm", "vp9.webm", "mjpeg.mkv", "picture.gif"}  # nearly all are legal pictures
SHIFTING = {
    "flip_header",
    "flip_many",
    "zero_end",
    "zero_a_fifth",
    "take_out_a_fifth",
    "swap_blocks",
}
ANOTHER_INDEX = {"all_frames_at_once", "a_frame_lasts_days", "a_sample_of_nothing"}
ENDLESS = {"h264.ts", "mpeg2.mpg"}  # do not hold their length
HARMLESS = {"none", "wrong_name", "foreign_letters"}
LEAST_REPORTED = 0.75  # of the files with lost or changed pictures


@dataclass(frozen=True)
class Seen:
    """What FFmpeg makes of a file's video when it plays it."""

    times: tuple[float | None, ...]  # s, of the pictures
    stored: tuple[float, ...]  # s, of all packets in their order, whether they decode or not
    pictures: Counter[str]
    complaints: tuple[str, ...]


@cache
def play(path: Path) -> Seen:
    """Decode a file with one thread, going on after errors."""
    times: list[float | None] = []
    stored: list[float] = []
    complaints: list[str] = []
    pictures: Counter[str] = Counter()
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as logged:
        try:
            with av.open(f"file:{path}", metadata_errors="replace") as container:
                stream = container.streams.video[0]
                stream.thread_type = "NONE"
                own = {container.format.name, stream.codec_context.name, ""}
                for frame in _all_frames(container, stream, stored, complaints):
                    times.append(frame.time)
                    pixels = frame.to_ndarray(format="rgb24")
                    pictures[hashlib.sha256(pixels.tobytes()).hexdigest()] += 1
        except (av.FFmpegError, IndexError, AttributeError) as error:
            own = set()
            complaints.append(f"not opened: {error}")
    av.logging.set_level(None)
    complaints += [f"{who}: {message.strip()}" for _, who, message in logged if who in own]
    return Seen(tuple(times), tuple(stored), pictures, tuple(complaints))


def _all_frames(
    container, stream, stored: list[float], complaints: list[str]
) -> Iterator[av.VideoFrame]:
    for _ in range(100):
        try:
            for packet in container.demux(stream):
                if packet.size:  # an empty one would end the decoder
                    if packet.dts is not None:
                        stored.append(float(packet.dts * packet.time_base))
                    yield from _decoded(stream, packet, complaints)
            break
        except av.FFmpegError as error:
            complaints.append(str(error))
    yield from _decoded(stream, None, complaints)


def _decoded(stream, packet, complaints: list[str]) -> list[av.VideoFrame]:
    try:
        return list(stream.codec_context.decode(packet))
    except av.FFmpegError as error:
        complaints.append(str(error))
        return []


def run_all(files: Iterable[Damaged], output: Path, children: int) -> list[tuple[Damaged, Outcome]]:
    """Every file through `staf run`, a folder for each."""
    idle: SimpleQueue[Child] = SimpleQueue()
    pool = [Child() for _ in range(children)]
    for child in pool:
        idle.put(child)

    def run(numbered: tuple[int, Damaged]) -> tuple[Damaged, Outcome]:
        number, one = numbered
        child = idle.get()
        try:
            place = output / str(number)
            return one, child.run("run", one.path, "-o", place, "--no-refine", limit=LIMIT)
        finally:
            idle.put(child)

    with ThreadPoolExecutor(children) as threads:
        done = list(threads.map(run, enumerate(files)))
    for child in pool:
        child.close()
    return done


def faults(one: Damaged, outcome: Outcome, output: Path) -> Iterator[str]:
    """What is wrong with an answer, whatever the file."""
    if outcome.code is None:
        yield f"the process ended: {outcome.err} after {outcome.seconds:.0f} s"
        return
    lines = outcome.err.splitlines()
    if outcome.code not in (0, 1, 3):
        yield f"exit code {outcome.code}: {outcome.err}"
    if "Traceback" in outcome.out + outcome.err or "unforeseen" in outcome.err:
        yield f"a traceback: {outcome.err}"
    if not all(line.isprintable() for line in (*lines, *outcome.out.split("\n"))):
        yield f"control characters: {outcome.out!r} {outcome.err!r}"
    begins = {0: [], 1: ["error: "], 3: ["warning: the video is damaged"]}.get(outcome.code, [])
    if len(lines) != len(begins) or not all(map(str.startswith, lines, begins)):
        yield f"exit code {outcome.code} with these lines: {outcome.err!r}"
    results = sorted(path.name for path in output.rglob("*") if path.is_file())
    if outcome.code == 1 and results:
        yield f"failed, and left {results}"
    if outcome.code in (0, 3):
        overlay = "overlay.png" if one.path.name in ("photo.png", "photo.jpg") else "overlay.mp4"
        whole = {overlay, "person_1.npz", "run.json", "tracks.csv"}
        if not whole <= set(results) or any(name.startswith(".") for name in results):
            yield f"left {results}"
        else:
            yield from _wrong_frames(one, outcome, next(output.rglob("run.json")))


def _wrong_frames(one: Damaged, outcome: Outcome, path: Path) -> Iterator[str]:
    """Every frame that plays is in the overlay, at its time; and the damage is counted."""
    record = json.loads(path.read_text())
    if bool(record["damage"]["packets"] + record["damage"]["missing"]) != (outcome.code == 3):
        yield f"exit code {outcome.code}, damage {record['damage']}"
    seen, shown = play(one.path), play(next(path.parent.glob("overlay.*")))
    if not record["frames"] == len(seen.times) == len(shown.times):
        yield (
            f"{len(seen.times)} frames play, run.json has {record['frames']}, "
            f"the overlay {len(shown.times)}"
        )
    elif _ascends(seen.times) and _ascends(seen.stored):
        moved = np.abs(_steps(seen.times) - _steps(shown.times))
        if (moved > 1e-3).any():
            yield f"times moved: {seen.times} became {shown.times}"


def _ascends(times: tuple[float | None, ...]) -> bool:
    """Whether the times are such that none has to be corrected."""
    return None not in times and bool(((_steps(times) > 0) & (_steps(times) < LONGEST_STEP)).all())


def _steps(times: tuple[float | None, ...]) -> NDArray[np.float64]:
    return np.diff(np.array(times, np.float64))


def is_harmed(one: Damaged) -> bool:
    """Whether pictures of the clip are missing, or are not as they were."""
    if one.sound is None:
        return False
    before, after = play(one.sound).pictures, play(one.path).pictures
    return bool(before - after) or not after.keys() <= before.keys()


def is_damaged(one: Damaged) -> bool:
    return is_harmed(one) or (one.sound is not None and bool(play(one.path).complaints))


def can_be_found(one: Damaged) -> bool:
    """Whether damage of this sort leaves a trace; what FFmpeg complains of nearly always does."""
    if one.harm.startswith("drop_"):  # a decoder may complain, and still make every picture
        return False
    if play(one.path).complaints:
        return True
    name = one.sound.name if one.sound else ""
    silent = (
        one.harm in ANOTHER_PICTURE | ANOTHER_INDEX
        or (name in ANY_BYTES and one.harm in SHIFTING)
        or (name in ENDLESS and one.harm.startswith("cut_to_"))
        or (name, one.harm) == ("mpeg4.avi", "zero_end")  # the index went with the frames
        or (name, one.harm) == ("flv1.flv", "flip_header")  # a time, and legal pictures
    )
    return not silent


def check(files: list[Damaged], folder: Path, children: int) -> list[tuple[Damaged, Outcome]]:
    done = run_all(files, folder, children)
    wrong = []
    for number, (one, outcome) in enumerate(done):
        found = list(faults(one, outcome, folder / str(number)))
        if outcome.code == 0 and is_damaged(one) and can_be_found(one):
            found.append(f"damage passed over: {play(one.path).complaints or 'other pictures'}")
        if one.harm in HARMLESS and outcome.code != 0:
            found.append(f"nothing is damaged: {outcome.err}")
        wrong += [f"{one.path.name!a}: {fault}" for fault in found]
    assert not wrong, "\n" + "\n".join(wrong)
    return done


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        (
            "h264_index_first.mp4",
            "flip_end",
        ),  # the last pictures, which decoders with threads let pass
        ("h264.mkv", "take_out_a_little"),  # the container is picked up again further on
        ("vp9.webm", "cut_last_byte"),
        ("h264.flv", "zero_end"),
        ("picture.gif", "cut_to_60"),  # no trailer
        ("mpeg4.avi", "cut_to_95"),  # shorter than in its header
        ("h264.ts", "cut_to_40"),  # within a packet
        ("h264.mp4", "fewer_samples"),
    ],
)
def test_damage_that_plays_without_a_failure_is_found(tmp_path, name, harm):
    kind = next(kind for kind in damaged_videos.KINDS if kind.name == name)
    harms = damaged_videos.HARMS | damaged_videos.LIES.get(name, {})
    sound, harmed = damaged_videos.harmed(tmp_path, kind, {harm: harms[harm]})
    assert not video.inspect(video.probe(sound.path))
    clip = video.probe(harmed.path)
    assert video.inspect(clip)
    assert sum(1 for _ in video.frames(clip, video.inspect(clip))) == len(play(clip.path).times)


def test_pictures_before_the_first_key_picture_are_damaged(tmp_path):
    sound = damaged_videos.sound_clip(tmp_path, damaged_videos.KINDS[0])
    torn = damaged_videos.copy_packets(sound, tmp_path / "torn.mp4", frozenset({0}))
    clip = video.probe(torn)
    found = video.inspect(clip)
    assert found.packets == 7  # up to the next key picture, the ninth
    assert sum(1 for _ in video.frames(clip, found)) == damaged_videos.FRAMES - 8


def test_some_damaged_files(tmp_path):
    kinds = {kind.name: kind for kind in damaged_videos.KINDS}
    some = ("cut_to_60", "flip_12", "flip_header", "zero_a_fifth", "garbage_behind")
    harms = {name: damaged_videos.HARMS[name] for name in some}
    source = tmp_path / "in"
    source.mkdir()
    files = [
        one
        for name in ("h264_index_first.mp4", "h264.mkv")
        for one in damaged_videos.harmed(source, kinds[name], harms)
    ]
    clip = (source / "h264.mkv").read_bytes()
    files += [Damaged(path, "no_video", None) for path in damaged_videos.other_files(source, clip)]
    done = check(files, tmp_path / "out", 1)
    assert Counter(outcome.code for _, outcome in done).keys() == {0, 1, 3}


@pytest.mark.full
def test_all_damaged_files(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    files = list(damaged_videos.corpus(source))
    assert len(files) >= 300 and len({one.path for one in files}) == len(files)
    done = check(files, tmp_path / "out", CHILDREN)
    harmed = [(one, outcome) for one, outcome in done if is_harmed(one)]
    reported = [one for one, outcome in harmed if outcome.code != 0]
    codes = Counter(outcome.code for _, outcome in done)
    slowest = max(outcome.seconds for _, outcome in done)
    print(
        f"\n{len(files)} files, exit codes {dict(codes)}, slowest {slowest:.1f} s; "
        f"{len(harmed)} with lost or changed pictures, {len(reported)} of them reported"
    )
    assert len(reported) >= LEAST_REPORTED * len(harmed)
