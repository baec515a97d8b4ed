"""The landmark network against MediaPipe's own file, and what its loading refuses.

original.npz holds what pose_landmark_heavy.tflite gives for two drawn pictures in another
runtime: LiteRT (PyPI ai-edge-litert 2.3.0) with XNNPACK in float32. It was written by
record_original.py, whose docstring has the commands.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from staf_cli.checkpoints.registry import POSE_LANDMARKS, locate
from staf_cli.core.errors import WeightsError
from staf_cli.landmarks.weights import load_landmarks
from tests.landmarks.pictures import PICTURES, drawn_person

# Both round in float32, in another order, through a hundred layers: computed in float64, the
# network is as far from each of them as they are from each other. Logits of the mask reach 74,
# those of the heat maps 87.
TOLERANCE = {"landmarks": 0.01, "score": 1e-6, "metres": 3e-5, "mask": 0.04, "heat_maps": 0.005}


@pytest.fixture(scope="module")
def network():
    return load_landmarks()


@pytest.fixture(scope="module")
def images():
    pictures = np.stack([drawn_person(seed, turn) for seed, turn in PICTURES])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@torch.inference_mode()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_all_outputs_are_the_original_s(network, images, layout):
    output = network.to(memory_format=layout)(images.contiguous(memory_format=layout))
    ours = {
        "landmarks": output.landmarks,
        "score": output.score,
        "metres": output.metres,
        "mask": output.mask[:, ::3, 1::3],
        "heat_maps": output.heat_maps[:, :, ::4, 1::3],
    }
    assert output.mask.shape == (2, 256, 256) and output.heat_maps.shape == (2, 39, 64, 64)
    with np.load(Path(__file__).parent / "original.npz") as original:
        assert set(original.files) == set(ours)
        for name, mine in ours.items():
            want = torch.from_numpy(original[name])
            assert mine.shape == want.shape
            assert (mine - want).abs().max() < TOLERANCE[name], name
            assert name == "score" or want.std() > 30 * TOLERANCE[name]


@torch.inference_mode()
def test_without_heat_maps_the_rest_is_the_same(network, images):
    whole, (points, mask) = network(images), network.points_and_mask(images)
    assert torch.equal(mask, whole.mask)
    assert torch.equal(points.landmarks, whole.landmarks)
    assert torch.equal(points.metres, whole.metres)
    assert torch.equal(points.score, whole.score)


def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path):
    good = load_file(locate(POSE_LANDMARKS))
    path = tmp_path / "other.safetensors"
    wrong = {
        "a tensor is missing": {k: v for k, v in good.items() if k != "to_score.bias"},
        "a tensor too many": good | {"more": torch.zeros(1)},
        "another shape": good | {"to_score.bias": torch.zeros(2)},
    }
    for tensors in wrong.values():
        save_file(tensors, path)
        with pytest.raises(WeightsError, match="holds no pose landmark network") as caught:
            load_landmarks(str(path))
        assert "\n" not in str(caught.value)
    path.write_bytes(locate(POSE_LANDMARKS).read_bytes()[:-1])
    with pytest.raises(WeightsError, match="holds no pose landmark network"):
        load_landmarks(str(path))
    with pytest.raises(WeightsError, match="no such file"):
        load_landmarks(str(tmp_path / "absent.safetensors"))
