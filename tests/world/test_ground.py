"""The search for the ground: what it moves at once, against one unknown after the other."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from staf_cli.world import ground
from staf_cli.world.options import WorldOptions


@pytest.mark.parametrize("at_once", [1, 100_000])
@pytest.mark.parametrize(("axes", "stands", "people"), [(0, 1, 1), (3, 5, 1), (40, 30, 2)])
def test_the_jacobian_is_that_of_one_unknown_after_the_other(
    monkeypatch, axes, stands, people, at_once
):
    monkeypatch.setattr(ground, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3, axes, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    axis, along, left = directions
    points, owners = rng.normal(size=(stands, 3)), rng.integers(0, people, stands)
    seen = ground._Seen(
        ground._Stands(points, owners, rng.integers(0, 4, stands)),
        ground._Axes(axis, along, left, rng.integers(0, people, axes)),
        ground._basis(np.array([0.0, -1, 0])),
    )
    x = 0.2 * rng.normal(size=ground.FIRST + 5 * people)
    x[2] = 1.4
    how = (seen, 1.0, WorldOptions())
    want = approx_fprime(x, ground._residuals, 1e-7, *how)
    assert np.abs(ground._slopes(x, *how) - want).max() < 1e-4 * np.abs(want).max()
    turn = ground._times(directions[0, :1] if axes else np.eye(3)[:1])
    up = directions[0, 0] if axes else np.eye(3)[0]
    assert np.allclose(points @ turn[0], np.cross(points, up), atol=1e-12)
