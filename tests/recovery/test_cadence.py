"""Windows by time, and frames between those that the network computes."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from staf_cli.core.errors import UsageError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_rot6d
from staf_cli.core.records import Frame, Track
from staf_cli.model.regressor import Theta
from staf_cli.model.staf import Architecture
from staf_cli.recovery.cadence import Cadence, choose_cadence, fill_between, interpolate
from staf_cli.recovery.engine import Settings, prepare
from tests.support.made_networks import estimates_of, random_network, with_quick_encoder

CPU = Settings(torch.device("cpu"), dtype=torch.float32, batch=7)
ROUNDING = 1e-4


def theta(seed):
    generator = torch.Generator().manual_seed(seed)
    rotvecs = torch.randn(1, 24, 3, generator=generator)
    rotvecs *= 1.4 / rotvecs.norm(dim=-1, keepdim=True).clamp(min=1.4)
    pose6d = matrix_to_rot6d(axis_angle_to_matrix(rotvecs)).flatten(1)
    return Theta(
        pose6d, torch.randn(1, 10, generator=generator), torch.randn(1, 3, generator=generator)
    )


@pytest.mark.parametrize(
    ("fps", "step"), [(10, 1), (24, 1), (30, 1), (44, 1), (50, 2), (60, 2), (120, 4), (240, 8)]
)
def test_windows_have_a_thirtieth_of_a_second_between_their_frames(fps, step):
    assert choose_cadence(fps, 1) == Cadence(step, 1)
    assert Cadence(step).window_rows(4 * step + 3, 20 * step) == [3 + n * step for n in range(9)]


def test_windows_at_the_ends_are_copies_as_far_as_a_window_reaches():
    rows = [Cadence(2).window_rows(row, 20) for row in range(20)]
    assert [row for row in range(20) if rows[row] == [row] * 9] == [*range(8), *range(12, 20)]


def test_frames_are_left_out_only_where_windows_do_not_need_them():
    assert choose_cadence(60, 2) == Cadence(2, 2)
    assert choose_cadence(120, 2) == Cadence(4, 2)
    for fps, every, advice in ((30, 2, "leave it out"), (60, 4, "2"), (120, 3, "2 or 4")):
        with pytest.raises(UsageError, match=advice):
            choose_cadence(fps, every)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_rotations_are_interpolated_as_scipy_does(share):
    one, other = theta(0), theta(1)
    between = interpolate(one, other, share)
    for joint in range(24):
        ends = Rotation.from_matrix(
            np.stack([part.rotmats[0, joint].numpy() for part in (one, other)])
        )
        want = Slerp([0, 1], ends)(share).as_matrix()
        np.testing.assert_allclose(between.rotmats[0, joint].numpy(), want, atol=1e-5)
    np.testing.assert_allclose(
        between.betas, (1 - share) * one.betas + share * other.betas, atol=1e-6
    )


def track(rows):
    f = len(rows)
    return Track(
        id=1,
        frame=rows,
        time=rows / 60.0,
        box=np.tile([60.0, 40.0, 130.0, 150.0], (f, 1)),
        score=np.ones(f),
        interpolated=np.zeros(f, bool),
        kp2d=np.zeros((f, 17, 3), np.float32),
    )


@pytest.mark.parametrize("rows", [np.arange(11), np.r_[0:8, 20:33], np.arange(1)])
def test_every_row_comes_once_whatever_the_order(rows):
    """The rows between two computed ones are their mean; a gap is not filled."""
    one, cadence = track(rows), Cadence(4, 4)
    computed = [
        row
        for run in one.runs
        for row in range(run.start, run.stop)
        if cadence.is_computed(row - run.start, run.stop - run.start)
    ]
    stream = [
        ((0, row), theta(row)) for row in np.random.default_rng(0).permutation(computed).tolist()
    ]
    filled = list(fill_between(stream, [one], cadence))
    assert sorted(row for (_, row), _ in filled) == list(range(len(rows)))
    by_row = {row: one for (_, row), one in filled}
    if len(rows) > 4:
        want = torch.lerp(theta(0).betas, theta(4).betas, 0.5)
        torch.testing.assert_close(by_row[2].betas, want)


def frames(count):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160, 200 + 3 * count, 3), np.uint8)
    for n in range(count):
        yield Frame(n, n, n / 60, np.ascontiguousarray(noise[:, 3 * n : 3 * n + 200]))


def test_at_sixty_frames_a_second_each_second_frame_sees_what_thirty_would_show():
    """The clip's even frames alone, at 30 a second, give the same bodies in the middle."""
    network = prepare(with_quick_encoder(random_network(Architecture("resnet18"))), CPU)
    whole = track(np.arange(41))
    (fast,) = estimates_of(frames(41), [whole], network, 1.1, CPU, Cadence(2))
    halved = (Frame(f.index // 2, f.pts, f.time, f.image) for f in frames(41) if f.index % 2 == 0)
    (slow,) = estimates_of(halved, [track(np.arange(21))], network, 1.1, CPU, Cadence(1))
    assert np.abs(fast.rotmats[8:34:2] - slow.rotmats[4:17]).max() <= ROUNDING
    (sparse,) = estimates_of(frames(41), [whole], network, 1.1, CPU, Cadence(2, 2))
    assert np.abs(sparse.rotmats[::2] - fast.rotmats[::2]).max() <= ROUNDING
    assert np.abs(sparse.betas[9] - sparse.betas[[8, 10]].mean(0)).max() <= ROUNDING
