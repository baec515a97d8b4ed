"""Directions of bones, as landmarks show them and as they are put right."""

from pathlib import Path

import numpy as np
import pytest
import torch

from staf_cli.checkpoints import registry
from staf_cli.core.errors import WeightsError
from staf_cli.core.regions import crop_axes
from staf_cli.fitting import bones
from tests.support.made_networks import zero_bone_network
from tools.train_bones import train

# Looks at people of 48 synthetic sequences whose motions, clothes and backgrounds were not learned
# from, one each, with their true bones.
HELD_OUT = Path(__file__).parent / "held_out_looks.npz"


@pytest.fixture(scope="module")
def looks():
    with np.load(HELD_OUT) as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def degrees(one, other):
    return np.degrees(np.arccos(np.clip((one * other).sum(-1), -1, 1)))


def test_what_is_shipped_brings_directions_nearer_to_the_truth(looks):
    seen = bones.unit(bones.BONES_OF_LANDMARKS @ looks["metres"])
    put_right = bones.bones_of_looks(looks["kp2d"], looks["metres"], looks["region"])
    before, after = degrees(seen, looks["true"]), degrees(put_right, looks["true"])
    assert 18 < before.mean() < 24
    assert after.mean() < 0.9 * before.mean() and np.median(after) < 0.9 * np.median(before)
    assert (after.mean(0) < before.mean(0) + 0.5).all()  # no bone loses


def test_without_corrections_they_are_those_of_the_landmarks(looks, monkeypatch):
    monkeypatch.setattr(bones, "bone_network", zero_bone_network)
    found = bones.bones_of_looks(looks["kp2d"], looks["metres"], looks["region"])
    for bone, (_, (to, start), _) in enumerate(bones.BONES):
        ends = [looks["metres"][:, list(side)].mean(1) for side in (to, start)]
        apart = ends[0] - ends[1]
        want = apart / np.linalg.norm(apart, axis=-1, keepdims=True)
        np.testing.assert_allclose(found[:, bone], want, atol=1e-9)


def test_a_turned_picture_turns_the_bones(looks):
    """Whoever is turned, moved and nearer in the frame is the same in the crop."""
    turn = np.array([[0, 0, 0, 0.7]])
    region = looks["region"] * (1, 1, 2, 1) + (30, -20, 0, 0.7)
    axes = crop_axes(turn)[0]
    middle = looks["region"][:, None, :2]
    places = 2 * (looks["kp2d"][..., :2] - middle) @ axes.T + region[:, None, :2]
    kp2d = np.concatenate([places, looks["kp2d"][..., 2:]], -1)
    whole = np.eye(3)
    whole[:2, :2] = axes
    found = bones.bones_of_looks(kp2d, looks["metres"] @ whole.T, region)
    want = bones.bones_of_looks(looks["kp2d"], looks["metres"], looks["region"]) @ whole.T
    np.testing.assert_allclose(found, want, atol=1e-4)


def test_an_error_that_repeats_is_learned(looks):
    """People whose upper arms are seen 0.3 too near, and nothing else is wrong."""
    rng = np.random.default_rng(0)
    features, _ = bones.features_of(looks["kp2d"], looks["metres"], looks["region"])
    features = np.repeat(features, 10, 0) + rng.normal(0, 0.1, (480, features.shape[1]))
    true = bones.unit(rng.normal(0, 1, (480, len(bones.BONES), 3)))
    seen = true.copy()
    seen[:, 3:5, 2] -= 0.3
    features[:, : 3 * len(bones.BONES)] = seen.reshape(480, -1)
    network = train((features[:400], seen[:400], true[:400]))
    corrected = seen[400:] + network(torch.from_numpy(features[400:]).float()).double().numpy()
    off = np.abs(corrected - true[400:])
    assert off[:, 3:5, 2].mean() < 0.1
    assert off[:, 5:].mean() < 0.05


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_a_damaged_file_is_one_line(tmp_path, monkeypatch, content):
    path = tmp_path / "bone_directions.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr(bones, "locate", lambda name: path)
    bones.bone_network.cache_clear()
    with pytest.raises(WeightsError, match="holds no directions of bones; install staf again"):
        bones.bone_network()
    bones.bone_network.cache_clear()


def test_it_is_found_by_its_name():
    assert registry.locate(registry.BONE_DIRECTIONS).name == "bone_directions.safetensors"
