"""The colours of people, the same in every picture and file: one for each id."""

# At least 18 apart in CIELAB, and the first four 26, also for colour-blind viewers of any kind.
PALETTE = (
    (51, 151, 229),  # blue
    (226, 147, 65),  # orange
    (61, 228, 177),  # mint
    (185, 131, 173),  # mauve
    (244, 216, 93),  # yellow
    (129, 92, 173),  # violet
    (150, 213, 237),  # sky
    (194, 82, 60),  # brick
)


def person_colour(person: int) -> tuple[int, int, int]:
    """Return the RGB colour, 0 to 255, of a person's id: the same in every clip and view."""
    return PALETTE[(person - 1) % len(PALETTE)]
