"""Directions of bones in space: of a posed skeleton, and as the landmark network sees them.

The landmark network errs in its own ways: a trunk that leans away, upper arms too far forward,
limbs too flat. A small network that has learned them (weights/BONE_DIRECTIONS.md) puts its
directions right: on synthetic people whose motions it has not seen they are off by a sixth less.
"""

from functools import cache

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import relu

from staf_cli.checkpoints.registry import BONE_DIRECTIONS, locate
from staf_cli.core.errors import WeightsError
from staf_cli.core.records import LANDMARKS, Float
from staf_cli.core.regions import crop_axes
from staf_cli.fitting.skeleton import Posed

# Bones and lines across the body whose direction in space is compared: the points at their ends
# (means of several), the landmarks there, and the usual error of the unit vector along each axis
# (1.13 times the median over 12 synthetic clips, before directions were put right; 0.85 times these
# would bring 20 such clips 0.2 mm nearer).
BONES = (
    (((5,), (6,)), ((11,), (12,)), 0.09),  # shoulders
    (((11,), (12,)), ((23,), (24,)), 0.09),  # hips
    (((5, 6), (11, 12)), ((11, 12), (23, 24)), 0.07),  # trunk
    (((7,), (5,)), ((13,), (11,)), 0.16),  # upper arms
    (((8,), (6,)), ((14,), (12,)), 0.16),
    (((9,), (7,)), ((15,), (13,)), 0.19),  # forearms
    (((10,), (8,)), ((16,), (14,)), 0.19),
    (((13,), (11,)), ((25,), (23,)), 0.11),  # thighs
    (((14,), (12,)), ((26,), (24,)), 0.11),
    (((15,), (13,)), ((27,), (25,)), 0.09),  # shins
    (((16,), (14,)), ((28,), (26,)), 0.09),
    (((27,), (15,)), ((31,), (27,)), 0.31),  # feet
    (((28,), (16,)), ((32,), (28,)), 0.31),
    (((3,), (4,)), ((7,), (8,)), 0.16),  # ears
)
LEG_BONES = ((7, 9, 11), (8, 10, 12))  # of these, left and right
# So many times these, because the errors of a look's bones, and of one look and the next, go
# together: of 1, 1.5 and 2 each has a smaller PA-MPJPE than the one before on 20 synthetic clips,
# and on four photos with truth, where 2 has a larger MPJPE; and photos are not like the clips.
BONES_TOGETHER = 1.5
BONE_SIGMA = BONES_TOGETHER * torch.tensor([bone[2] for bone in BONES])
SKELETON_POINTS = 41
HIPS = [23, 24]  # landmarks
WIDTH = 256  # numbers in a layer
DROPOUT = 0.3  # of them in training
# What it sees of a look: directions, landmarks in metres and in the picture, visibilities; 240.
FEATURES = (3 * len(BONES), 3 * len(LANDMARKS), 2 * len(LANDMARKS), len(LANDMARKS))


def _ends(which: int, count: int) -> Float:
    """(B, count): bones as differences of points (which = 0) or landmarks (1)."""
    matrix = np.zeros((len(BONES), count))
    for row, bone in enumerate(BONES):
        to, start = bone[:2][which]
        matrix[row, list(to)] += 1 / len(to)
        matrix[row, list(start)] -= 1 / len(start)
    return matrix


_BONES_OF_POINTS = torch.from_numpy(_ends(0, SKELETON_POINTS)).float()
BONES_OF_LANDMARKS = _ends(1, len(LANDMARKS))  # (B, 33)


class BoneNetwork(nn.Module):
    """What is to be added to the directions of the bones of looks."""

    mean: Tensor  # (240,) of the features in training
    scale: Tensor  # (240,)

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(sum(FEATURES)))
        self.register_buffer("scale", torch.ones(sum(FEATURES)))
        self.first = nn.Linear(sum(FEATURES), WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, 3 * len(BONES))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the corrections (N, B, 3) of looks with these features (N, 240)."""
        x = self.dropout(relu(self.first((features - self.mean) / self.scale)))
        corrections: Tensor = self.last(self.dropout(relu(self.second(x))))
        return corrections.view(-1, len(BONES), 3)


@cache
def bone_network() -> BoneNetwork:
    """Load the network that is shipped with staf, once.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        WeightsError: The file is absent, altered or damaged.
    """
    path = locate(BONE_DIRECTIONS)
    with torch.device("meta"):  # random weights would be replaced at once
        network = BoneNetwork()
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        network.load_state_dict(tensors, assign=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f"{path}: holds no directions of bones; install staf again") from error
    return network.eval().requires_grad_(False)


def bones_of(posed: Posed) -> Tensor:
    """Compute the directions of a skeleton's bones.

    Args:
        posed: F frames.

    Returns:
        (F, B, 3) unit vectors.
    """
    bones = _BONES_OF_POINTS @ torch.cat([posed.landmarks, posed.joints], 1)
    direction: Tensor = bones / bones.norm(dim=-1, keepdim=True).clamp(min=1e-4)
    return direction


def bones_of_looks(kp2d: Float, metres: Float, region: Float) -> Float:
    """Compute the directions of bones that looks show, put right.

    Args:
        kp2d: (L, 33, 3) x, y px of the frame, visibility.
        metres: (L, 33, 3) m, in the axes of the camera that saw the crop.
        region: (L, 4) where the network looked (core/regions.py).

    Returns:
        (L, B, 3) unit vectors in the same axes.

    Raises:
        WeightsError: The network's file is absent, altered or damaged.
    """
    features, seen = features_of(kp2d, metres, region)
    with torch.inference_mode():
        corrections = bone_network()(torch.from_numpy(features).float()).double().numpy()
    put_right = unit(seen + corrections)
    return np.concatenate(
        [put_right[..., :2] @ crop_axes(region).transpose(0, 2, 1), put_right[..., 2:]], -1
    )


def features_of(kp2d: Float, metres: Float, region: Float) -> tuple[Float, Float]:
    """What `BoneNetwork` sees of looks, and the directions that it corrects; in the crops' axes.

    Args:
        kp2d: (L, 33, 3) x, y px of the frame, visibility.
        metres: (L, 33, 3) m, in the axes of the camera that saw the crop.
        region: (L, 4) where the network looked.

    Returns:
        (L, 240): directions, landmarks in metres, in the picture in halves of the crop's side from
        the middle of the hips, and their visibilities; and (L, B, 3) unit vectors.
    """
    axes = crop_axes(region)  # (L, 2, 2)
    metres = np.concatenate([metres[..., :2] @ axes, metres[..., 2:]], -1)
    places = kp2d[..., :2] - kp2d[:, HIPS, :2].mean(1, keepdims=True)
    places = 2 * places @ axes / np.maximum(region[:, 2, None, None], 1)
    seen = unit(BONES_OF_LANDMARKS @ metres)
    parts = (seen, metres, places, kp2d[..., 2])
    return np.concatenate([part.reshape(len(metres), -1) for part in parts], 1), seen


def unit(vectors: Float) -> Float:
    """Scale vectors (..., 3) to length 1."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Float = vectors / np.maximum(length, 1e-6)
    return scaled
