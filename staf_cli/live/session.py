"""One live session: what comes is recorded, its newest frame is shown with its people, and so on.

Only the newest frame is worked on, so that what is shown is never older than one frame takes;
those that came meanwhile are dropped, but recorded. In the end the recording is an ordinary video,
and `staf run` makes a result folder of it.
"""

import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from staf_cli import video
from staf_cli.batch.naming import single_job
from staf_cli.batch.single import run_single
from staf_cli.core import files
from staf_cli.core.errors import MissingTool, UsageError, VideoError
from staf_cli.core.interrupts import first_only_stops
from staf_cli.core.progress import Watch
from staf_cli.core.records import Clip, Frame
from staf_cli.core.threads import newest
from staf_cli.live.pace import Pace, draw_caption
from staf_cli.live.people import follow_people, load
from staf_cli.live.window import Window, why_no_window
from staf_cli.pipeline.clip import Summary
from staf_cli.pipeline.loading import Tools, prepare
from staf_cli.pipeline.options import Options
from staf_cli.recovery.placement import default_focal
from staf_cli.rendering import Camera, Rasterizer, open_rasterizer, overlay
from staf_cli.tracking.detector import Detector
from staf_cli.video.recording import TICK

SHOWN = "live.mp4"  # in the result folder: what was shown, as it was shown

Say = Callable[[Sequence[str]], None]
Arrivals = Generator[tuple[video.Arrival, int], None, None]


@dataclass(frozen=True)
class Ending:
    """How a session ended."""

    summary: Summary | None  # of the recording's results, where it was recorded
    broke_off: VideoError | None  # why the source ended too early


def run_live(
    source: str, record: Path | None, options: Options, watch: Watch, say: Say, note: Say
) -> Ending:
    """Show the people of a live source until it ends, the window is closed, or Ctrl-C.

    Args:
        source: the name of a camera, an address, or `-` for standard input.
        record: the result folder; beside it lies the recording. None: only shown.
        options: what to compute, live and of the recording.
        watch: the progress callback for the recording.
        say: gets lines on what is done.
        note: gets lines that the user should see.

    Returns:
        How it ended.

    Raises:
        UsageError: the source is none, or the recording would replace something.
        MissingTool: there is no display, and nothing is recorded.
        VideoError: the source cannot be opened, or shows nothing.
        StafError: what `batch.single.run_single` raises; the recording is kept then.
        KeyboardInterrupt: a second Ctrl-C, or another signal; with a note on the recording.
    """
    video.check_source(source)
    recording = None if record is None else _recording_of(record)
    obstacle = why_no_window()
    if obstacle and record is None:
        raise MissingTool(f"{obstacle}; add --record OUT to record without a window")
    if obstacle:
        note([f"{obstacle}: no window, only a recording; Ctrl-C ends it"])
    tools, notes = prepare(options)
    note(notes)
    detector = load(tools, options)
    window = None if obstacle else Window()
    try:
        broke_off = _watch_live(source, recording, options, tools, detector, window, say)
        if recording is None:
            return Ending(None, broke_off)
        if not recording.exists():
            raise VideoError(f"{video.source_name(source)}: nothing came that could be recorded")
        summary, _ = run_single(recording, recording.parent, options, watch, note, tools)
    except KeyboardInterrupt as stop:
        if recording is not None and recording.exists():
            stop.add_note(f"what came is recorded: `{_command(recording)}` goes on")
        raise
    return Ending(summary, broke_off)


def _recording_of(record: Path) -> Path:
    """The file of the recording, from which `staf run` makes this result folder."""
    recording = record.with_name(record.name + video.RECORDING_SUFFIX)
    folder = single_job(recording, record.parent).folder
    for path in (recording, folder):
        if path.is_file() or path.is_symlink() or (path.is_dir() and any(path.iterdir())):
            raise UsageError(
                f"{files.printable(path)}: exists already; choose another --record "
                f"(of a recording `{_command(recording)}` makes the results)"
            )
    files.check_writable(folder)
    return recording


def _command(recording: Path) -> str:
    """What makes the results of a recording, or goes on with them."""
    return shlex.join(["staf", "run", str(recording), "-o", str(recording.parent)])


def _watch_live(
    source: str,
    recording: Path | None,
    options: Options,
    tools: Tools,
    detector: Detector,
    window: Window | None,
    say: Say,
) -> VideoError | None:
    """Show and record until the end; returns why the source broke off, None where it did not.

    Args:
        source: of the pictures.
        recording: the file for what comes; None: without.
        options: of the live view.
        tools: network and body.
        detector: from `people.load`.
        window: where it is shown; None: nowhere.
        say: gets lines on how it kept up.

    Returns:
        The error of a source that broke off after its first frame.

    Raises:
        VideoError: the source cannot be opened, or shows nothing.
    """
    pace, errors = Pace(), list[VideoError]()
    with ExitStack() as stack:
        asked = stack.enter_context(first_only_stops())
        tape = stack.enter_context(video.recorded(recording)) if recording else None
        rasterizer = stack.enter_context(open_rasterizer(options.look.renderer))
        if window:
            stack.callback(window.close)

        def stopped() -> bool:
            return asked.is_set() or bool(window and window.is_closed())

        arrivals = stack.enter_context(closing(newest(video.live_pictures(source, tape), stopped)))
        first = next(arrivals, None)
        if first is not None:
            name, arrival = Path(video.source_name(source)), first[0]
            clip = Clip(name, *arrival.size, arrival.fps, TICK, None, has_audio=False)
            frames = _drawn(
                _until_break(first, arrivals, errors),
                clip,
                options,
                tools,
                detector,
                rasterizer,
                pace,
            )
            shown = _shown(frames, window)
            if recording:
                folder = single_job(recording, recording.parent).folder
                video.write(folder / SHOWN, clip, shown)
            else:
                for _ in shown:
                    pass
    recorded = [f"recorded: {recording}"] if recording and recording.exists() else []
    say([f"live: {pace.summary()}", *recorded])
    return errors[0] if errors else None


def _until_break(
    first: tuple[video.Arrival, int], arrivals: Arrivals, errors: list[VideoError]
) -> Iterator[tuple[video.Arrival, int]]:
    """All arrivals; where the source breaks off they end, and the error is kept."""
    yield first
    try:
        yield from arrivals
    except VideoError as error:
        errors.append(error)


def _drawn(
    arrivals: Iterator[tuple[video.Arrival, int]],
    clip: Clip,
    options: Options,
    tools: Tools,
    detector: Detector,
    rasterizer: Rasterizer,
    pace: Pace,
) -> Iterator[Frame]:
    """Each frame that is worked on, with its people, and in the corner how it keeps up."""
    faces = tools.body.faces.astype(np.int32)
    style = options.look.style(tools.body.arrays, None)
    focal = options.recovery.focal or default_focal(clip.image_size)
    camera = Camera.centred(focal, clip.image_size)
    newest_one: list[tuple[float, int]] = []

    def frames() -> Iterator[Frame]:
        index, start, last = 0, None, -1
        for arrival, dropped in arrivals:
            image = arrival.image()
            index += 1 + dropped
            if image is None:
                continue
            start = arrival.arrived if start is None else start
            last = max(last + 1, round((arrival.arrived - start) / TICK))
            newest_one[:] = [(arrival.arrived, dropped)]
            yield Frame(index - 1, last, float(last * TICK), image)

    for frame, figures in follow_people(frames(), clip, tools, detector, options):
        image = overlay(frame.image, figures, faces, camera, rasterizer, style)
        pace.add(*newest_one[0])
        draw_caption(image, pace.now())
        yield Frame(frame.index, frame.pts, frame.time, image)


def _shown(frames: Iterator[Frame], window: Window | None) -> Iterator[Frame]:
    """Pass frames on, each shown in the window."""
    for frame in frames:
        if window:
            window.show(frame.image)
        yield frame
