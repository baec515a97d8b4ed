"""The network once more, plainly: every window on its own, nothing shared, whole bodies skinned.

Slow and independent of the shortcuts in staf_cli.model.staf: APM averages the encoder's maps,
all nine frames go through the whole pyramid, maps are sampled before the point MLP, and each
MLP concatenates its input again as the paper's code does.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, leaky_relu, linear, relu

from staf_cli.body.skinning import Body
from staf_cli.core.geometry import project_to_crop
from staf_cli.model.pyramid import PointMLP, sampling_grid
from staf_cli.model.regressor import Theta
from staf_cli.model.staf import STAF


def recover_window(network: STAF, body: Body, features: Tensor) -> Theta:
    """Encoder maps of one window (9, C, 7, 7) -> the target's last Theta (1 row)."""
    architecture = network.architecture
    phi = features.clone()
    if architecture.apm:
        phi[4] = features.mean(0)
    fused_at = max(architecture.tcfm or 0, architecture.safm or 0)
    if not fused_at:
        phi = phi[4:5]
    theta: Theta = network.mean(len(phi))
    assert body.arrays.sample_index is not None
    for level in (1, 2, 3):
        pyramid = network.pyramid
        phi = relu(pyramid.norm[level - 1](pyramid.deconv[level - 1](phi)))
        if level == 1:
            points = sampling_grid().expand(len(phi), -1, -1)
        else:
            whole, _ = body(theta.rotmats, theta.betas)
            picked = whole[:, body.arrays.sample_index[:, 0]]
            points = project_to_crop(picked, theta.pred_cam)
        taken = grid_sample(phi, points[:, :, None], align_corners=True)[..., 0].transpose(1, 2)
        feature = point_mlp(network.sampler[level - 1], taken)
        if architecture.tcfm == level:
            assert network.tcfm is not None
            feature = network.tcfm(feature[None])[0]
        if architecture.safm == level:
            assert network.safm is not None
            feature = network.safm(feature[None])
        if fused_at == level:
            theta = theta[4:5]
            phi = phi[4:5]
            feature = feature if len(feature) == 1 else feature[4:5]
        theta = network.regressor[level - 1](feature, theta)
    return theta


def point_mlp(mlp: PointMLP, points: Tensor) -> Tensor:
    """f of Eq. 2 by concatenation: (N, P, 256) -> (N, 5 P), channel-major."""
    activations: tuple[Callable[[Tensor], Tensor], ...] = (leaky_relu, leaky_relu, relu)
    x = points
    for number, (layer, activation) in enumerate(zip(mlp.layer, activations, strict=True)):
        joined = torch.cat([x, points], -1) if number else x
        x = activation(linear(joined, layer.weight, layer.bias))
    return x.transpose(1, 2).flatten(1)
