"""A single clip in this process, as the command line and Python run it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from staf_cli.batch.naming import single_job
from staf_cli.core.progress import Watch
from staf_cli.pipeline.clip import Summary, open_clip, run_clip
from staf_cli.pipeline.loading import Tools, prepare
from staf_cli.pipeline.options import Options
from staf_cli.result import tracks_csv


def run_single(
    video: Path,
    output: Path,
    options: Options,
    watch: Watch,
    note: Callable[[Sequence[str]], None],
    tools: Tools | None = None,
    edited: Path | None = None,
) -> tuple[Summary, Tools]:
    """Recover the people of one clip, into the folder `output`/<its name>/.

    Args:
        video: a file, or a folder of numbered pictures.
        output: gets the clip's folder.
        options: what to compute.
        watch: the progress callback.
        note: gets lines that the user should see, as they come up.
        tools: what is loaded already, with the same options.
        edited: a table of tracks corrected by hand, in place of those that would be found.

    Returns:
        What there is to print, and what the clip was computed with.

    Raises:
        StafError: what `loading.prepare`, `tracks_csv.load` and `clip.run_clip` raise.
    """
    job = single_job(video, output)
    # The likeliest mistakes are reported before the network is loaded.
    open_clip(job.video, options)
    tracks = None if edited is None else tracks_csv.load(edited)
    if tools is None:
        tools, notes = prepare(options)
        note(notes)
    summary = run_clip(job.video, job.folder, options, tools, watch, tracks)
    note(summary.notes)
    return summary, tools
