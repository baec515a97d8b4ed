"""One window of a recovered video, and what happens to it inside the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from staf_cli import video
from staf_cli.body.skinning import Body
from staf_cli.core.crop import crop_image, square_box
from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.progress import Watch
from staf_cli.core.records import Clip, Float, Frame, Image, Ints, Track, run_of, select_rows
from staf_cli.model.network import WindowNetwork
from staf_cli.model.normalisation import normalise
from staf_cli.model.regressor import Theta
from staf_cli.model.temporal import SAFM, TARGET, TCFM, WINDOW
from staf_cli.recovery.cadence import Cadence, choose_cadence
from staf_cli.recovery.engine import Settings, infer_tracks
from staf_cli.video import Damage

PICTURE = 448  # px, side of the target's picture that is drawn on
STRETCH = 150  # frames before and after the target, for curves


@dataclass(frozen=True, eq=False)
class Window:
    """Nine crops of a person around the target frame."""

    person: int
    frames: tuple[int, ...]  # nine indices; equal ones near the ends of a track
    crops: Image  # (9, 224, 224, 3)
    picture: Image  # (448, 448, 3) the target's crop, larger


@dataclass(frozen=True, eq=False)
class Inside:
    """What a network computes of one window; None where it lacks the module."""

    thetas: tuple[Theta, ...]  # Theta_0 to Theta_3 of the target, one row each
    correlations: tuple[Float, Float, Float] | None  # M_sim, M_con, M_g, (9, 9), rows sum to 1
    attention: Float | None  # (9,) shares of the frames in SAFM's result


def find_track(tracks: list[Track], person: int | None, frame: int | None) -> tuple[Track, int]:
    """Find a person and one of their frames.

    Args:
        tracks: Of a result.
        person: Their number; None: who is seen the longest.
        frame: The frame's index in the video; None: the middle of their longest stretch.

    Returns:
        The track, and the frame's row in it.

    Raises:
        UsageError: The person is not there, or not in that frame.
    """
    named = {track.id: track for track in tracks}
    if person is None:
        person = max(tracks, key=lambda track: len(track.frame)).id
    if person not in named:
        numbers = ", ".join(map(str, named))
        raise UsageError(f"--person {person}: is not in the result; choose from {numbers}")
    track = named[person]
    if frame is None:
        longest = max(track.runs, key=lambda run: run.stop - run.start)
        return track, (longest.start + longest.stop - 1) // 2
    row = int(np.searchsorted(track.frame, frame))
    if row == len(track.frame) or track.frame[row] != frame:
        first, last = track.frame[0], track.frame[-1]
        raise UsageError(
            f"--frame {frame}: person {person} is not seen there, but in frames {first} to {last}"
            + (" with gaps" if len(track.runs) > 1 else "")
        )
    return track, row


def read_window(clip: Clip, track: Track, row: int, crop_scale: float, watch: Watch) -> Window:
    """Cut out the nine crops that the network looks at for one frame.

    Args:
        clip: The track's video.
        track: Of the person.
        row: Of the target in the track.
        crop_scale: Side of the crop over the longer side of the box.
        watch: The progress callback.

    Returns:
        The window.

    Raises:
        TracksError: The video lacks a frame.
    """
    run = run_of(track.runs, row)
    cadence = choose_cadence(clip.fps, every=1)
    inside = cadence.window_rows(row - run.start, run.stop - run.start)
    rows = [run.start + one for one in inside]
    frames = tuple(track.frame[rows].tolist())
    squares = dict(zip(frames, square_box(track.box[rows], crop_scale), strict=True))
    crops: dict[int, Image] = {}
    picture: Image | None = None
    for frame in _until(clip, frames[-1], "window", watch):
        if frame.index in squares:
            crops[frame.index] = crop_image(frame.image, squares[frame.index])
        if frame.index == frames[TARGET]:
            picture = crop_image(frame.image, squares[frame.index], PICTURE)
    if picture is None or len(crops) < len(squares):
        raise TracksError(f"{clip.path}: has no frame {frames[-1]} any more; run the clip again")
    return Window(track.id, frames, np.stack([crops[frame] for frame in frames]), picture)


@torch.inference_mode()
def look_inside(network: WindowNetwork, window: Window, settings: Settings) -> Inside:
    """Run the network on one window and keep what its modules compute.

    Args:
        network: After `engine.prepare` with the same settings.
        window: The nine crops.
        settings: Device and precision.

    Returns:
        The target's parameters after every regressor, and the weights of TCFM and SAFM
            (of MPS-Net and HMR: MoCA and HAFI).
    """
    images = normalise(torch.from_numpy(window.crops).to(settings.device))
    with _inputs_of(network) as seen:
        thetas = network(images.to(settings.dtype)[None])
    return Inside(
        thetas=(network.mean(1), *(_target(theta) for theta in thetas)),
        correlations=_correlations(network.coherence, seen),
        attention=_attention(network.integration, seen),
    )


def accelerations(
    clip: Clip,
    track: Track,
    row: int,
    network: WindowNetwork,
    body: Body,
    crop_scale: float,
    settings: Settings,
    watch: Watch,
) -> tuple[Ints, dict[str, Float]]:
    """Measure how fast the velocity of recovered joints changes around a frame.

    Args:
        clip: The track's video.
        track: Of the person.
        row: Of the target in the track.
        network: After `engine.prepare`.
        body: The network's.
        crop_scale: Side of the crop over the longer side of the box.
        settings: Device and precision.
        watch: The progress callback.

    Returns:
        The frames (F,), and for windows of nine frames and for nine copies of each frame the mean
        over the joints of |x[t+1] - 2 x[t] + x[t-1]|, seen from the pelvis: (F,) mm / frame^2,
        NaN at both ends.
    """
    run = run_of(track.runs, row)
    rows = slice(max(run.start, row - STRETCH), min(run.stop, row + STRETCH + 1))
    part = select_rows(track, rows)
    alone = Cadence(step=len(part.frame))  # no window fits: every frame is copied nine times
    curves = {}
    for name, cadence in (
        ("windows of nine frames", choose_cadence(clip.fps, every=1)),
        ("nine copies of each frame", alone),
    ):
        frames = _until(clip, int(part.frame[-1]), name, watch)
        curve = np.full(len(part.frame), np.nan)
        rotmats = np.zeros((len(part.frame), 24, 3, 3), np.float32)
        betas = np.zeros((len(part.frame), 10), np.float32)
        for _, own, estimate in infer_tracks(
            frames, [part], network, crop_scale, settings, cadence
        ):
            rotmats[own], betas[own] = estimate.rotmats, estimate.betas
        with torch.inference_mode():
            _, joints = body.skeleton(torch.from_numpy(rotmats), torch.from_numpy(betas))
        placed = 1000 * (joints - joints[:, :1]).numpy()
        curve[1:-1] = np.linalg.norm(np.diff(placed, n=2, axis=0), axis=-1).mean(-1)
        curves[name] = curve
    return part.frame, curves


def _until(clip: Clip, last: int, what: str, watch: Watch) -> Iterator[Frame]:
    """The clip's frames up to one of them."""
    for frame in watch(what, video.frames(clip, Damage()), last + 1):
        yield frame
        if frame.index >= last:
            return


@contextmanager
def _inputs_of(network: WindowNetwork) -> Iterator[dict[str, Tensor]]:
    """Note what TCFM and SAFM, or MoCA and HAFI, get while the network runs."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in (("tcfm", network.coherence), ("safm", network.integration)):
        if module is not None:

            def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                seen[name] = inputs[0]

            hooks.append(module.register_forward_pre_hook(note))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _target(theta: Theta) -> Theta:
    """The target's row of one window's parameters, of 9 rows or 1."""
    row = TARGET if len(theta.betas) == WINDOW else 0
    return theta[row : row + 1]


def _correlations(tcfm: TCFM | None, seen: dict[str, Tensor]) -> tuple[Float, Float, Float] | None:
    if tcfm is None:
        return None
    m_sim, m_con, m_g = (
        matrix[0].double().numpy(force=True) for matrix in tcfm.correlations(seen["tcfm"])
    )
    return m_sim, m_con, m_g


def _attention(safm: SAFM | None, seen: dict[str, Tensor]) -> Float | None:
    """A frame's share: its weight in its group, times the group's weight."""
    if safm is None:
        return None
    groups = seen["safm"].reshape(1, 3, 3, -1)  # (1, 3, 3, S)
    of_groups = safm.attention_weights(safm.integrate(groups))  # (1, 3)
    shares = safm.attention_weights(groups) * of_groups[..., None]  # (1, 3, 3)
    flat: Float = shares.flatten().double().numpy(force=True)
    return flat
