"""The paper's Figures 4, 7, 8 and 9 for a window of a video, drawn with matplotlib."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from staf_cli.body.clothes import tones_of
from staf_cli.body.skinning import Body
from staf_cli.core.geometry import CROP_PIXELS, NETWORK_FOCAL
from staf_cli.core.records import Float, Image, Ints
from staf_cli.model.regressor import Theta
from staf_cli.model.temporal import WINDOW
from staf_cli.paper.window import PICTURE, Inside, Window
from staf_cli.rendering.camera import Camera
from staf_cli.rendering.drawing import Figure as Drawn
from staf_cli.rendering.drawing import Style, overlay
from staf_cli.rendering.rasterizer import CpuRasterizer

DPI = 150


def draw_all(
    window: Window,
    inside: Inside,
    body: Body,
    frames: Ints,
    curves: Mapping[str, Float],
) -> dict[str, Figure]:
    """Draw the figures for which the network has the modules.

    Args:
        window: The nine crops.
        inside: What the network computes of them.
        body: The network's.
        frames: (F,) around the target.
        curves: Accelerations in these frames, (F,) mm / frame^2, by how they were recovered.

    Returns:
        The figures by the name of their file.
    """
    figures = {"fig7_regressors": regressors(window, inside.thetas, body)}
    if inside.correlations is not None:
        figures["fig4_correlations"] = correlations(inside.correlations, window.frames)
    if inside.attention is not None:
        figures["fig8_attention"] = attention(inside.attention, window.frames)
    figures["fig9_acceleration"] = acceleration(frames, curves)
    return dict(sorted(figures.items()))


def correlations(matrices: tuple[Float, Float, Float], frames: tuple[int, ...]) -> Figure:
    """Draw M_sim, M_con and M_g of TCFM as heat maps (Fig. 4).

    Args:
        matrices: (9, 9) each, row i what frame i takes from the others.
        frames: Nine indices.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10, 3.4), dpi=DPI, layout="constrained")
    for panel, title, matrix in zip(
        figure.subplots(1, 3),
        ("$M_{sim}$", "$M_{con}$", "$M_g$, their fusion"),
        matrices,
        strict=True,
    ):
        image = panel.imshow(matrix, cmap="viridis", vmin=0)  # each its own range: M_g is flat
        panel.set_title(title)
        panel.set_xticks(range(WINDOW), list(map(str, frames)), fontsize=7, rotation=90)
        panel.set_yticks(range(WINDOW), list(map(str, frames)), fontsize=7)
        panel.set_xlabel("frame")
        figure.colorbar(image, ax=panel, shrink=0.75)
    return figure


def regressors(window: Window, thetas: tuple[Theta, ...], body: Body) -> Figure:
    """Draw the mesh after each regressor over the target's picture (Fig. 7).

    Args:
        window: With the picture.
        thetas: Theta_0 to Theta_3 of the target, one row each.
        body: The network's.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(3 * (len(thetas) + 1), 3.3), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(thetas) + 1)
    panels[0].imshow(window.picture)
    panels[0].set_title(f"person {window.person}, frame {window.frames[WINDOW // 2]}", fontsize=9)
    for level, (panel, theta) in enumerate(zip(panels[1:], thetas, strict=True)):
        panel.imshow(_mesh_over(window.picture, theta, body))
        panel.set_title(r"$\Theta_0$, the mean" if level == 0 else rf"$\Theta_{level}$")
    for panel in panels:
        panel.set_axis_off()
    return figure


def attention(weights: Float, frames: tuple[int, ...]) -> Figure:
    """Draw SAFM's weights of the nine frames (Fig. 8).

    Args:
        weights: (9,) that sum to 1.
        frames: Nine indices.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(5, 3), dpi=DPI, layout="constrained")
    panel = figure.subplots()
    colours = ["tab:red" if n == WINDOW // 2 else "tab:blue" for n in range(WINDOW)]
    panel.bar(range(WINDOW), weights, color=colours)
    panel.axhline(1 / WINDOW, color="grey", linewidth=1, linestyle="--", label="equal weights")
    panel.set_xticks(range(WINDOW), list(map(str, frames)))
    panel.set_xlabel("frame; the target is red")
    panel.set_ylabel("weight")
    panel.legend(fontsize=8)
    return figure


def acceleration(frames: Ints, curves: Mapping[str, Float]) -> Figure:
    """Draw the accelerations of recovered joints (as Fig. 9 shows them in pictures).

    Args:
        frames: (F,) indices.
        curves: (F,) mm / frame^2 each, by how they were recovered.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(10, 3), dpi=DPI, layout="constrained")
    panel = figure.subplots()
    for name, curve in curves.items():
        known = curve[~np.isnan(curve)]
        mean = f", mean {known.mean():.1f}" if len(known) else ""
        panel.plot(frames, curve, linewidth=1, label=f"{name}{mean}")
    panel.set_xlabel("frame")
    panel.set_ylabel("acceleration, mm / frame²")
    panel.set_ylim(bottom=0)
    panel.margins(x=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    return figure


def _mesh_over(picture: Image, theta: Theta, body: Body) -> Image:
    """Draw a row of parameters over the crop that they are of, by the network's own camera."""
    with torch.inference_mode():
        vertices, _ = body(theta.rotmats.cpu(), theta.betas.cpu())
    scale, x, y = theta.pred_cam[0].tolist()
    depth = 2 * NETWORK_FOCAL / (CROP_PIXELS * scale + 1e-9)
    placed = vertices[0].numpy() + np.array([x, y, depth], np.float32)
    camera = Camera.centred(NETWORK_FOCAL * PICTURE / CROP_PIXELS, (PICTURE, PICTURE))
    faces = body.arrays.faces.astype(np.int32)
    style = Style(tones=tones_of(body.arrays))
    return overlay(picture, [Drawn(1, placed)], faces, camera, CpuRasterizer(), style)
