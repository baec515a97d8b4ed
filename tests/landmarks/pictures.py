"""Pictures of a drawn person, the same on every machine; they need nothing but NumPy."""

import numpy as np

PICTURES = ((0, 0.0), (1, 0.4))  # seed, turn in rad
LIMBS = (  # ends x, y, radius: px of a picture of 256 x 256
    ((128, 96), (128, 140), 24, (190, 60, 50)),  # trunk
    ((118, 144), (106, 190), 12, (40, 60, 130)),  # legs
    ((106, 190), (104, 234), 9, (40, 60, 130)),
    ((138, 144), (152, 188), 12, (40, 60, 130)),
    ((152, 188), (156, 232), 9, (40, 60, 130)),
    ((104, 86), (84, 124), 8, (190, 60, 50)),  # arms
    ((84, 124), (70, 158), 6, (215, 170, 140)),
    ((152, 86), (176, 116), 8, (190, 60, 50)),
    ((176, 116), (192, 82), 6, (215, 170, 140)),
    ((128, 60), (128, 70), 8, (215, 170, 140)),  # neck, head
    ((128, 36), (128, 46), 17, (215, 170, 140)),
    ((121, 38), (121, 39), 2, (40, 30, 30)),  # eyes
    ((135, 38), (135, 39), 2, (40, 30, 30)),
)


def drawn_person(seed: int, turn: float = 0.0) -> np.ndarray:
    """Draw a person before a noisy background.

    Args:
        seed: Of the noise.
        turn: Clockwise about the middle of the picture, rad.

    Returns:
        (256, 256, 3) RGB uint8.
    """
    noise = np.random.default_rng(seed).integers(70, 130, (256, 256, 3)).astype(float)
    rows, columns = np.mgrid[:256, :256] + 0.5 - 128
    c, s = np.cos(turn), np.sin(turn)
    points = np.stack([c * columns + s * rows, c * rows - s * columns], -1) + 128
    for begin, end, radius, colour in LIMBS:
        along = np.subtract(end, begin)
        share = ((points - begin) @ along / (along @ along)).clip(0, 1)
        distance = np.linalg.norm(points - begin - share[..., None] * along, axis=-1)
        cover = (radius + 0.5 - distance).clip(0, 1)[..., None]
        noise = noise * (1 - cover) + np.array(colour) * cover
    return np.round(noise).astype(np.uint8)
