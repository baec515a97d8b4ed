"""HMR and MPS-Net, with nothing, HAFI and APM: against slow versions in float64, and their uses."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from staf_cli.checkpoints.format import load_checkpoint, save_checkpoint
from staf_cli.core.errors import WeightsError
from staf_cli.evaluation.published import row_of
from staf_cli.model.hmr import HMR, PooledArchitecture
from staf_cli.model.network import separate_windows
from staf_cli.model.staf import build_network, load_network
from staf_cli.paper.costs import costs
from staf_cli.paper.window import Window, look_inside
from staf_cli.recovery.engine import Settings
from staf_cli.training.stages import ARCHITECTURES
from tests.support.made_networks import golden_body, golden_checkpoint

SIZE = 512  # numbers of a pooled feature of ResNet-18
ROWS = {
    name: PooledArchitecture("resnet18", row.network, row.integration)
    for name, row in ARCHITECTURES.items()
    if isinstance(row, PooledArchitecture)
}


def made(architecture: PooledArchitecture) -> HMR:
    torch.manual_seed(0)
    network = build_network(architecture, golden_body().sample_points())
    assert isinstance(network, HMR)
    return network.eval()


def features(windows: int) -> torch.Tensor:
    return torch.rand(9 * windows, SIZE, generator=torch.Generator().manual_seed(1)) * 0.1


def numbers(module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def softmax(values):
    high = np.exp(np.array(values) - max(values))
    return high / high.sum()


def slow_moca(w, x):
    """(9, S) -> (9, S), frame by frame."""
    out = np.array(x)
    for i in range(9):
        similar = softmax([x[i] @ x[j] for j in range(9)])
        learned = softmax([(w["theta.weight"] @ x[i]) @ (w["phi.weight"] @ x[j]) for j in range(9)])
        share = softmax(
            [w["fuse"][0] * a + w["fuse"][1] * b for a, b in zip(similar, learned, strict=True)]
        )
        mixed = sum(share[j] * (w["g.weight"] @ x[j]) for j in range(9))
        out[i] += w["mask.weight"] @ mixed
    return out


def slow_hafi(w, x):
    """(9, S) -> (S,): groups of three, then their results."""

    def attend(three):
        y = np.concatenate([w["reduce.weight"] @ one + w["reduce.bias"] for one in three])
        for layer in (0, 2, 4):
            y = np.tanh(w[f"attend.{layer}.weight"] @ y + w[f"attend.{layer}.bias"])
        return sum(share * one for share, one in zip(softmax(y), three, strict=True))

    return attend([attend(x[first : first + 3]) for first in (0, 3, 6)])


def slow_regressor(w, mean, x):
    """Pose, shape and camera after three corrections by one regressor."""
    theta = [mean["pose"], mean["shape"], mean["cam"]]
    for _ in range(3):
        y = np.concatenate([x, *theta])
        for layer in ("fc1", "fc2"):
            y = w[f"{layer}.weight"] @ y + w[f"{layer}.bias"]
        heads = ("decpose", "decshape", "deccam")
        theta = [
            old + w[f"{head}.weight"] @ y + w[f"{head}.bias"]
            for old, head in zip(theta, heads, strict=True)
        ]
    return np.concatenate(theta)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_table_5_is_its_definition(name):
    network, x = made(ROWS[name]), features(2)
    with torch.no_grad():
        found = network.recover(x, separate_windows(len(x)))[-1].flat.numpy()
    for window in range(2):
        slow = x[9 * window : 9 * window + 9].double().numpy()
        if name.startswith("mps-net"):
            slow = slow_moca(numbers(network.coherence), slow)
        if name.endswith("hafi"):
            slow = slow_hafi(numbers(network.integration), slow)
        else:
            slow = slow.mean(0) if name.endswith("apm") else slow[4]
        expected = slow_regressor(numbers(network.regressor), numbers(network.mean), slow)
        np.testing.assert_allclose(found[window], expected, atol=1e-5)


def test_a_frame_s_map_is_pooled_over_all_its_pixels():
    phi_0 = torch.randn(2, SIZE, 7, 7, generator=torch.Generator().manual_seed(2))
    found = made(ROWS["hmr"]).frame_maps(phi_0.bfloat16()).numpy()
    expected = phi_0.bfloat16().double().numpy().reshape(2, SIZE, 49).mean(2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["hmr-apm", "mps-net-hafi"])
def test_shared_frames_are_joined_as_the_engine_does(name):
    network, x = made(ROWS[name]), features(2)
    windows = torch.stack([torch.arange(9), torch.arange(4, 13)])
    singles = [x[n : n + 1] for n in range(len(x))]
    with torch.no_grad():
        shared = network.recover(network.stack(singles), windows)[-1]
        apart = network.recover(x[windows.flatten()], separate_windows(18))[-1]
        alone = network.recover(x[windows[1]], separate_windows(9))[-1]
    assert torch.allclose(shared.flat, apart.flat, atol=1e-6)
    assert torch.allclose(shared[1:].flat, alone.flat, atol=1e-6)


def test_single_frames_are_windows_of_copies_but_for_moca():
    network, x = made(ROWS["hmr-hafi"]), features(1)[:1]
    with torch.no_grad():
        alone = network.base_model(x[..., None, None])[0][-1]
        copies = network.recover(x, torch.zeros(1, 9, dtype=torch.int64))[-1]
    assert torch.allclose(alone.flat, copies.flat, atol=1e-6)


def test_a_checkpoint_comes_back_and_a_strange_one_is_refused(tmp_path):
    network, path = made(ROWS["mps-net-hafi"]), tmp_path / "a.safetensors"
    samples = {k: v for k, v in golden_checkpoint().tensors.items() if k.startswith("samples.")}
    tensors = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}

    def save(architecture):
        save_checkpoint(
            path,
            tensors | samples,
            name="a",
            architecture=architecture,
            body=golden_body().identity,
            crop_scale=1.1,
            licence="none",
        )
        return load_network(load_checkpoint(path), golden_body())

    again = save(asdict(ROWS["mps-net-hafi"]))
    assert again.architecture == ROWS["mps-net-hafi"]
    crops = torch.randn(1, 9, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(network(crops)[-1].flat, again(crops)[-1].flat, atol=1e-5)
    with pytest.raises(WeightsError, match="does not fit"):
        save(asdict(ROWS["mps-net"]))
    for changed in ({"network": "cnn"}, {"integration": "gru"}, {"network": 3}, {"more": "x"}):
        with pytest.raises(WeightsError, match="unknown"):
            save(asdict(ROWS["hmr"]) | changed)


def test_the_paper_s_rows():
    rows = {name: row_of(architecture) for name, architecture in ROWS.items()}
    assert rows["hmr"][1] == ("HMR", 54.3, 91.4, 107.2, 29.1)
    assert rows["hmr-apm"][1] == ("HMR+APM", 53.1, 87.9, 103.3, 7.7)
    assert rows["mps-net"][1] == ("MPS-Net w/o HAFI", 53.0, 86.7, 102.2, 23.5)
    assert rows["mps-net-hafi"][1] == ("MPS-Net w/ HAFI", 53.2, 87.7, 102.9, 8.0)
    assert [name for name, _ in rows.values()] == [
        *("HMR", "HMR+HAFI", "HMR+APM"),
        *("MPS-Net w/o HAFI", "MPS-Net w/ HAFI", "MPS-Net w/ APM"),
    ]


def test_costs_and_attention_of_mps_net():
    network = made(ROWS["mps-net-hafi"])
    rows = {row.module: row for row in costs(network)}
    assert list(rows) == ["encoder", "MoCA", "HAFI", "regressors", "all"]
    assert rows["all"].parameters == sum(p.numel() for p in network.parameters())
    moca = 4 * 9 * SIZE * (SIZE // 2) + 9 * 9 * (SIZE + SIZE)
    assert rows["MoCA"].window * 1e9 == pytest.approx(moca)
    regressor = (SIZE + 157) * 1024 + 1024 * 1024 + 1024 * 157
    assert rows["regressors"].window * 1e9 == pytest.approx(3 * regressor)
    crops = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8)
    window = Window(1, tuple(range(9)), crops, crops[4])
    inside = look_inside(network, window, Settings(torch.device("cpu"), torch.float32))
    assert inside.attention is not None and inside.attention.sum() == pytest.approx(1)
    assert inside.correlations is not None and inside.correlations[2].shape == (9, 9)
    assert [len(theta.betas) for theta in inside.thetas] == [1] * 4
