"""Compare the speed of two versions of staf on one clip, in turns.

    python -m tools.compare_speed OLD NEW VIDEO [ROUNDS]

OLD and NEW are `staf` executables, of two environments. Prints the medians of every pass, and their
ratios. Let nothing else run meanwhile: on few cores another program costs far more than its share.
"""

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

WHOLE = "whole"


def run_once(staf: str, video: Path) -> dict[str, float]:
    """Run a version on a clip.

    Args:
        staf: the command.
        video: the clip.

    Returns:
        Seconds of each pass, and of the whole command.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [*shlex.split(staf), "run", str(video), "--output", folder, "--quiet"]
        subprocess.run(command, check=True)
        whole = time.perf_counter() - start
        (record,) = Path(folder).glob("*/run.json")
        seconds: dict[str, float] = json.loads(record.read_text())["seconds"]
    return {**seconds, WHOLE: whole}


def table(old: Sequence[dict[str, float]], new: Sequence[dict[str, float]]) -> list[str]:
    """Write the medians of both, and new over old.

    Args:
        old: seconds by pass of every round.
        new: the same.

    Returns:
        Lines.
    """
    lines = [f"{'':8} {'old s':>7} {'new s':>7} {'new/old':>7}"]
    for name in new[0]:
        before, after = (
            statistics.median(one[name] for one in rounds if name in one)
            if any(name in one for one in rounds)
            else 0.0
            for rounds in (old, new)
        )
        ratio = f"{after / before:7.2f}" if before else "      -"
        lines.append(f"{name:8} {before:7.1f} {after:7.1f} {ratio}")
    return lines


def main(old: str, new: str, video: str, rounds: str = "3") -> None:
    """Run both in turns and print the table.

    Args:
        old: a `staf` command.
        new: another.
        video: the clip.
        rounds: how often each runs.
    """
    times: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(int(rounds)):
        for own, staf in zip(times, (old, new), strict=True):
            own.append(run_once(staf, Path(video)))
    print("\n".join(table(*times)))


if __name__ == "__main__":
    main(*sys.argv[1:])
