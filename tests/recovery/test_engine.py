"""The streaming engine against windows computed plainly and alone."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch

from staf_cli.core.crop import crop_image, square_box
from staf_cli.core.devices import choose_device
from staf_cli.core.errors import MissingTool, OutOfMemory, VideoError
from staf_cli.core.records import Frame, Track
from staf_cli.model.normalisation import normalise
from staf_cli.model.staf import Architecture
from staf_cli.recovery.cadence import EVERY_FRAME
from staf_cli.recovery.engine import Settings, _windows, in_batches, prepare
from tests.support import plain_network
from tests.support.made_networks import (
    estimates_of,
    golden_body,
    random_network,
    with_quick_encoder,
)

ROUNDING = 1e-4  # kernels round differently for other batches; mixed-up frames differ by 1e-2
CPU = Settings(torch.device("cpu"), dtype=torch.float32, batch=7)


def frames(count):
    """Noise that drifts, so that neighbouring frames are alike and no two are the same."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160, 200 + 3 * count, 3), np.uint8)
    for n in range(count):
        yield Frame(n, n, n / 30, np.ascontiguousarray(noise[:, 3 * n : 3 * n + 200]))


def track(person, rows):
    rows = np.asarray(rows, np.int64)
    x = 20.0 * person + 0.5 * rows
    box = np.stack([x, x * 0 + 10 + person, x + 40, x * 0 + 140], 1)
    n = len(rows)
    return Track(person, rows, rows / 30, box, np.ones(n), np.zeros(n, bool), np.zeros((n, 17, 3)))


@pytest.fixture(scope="module")
def network():
    return prepare(with_quick_encoder(random_network(Architecture("resnet18"))), CPU)


def test_windows_follow_the_edge_rule():
    for length in (1, 5, 8):
        assert [EVERY_FRAME.window_rows(r, length) for r in range(length)] == [
            [r] * 9 for r in range(length)
        ]
    rows = [EVERY_FRAME.window_rows(r, 10) for r in range(10)]
    assert rows[4] == list(range(9))
    assert rows[5] == list(range(1, 10))
    assert all(rows[r] == [r] * 9 for r in (0, 1, 2, 3, 6, 7, 8, 9))


def test_engine_equals_windows_computed_alone(network):
    lengths = [1, 5, 8, 9, 10, 24]
    tracks = [track(n, np.arange(length) + n) for n, length in enumerate(lengths)]
    clip = list(frames(30))
    estimates = estimates_of(iter(clip), tracks, network, 1.1, CPU)
    for one, estimate in zip(tracks, estimates, strict=True):
        squares = square_box(one.box, 1.1)
        images = [crop_image(clip[f].image, s) for f, s in zip(one.frame, squares, strict=True)]
        with torch.no_grad():
            features = [
                network.encoder(normalise(torch.from_numpy(image[None]))) for image in images
            ]
            for row in range(len(images)):
                window = torch.cat([features[r] for r in EVERY_FRAME.window_rows(row, len(images))])
                want = plain_network.recover_window(network, golden_body(), window)
                assert np.abs(estimate.rotmats[row] - want.rotmats[0].numpy()).max() <= ROUNDING
                assert np.abs(estimate.betas[row] - want.betas[0].numpy()).max() <= ROUNDING
                assert np.abs(estimate.pred_cam[row] - want.pred_cam[0].numpy()).max() <= ROUNDING
    assert np.ptp(estimates[-1].betas, axis=0).max() > 1e-3  # frames do differ


def test_result_depends_on_neither_batch_nor_company(network):
    tracks = [track(1, np.arange(14)), track(2, np.r_[3:8, 11:22])]  # the second has a gap
    alone = [estimates_of(frames(22), [one], network, 1.1, CPU)[0] for one in tracks]
    for batch in (1, 4, 16):
        settings = Settings(CPU.device, dtype=torch.float32, batch=batch)
        together = estimates_of(frames(22), tracks, network, 1.1, settings)
        for a, b in zip(alone, together, strict=True):
            assert np.abs(a.rotmats - b.rotmats).max() <= ROUNDING
            assert np.abs(a.pred_cam - b.pred_cam).max() <= ROUNDING


def test_no_window_crosses_a_gap(network):
    with_gap = track(1, np.r_[0:10, 15:25])
    whole = estimates_of(frames(25), [with_gap], network, 1.1, CPU)[0]
    for rows in (slice(0, 10), slice(10, 20)):
        part = estimates_of(frames(25), [track(1, with_gap.frame[rows])], network, 1.1, CPU)[0]
        assert np.abs(whole.rotmats[rows] - part.rotmats).max() <= ROUNDING


def test_maps_are_forgotten_as_soon_as_no_window_needs_them():
    class Map:
        pass

    alive: weakref.WeakSet[object] = weakref.WeakSet()
    most = 0
    tracks = [track(1, np.arange(60)), track(2, np.arange(20, 50))]

    def maps():
        nonlocal most
        for frame in range(60):
            for number, one in enumerate(tracks):
                if frame in one.frame:
                    new = Map()
                    alive.add(new)
                    most = max(most, len(alive))
                    yield (number, frame - int(one.frame[0])), new

    windows = {place for place, _ in _windows(maps(), tracks, EVERY_FRAME)}
    assert windows == {(0, r) for r in range(60)} | {(1, r) for r in range(30)}
    assert most <= 2 * 10


def test_batches_halve_until_they_fit():
    sizes = []

    def compute(items, limit):
        sizes.append(len(items))
        if len(items) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in items]

    places = [((0, n), n) for n in range(20)]
    results = list(in_batches(places, lambda items: compute(items, 3), 16))
    assert results == [((0, n), 2 * n) for n in range(20)]
    assert sizes[:4] == [16, 8, 4, 2]
    assert all(b <= a for a, b in pairwise(sizes))
    with pytest.raises(OutOfMemory, match="not even one"):
        list(in_batches(places, lambda items: compute(items, 0), 16))
    with pytest.raises(RuntimeError, match="broken"):
        list(in_batches(places, lambda items: (_ for _ in ()).throw(RuntimeError("broken")), 4))


def test_a_frame_that_does_not_come_again_is_noticed(network):
    with pytest.raises(VideoError, match="changed while it was read, near frame 4"):
        estimates_of(frames(5), [track(1, np.arange(9))], network, 1.1, CPU)


def test_half_precision_is_close():
    clip = [track(1, np.arange(3))]
    whole = prepare(random_network(Architecture("resnet18")), CPU)
    full = estimates_of(frames(3), clip, whole, 1.1, CPU)[0]
    settings = Settings(CPU.device, dtype=torch.float16, batch=4)
    halved = prepare(random_network(Architecture("resnet18")), settings)
    half = estimates_of(frames(3), clip, halved, 1.1, settings)[0]
    # Random weights answer to noise far more than trained ones do.
    assert 0 < np.abs(full.rotmats - half.rotmats).mean() < 0.005


def test_unknown_devices_are_refused():
    assert choose_device("cpu").type == "cpu"
    for name in ("cuda:7", "toaster"):
        with pytest.raises(MissingTool, match="--device auto"):
            choose_device(name)
