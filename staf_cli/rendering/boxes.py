"""What the tracker saw of a person, in the person's colour: box, id and keypoints."""

import cv2
import numpy as np

from staf_cli.core.palette import person_colour
from staf_cli.core.records import Float, Image
from staf_cli.rendering.lines import draw_dots, draw_lines

# Pairs of COCO keypoints (records.COCO_KEYPOINTS) that a line connects.
BONES = (
    (5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12),
    (11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4),
)  # fmt: skip
MIN_CONFIDENCE = 0.3  # keypoints below are not drawn
PIXELS_PER_THICKNESS = 360  # of the image's shorter side, for each pixel of a line's thickness
TEXT_COLOUR, BONE_COLOUR = (24, 24, 24), (255, 255, 255)


def draw_keypoints(image: Image, person: int, kp2d: Float) -> None:
    """Draw a person's COCO keypoints into an image; those of low confidence are left out.

    Args:
        image: (H, W, 3) RGB uint8, changed in place.
        person: The person's id.
        kp2d: (17, 3) x, y px, confidence.
    """
    thickness = _thickness(image)
    drawn = kp2d[:, 2] >= MIN_CONFIDENCE
    bones = np.array([bone for bone in BONES if drawn[list(bone)].all()], int).reshape(-1, 2)
    draw_lines(image, kp2d[bones, :2], BONE_COLOUR, thickness)
    draw_dots(image, kp2d[drawn, :2], 2.5 * thickness, BONE_COLOUR)
    draw_dots(image, kp2d[drawn, :2], 1.5 * thickness, person_colour(person))


def draw_box(image: Image, person: int, box: Float, name: str = "") -> None:
    """Draw a person's box with a label into an image.

    Args:
        image: (H, W, 3) RGB uint8, changed in place.
        person: The person's id; the label shows it where there is no name.
        box: (4,) x1, y1, x2, y2 px.
        name: Shown instead of the id if it is ASCII, as OpenCV's font has no other letters.
    """
    thickness, colour = _thickness(image), person_colour(person)
    left, top, right, bottom = box
    outline = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    draw_lines(image, np.array([outline]), colour, thickness)

    label = name if name and name.isascii() else str(person)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thickness
    (width, height), below = cv2.getTextSize(label, font, scale, thickness)
    pad = 3 * thickness
    # The label is above the box, or inside where the box reaches the top of the image.
    label_height = height + below + 2 * pad
    x, y = int(left), max(int(top), label_height)
    cv2.rectangle(image, (x, y - label_height), (x + width + 2 * pad, y), colour, cv2.FILLED)
    baseline = (x + pad, y - pad - below)
    cv2.putText(image, label, baseline, font, scale, TEXT_COLOUR, thickness, cv2.LINE_AA)


def _thickness(image: Image) -> int:
    return int(max(1, round(min(image.shape[:2]) / PIXELS_PER_THICKNESS)))
