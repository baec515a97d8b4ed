"""What the tracker saw of a person, in her colour: box, id and keypoints."""

import cv2
import numpy as np

from staf_cli.core.records import Float, Image
from staf_cli.rendering.lines import draw_dots, draw_lines
from staf_cli.rendering.shading import person_colour

# Pairs of COCO keypoints (records.COCO_KEYPOINTS) that a bone joins.
BONES = (
    (5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4),
)  # fmt: skip
CONFIDENT = 0.3  # keypoints below are not drawn
PIXELS_PER_THICKNESS = 360  # lines grow with the image
INK, PAPER = (24, 24, 24), (255, 255, 255)


def draw_keypoints(image: Image, person: int, kp2d: Float) -> None:
    """Draw COCO keypoints (17, 3), x, y px and confidence, into an image (H, W, 3)."""
    thickness = _thickness(image)
    sure = kp2d[:, 2] >= CONFIDENT
    bones = np.array([bone for bone in BONES if sure[list(bone)].all()], int).reshape(-1, 2)
    draw_lines(image, kp2d[bones, :2], PAPER, thickness)
    draw_dots(image, kp2d[sure, :2], 2.5 * thickness, PAPER)
    draw_dots(image, kp2d[sure, :2], 1.5 * thickness, person_colour(person))


def draw_box(image: Image, person: int, box: Float, name: str = "") -> None:
    """Draw a box (4,), x1, y1, x2, y2 px, with the person's id on it, into an image (H, W, 3).

    A name stands in the id's place, if OpenCV's letters can spell it.
    """
    thickness, colour = _thickness(image), person_colour(person)
    left, top, right, bottom = box
    outline = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    draw_lines(image, np.array([outline]), colour, thickness)

    label = name if name and name.isascii() else str(person)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thickness
    (width, height), below = cv2.getTextSize(label, font, scale, thickness)
    pad = 3 * thickness
    # The tab stands on the box, or hangs into it where the box reaches the top of the image.
    tab = height + below + 2 * pad
    x, y = int(left), max(int(top), tab)
    cv2.rectangle(image, (x, y - tab), (x + width + 2 * pad, y), colour, cv2.FILLED)
    place = (x + pad, y - pad - below)
    cv2.putText(image, label, place, font, scale, INK, thickness, cv2.LINE_AA)


def _thickness(image: Image) -> int:
    return int(max(1, round(min(image.shape[:2]) / PIXELS_PER_THICKNESS)))
