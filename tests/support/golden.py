"""The seeded network, body and window behind data/golden_seed0.npz, in the authors' layout.

Nothing here is licensed: every array is drawn from a generator that is seeded with the array's
own name, so that the numbers do not depend on the order of calls. `expected` returns what the
authors' network computed from them for one window; tests compare ours with it.
"""

import math
import zlib
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.body.format import SMPL_PARENTS, BodyArrays
from tests.support.paths import DATA

Array = NDArray[np.float32]

V = 6890
POINTS = 431
FEATURES = (2205, 2155, 2155)  # what each stage samples: 5 numbers at 441 or 431 points
CHECKPOINT = "3dpw_model_best.pth.tar"
BASE = "base_model.pt"


def expected() -> dict[str, Array]:
    """The golden arrays: tcfm_in/out, safm_in/out/scores, theta, pose6d, verts, kp2d, kp3d."""
    with np.load(DATA / "golden_seed0.npz") as archive:
        return {name: archive[name] for name in archive.files}


@cache
def window() -> Array:
    """Encoder features (9, 2048, 7, 7) of one window; its frames resemble the target's."""
    raw = _scaled("features", 1, 9, 2048, 7, 7).clip(min=0)
    return np.asarray(np.float32(0.7) * raw[4:5] + np.float32(0.3) * raw, np.float32)


@cache
def body() -> BodyArrays:
    """A random body with SMPL's shapes; its 431 samples are those of `dmap`."""
    posedirs = _scaled("posedirs", 0.001, 207, 3 * V).reshape(207, V, 3)
    return BodyArrays(
        v_template=_scaled("v_template", 1, V, 3) * np.array([0.3, 0.6, 0.15], np.float32),
        shapedirs=_scaled("shapedirs", 0.01, V, 3, 10),
        posedirs=np.ascontiguousarray(posedirs.transpose(1, 2, 0)),
        J_regressor=_peaked("J_regressor", 24),
        weights=_peaked("lbs_weights", V, 24),
        parents=np.array(SMPL_PARENTS),
        faces=np.arange(V - V % 3).reshape(-1, 3),
        sample_index=dmap().argmax(1)[:, None],
        sample_weight=np.ones((POINTS, 1), np.float32),
    )


@cache
def extra_regressor() -> Array:
    """J_regressor_extra (9, 6890)."""
    return _peaked("J_regressor_extra", 9)


@cache
def dmap() -> Array:
    """The down-sampling (431, 6890), dense: each point is one vertex."""
    chosen = np.sort(_generator("Dmap").choice(V, POINTS, replace=False))
    return np.eye(V, dtype=np.float32)[chosen]


def mean_parameters() -> dict[str, Array]:
    """init_pose (1, 144), init_shape (1, 10) and init_cam (1, 3) of every regressor."""
    upright = np.array([1, 0, 0, 1, 0, 0] * 24, np.float32)
    return {
        "init_pose": upright + _scaled("init_pose", 0.1, 1, 144),
        "init_shape": _scaled("init_shape", 0.1, 1, 10),
        "init_cam": np.array([[0.9, 0, 0]], np.float32),
    }


def learned_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every learned array under the release's keys."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stage, width in enumerate((2048, 256, 256)):
        shapes[f"deconv_layers.{3 * stage}.weight"] = (width, 256, 4, 4)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"deconv_layers.{3 * stage + 1}.{name}"] = (256,)
        for layer, (outputs, inputs) in enumerate([(128, 256), (64, 384), (5, 320)]):
            shapes[f"maf_extractor.{stage}.conv{layer}.weight"] = (outputs, inputs, 1)
            shapes[f"maf_extractor.{stage}.conv{layer}.bias"] = (outputs,)
        linear = {
            "fc1": (1024, FEATURES[stage] + 157),
            "fc2": (1024, 1024),
            "decpose": (144, 1024),
            "decshape": (10, 1024),
            "deccam": (3, 1024),
        }
        for name, size in linear.items():
            shapes[f"regressor.{stage}.{name}.weight"] = size
            shapes[f"regressor.{stage}.{name}.bias"] = size[:1]
    attention = {"fc": (256, 2155)} | {
        f"attention.{layer}": size
        for layer, size in {0: (256, 768), 2: (256, 256), 4: (3, 256)}.items()
    }
    for name, size in attention.items():
        shapes[f"safm.nonlocalblock.attention.{name}.weight"] = size
        shapes[f"safm.nonlocalblock.attention.{name}.bias"] = size[:1]
    for name in ("conv_phi", "conv_theta", "conv_g"):
        shapes[f"tcfm.nonlocalblock.{name}.weight"] = (1102, 2205, 1)
    shapes["tcfm.nonlocalblock.conv_mask.weight"] = (2205, 1102, 1)
    shapes["tcfm.nonlocalblock.conv_mask_forR.weight"] = (1, 2, 1, 1)
    return shapes


def learned(key: str, shape: tuple[int, ...]) -> Array:
    """The seeded values under one of the release's keys."""
    part = key.split(".")
    if part[0] == "deconv_layers" and part[1] in ("1", "4", "7"):  # BatchNorm
        noise = _scaled(key, 0.1, *shape)
        if part[2] == "running_var":
            return 1 + abs(noise)
        return noise + np.float32(part[2] == "weight")
    if part[-1] == "bias":
        return _scaled(key, 0.05, *shape)
    # A transposed convolution k4 s2 reads for each output pixel 2 x 2 taps of every input channel.
    fan_in = 4 * shape[0] if part[0] == "deconv_layers" else math.prod(shape[1:])
    gain = 1.0
    if part[0] == "regressor" and part[2].startswith("dec"):
        gain = 0.3
    elif part[0] == "maf_extractor" and part[2] == "conv2":
        gain = 0.15
    elif part[0] == "safm" or "conv_mask_forR" in part:
        gain = 3.0
    return _scaled(key, gain / math.sqrt(fan_in), *shape)


@cache
def release_state() -> OrderedDict[str, torch.Tensor]:
    """`gen_state_dict` with all the keys of the authors' file, learned or not.

    A fresh copy of the dictionary is cheap (`OrderedDict(release_state())`); its tensors are
    shared between tests and must not be written to.
    """
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    grid = torch.linspace(-1, 1, 21)
    state["points_grid"] = torch.stack(torch.meshgrid(grid, grid, indexing="ij")).reshape(1, 2, 441)
    for key, shape in learned_shapes().items():
        state[key] = torch.from_numpy(learned(key, shape))
    dense = torch.from_numpy(dmap())
    for stage in range(3):
        state[f"deconv_layers.{3 * stage + 1}.num_batches_tracked"] = torch.tensor(22500)
        state[f"maf_extractor.{stage}.Dmap"] = dense
        for name, array in mean_parameters().items():
            state[f"regressor.{stage}.{name}"] = torch.from_numpy(array)
        for name, tensor in smpl_buffers().items():
            state[f"regressor.{stage}.smpl.{name}"] = tensor
    return state


@cache
def smpl_buffers() -> dict[str, torch.Tensor]:
    """The body's buffers as the authors' SMPL layer names and shapes them."""
    arrays = body()
    pose_blend = arrays.posedirs.reshape(3 * V, 207).T
    return {
        "betas": torch.zeros(1, 10),
        "global_orient": torch.zeros(1, 3),
        "body_pose": torch.zeros(1, 69),
        "shapedirs": torch.from_numpy(arrays.shapedirs),
        "faces_tensor": torch.from_numpy(arrays.faces),
        "v_template": torch.from_numpy(arrays.v_template),
        "J_regressor": torch.from_numpy(arrays.J_regressor),
        "posedirs": torch.from_numpy(np.ascontiguousarray(pose_blend)),
        "parents": torch.from_numpy(arrays.parents),
        "lbs_weights": torch.from_numpy(arrays.weights),
        "J_regressor_extra": torch.from_numpy(extra_regressor()),
        "vertex_joint_selector.extra_joints_idxs": torch.arange(21),
    }


def encoder_state(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Small random numbers for a ResNet's names and shapes; the golden window skips the ResNet."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.tensor(0)
        if name.endswith("num_batches_tracked")
        else torch.rand(shape, generator=generator) * 0.02 + 0.001
        for name, shape in shapes.items()
    }


def write_release(
    folder: Path,
    state: dict[str, torch.Tensor],
    encoder: dict[str, torch.Tensor],
) -> Path:
    """Save the two files as the authors' training code did; returns the folder."""
    torch.save(
        {"epoch": 20, "performance": np.float64(48.0), "gen_state_dict": OrderedDict(state)},
        folder / CHECKPOINT,
    )
    base = {f"feature_extractor.{name}": tensor for name, tensor in encoder.items()}
    base["regressor.0.fc1.weight"] = torch.zeros(2, 2)  # of the single-frame model: not used
    torch.save({"model": base}, folder / BASE)
    return folder


def _generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(f"0:{name}".encode())))


def _scaled(name: str, scale: float, *shape: int) -> Array:
    return (_generator(name).standard_normal(shape) * scale).astype(np.float32)


def _peaked(name: str, rows: int, columns: int = V) -> Array:
    """Non-negative rows that sum to one, most of it in a few places."""
    values = _generator(name).random((rows, columns)) ** 20
    return np.asarray(values / values.sum(1, keepdims=True), np.float32)
