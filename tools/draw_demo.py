"""Draw docs/demo.webp, the README's moving picture, from the overlay that `make demo` made.

python -m tools.draw_demo out/example/overlay.mp4
"""

import sys
from pathlib import Path

from PIL import Image

from staf_cli import video
from staf_cli.core.span import Span

FIRST, LAST = 3.0, 7.4  # s of the clip
EVERY = 2  # frames: 15 pictures a second
WIDTH = 960  # px
QUALITY = 45  # of WebP, of 100


def main() -> None:
    path = Path(sys.argv[1])
    clip = video.probe(path, Span(FIRST, LAST))
    pictures = [
        Image.fromarray(frame.image).resize(
            (WIDTH, round(WIDTH * clip.height / clip.width)), Image.Resampling.LANCZOS
        )
        for frame in video.frames(clip, video.Damage())
        if frame.index % EVERY == 0
    ]
    pictures[0].save(
        Path(__file__).parent.parent / "docs" / "demo.webp",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * EVERY / clip.fps),
        loop=0,
        quality=QUALITY,
        method=6,
    )


if __name__ == "__main__":
    main()
