"""Draw docs/model_card.jpg, the model card's picture, from the overlay that `make demo` made.

python -m tools.draw_card out/example/overlay.mp4
"""

import sys
from pathlib import Path

from PIL import Image

from staf_cli import video

MOMENTS = (2.2, 4.2, 6.0, 6.6)  # s of the clip
WIDTH, HEIGHT = 450, 253  # px of each
SHAPE = 16 / 9  # of the clip; what is beside it is the side view


def main() -> None:
    clip = video.probe(Path(sys.argv[1]))
    places = {round(moment * clip.fps): number for number, moment in enumerate(MOMENTS)}
    card = Image.new("RGB", (WIDTH * len(MOMENTS), HEIGHT))
    for frame in video.frames(clip, video.Damage()):
        if frame.index in places:
            picture = Image.fromarray(frame.image[:, : round(SHAPE * clip.height)])
            small = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
            card.paste(small, (WIDTH * places[frame.index], 0))
    card.save(Path(__file__).parent.parent / "docs" / "model_card.jpg", quality=85)


if __name__ == "__main__":
    main()
