"""Draw docs/network.png: the network of docs/how-it-works.md, from crops to a body.

    .venv/bin/python tools/draw_network.py

The names in the boxes are those of staf_cli/model; phi and Theta are the paper's symbols.
"""

from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from staf_cli.core.files import atomic

FRAME, WINDOW = "#d6e6f5", "#fbe3cc"  # colours of what is computed per frame, per window
INK = "#222222"
WIDTH, HEIGHT = 1.56, 0.62
APART, APART_ROWS = 1.9, 1.1  # distances of columns and of rows

# name: (column, row, colour, text)
BOXES = {
    "crop": (0, 2, FRAME, "crop\n224 x 224"),
    "phi0": (1, 2, FRAME, r"encoder" "\n" r"$\phi_0$  7 x 7"),
    "phi1": (2, 2, FRAME, r"deconvolution 1" "\n" r"$\phi_1$  14 x 14"),
    "phi2": (4, 2, FRAME, r"deconvolution 2" "\n" r"$\phi_2$  28 x 28"),
    "tcfm": (2, 1, WINDOW, "sample on a grid\n21 x 21, TCFM"),
    "theta1": (3, 1, WINDOW, r"regressor" "\n" r"$\Theta_1$ of all nine"),
    "safm": (4, 1, WINDOW, r"sample on the mesh" "\n" r"of $\Theta_1$, SAFM"),
    "theta2": (5, 1, WINDOW, r"regressor" "\n" r"$\Theta_2$ of the middle"),
    "mesh": (6, 1, WINDOW, r"sample on the mesh" "\n" r"of $\Theta_2$"),
    "theta3": (7, 1, WINDOW, r"regressor" "\n" r"$\Theta_3$: the result"),
    "apm": (1, 0, WINDOW, "APM: mean\nof nine"),
    "target1": (2, 0, WINDOW, r"the middle's" "\n" r"$\phi_1$  14 x 14"),
    "target2": (4, 0, WINDOW, r"the middle's" "\n" r"$\phi_2$  28 x 28"),
    "target3": (6, 0, WINDOW, r"the middle's" "\n" r"$\phi_3$  56 x 56"),
}
# Arrows between boxes, by direction.
ALONG = (
    *(("crop", "phi0"), ("phi0", "phi1"), ("phi1", "phi2")),
    *(("tcfm", "theta1"), ("theta1", "safm"), ("safm", "theta2"), ("theta2", "mesh")),
    *(("mesh", "theta3"), ("apm", "target1"), ("target1", "target2"), ("target2", "target3")),
)
DOWN = (("phi0", "apm"), ("phi1", "tcfm"), ("phi2", "safm"))
UP = (("target1", "tcfm"), ("target2", "safm"), ("target3", "mesh"))


def main() -> None:
    """Draw the network and write docs/network.png."""
    sheet = Figure(figsize=(13.5, 3.6), layout="constrained")
    axes = sheet.subplots()
    for name in BOXES:
        _box(axes, name)
    for first, second in ALONG:
        _arrow(axes, first, second, (WIDTH / 2, 0))
    for first, second in DOWN:
        _arrow(axes, first, second, (0, -HEIGHT / 2))
    for first, second in UP:
        _arrow(axes, first, second, (0, HEIGHT / 2))
    for column, row, colour, note in (
        (6, 2, FRAME, "once a frame, for the nine windows it is in"),
        (0, 1, WINDOW, "once a window"),
    ):
        label = {"facecolor": colour, "edgecolor": "none", "pad": 5}
        axes.text(column * APART, row * APART_ROWS, note, ha="center", va="center", bbox=label)
    axes.set(
        xlim=(-WIDTH / 2 - 0.1, 7 * APART + WIDTH / 2 + 0.1), ylim=(-0.45, 2 * APART_ROWS + 0.45)
    )
    axes.set_aspect("equal")
    axes.set_axis_off()
    drawn = BytesIO()
    sheet.savefig(drawn, format="png", dpi=100, facecolor="white")
    with atomic(Path(__file__).parent.parent / "docs" / "network.png") as temporary:
        Image.open(drawn).convert("RGB").quantize(64).save(temporary, optimize=True)


def _place(name: str) -> tuple[float, float]:
    """Return the middle of a box."""
    column, row, *_ = BOXES[name]
    return column * APART, row * APART_ROWS


def _box(axes: Axes, name: str) -> None:
    """Draw a box with its text."""
    x, y = _place(name)
    *_, colour, text = BOXES[name]
    corner = (x - WIDTH / 2, y - HEIGHT / 2)
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, style, fc=colour, ec=INK, lw=0.8))
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5, color=INK)


def _arrow(axes: Axes, first: str, second: str, way: tuple[float, float]) -> None:
    """Draw an arrow from one box's side to the opposite side of another."""
    (x, y), (u, v), (dx, dy) = _place(first), _place(second), way
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (u - dx, v - dy), (x + dx, y + dy), arrowprops=style)


if __name__ == "__main__":
    main()
