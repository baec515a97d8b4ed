"""The STAF network, put together (paper 3.4, Figure 3).

For one window of T = 9 frames with the target in the middle, N~ = 431 and C_m = 5:

    phi_0 = encoder(images)                          3.2       (9, 2048, 7, 7)
    phi_0 of the target = mean of the nine           APM, Eq. 9
    phi_1 = DeConv_1(phi_0)                          Eq. 1     (9, 256, 14, 14)
    phi^m_1 = f(phi_1 at the points of the grid)     Eq. 2     (9, 2205)
    phi^m_1 = TCFM(phi^m_1)                          3.3.1     (9, 2205)
    Theta_1 = Regressor_1(phi^m_1, Theta_0)                    9 rows
    phi_2 = DeConv_2(phi_1)                          Eq. 1     (9, 256, 28, 28)
    phi^m_2 = f(phi_2 at X_1, the mesh of Theta_1)   Eq. 2, 3  (9, 2155)
    phi^m_2,ref = SAFM(phi^m_2)                      3.3.2     (1, 2155)
    Theta_2 = Regressor_2(phi^m_2,ref, Theta_1 of the target)  1 row
    phi_3 = DeConv_3(phi_2 of the target)            Eq. 1     (1, 256, 56, 56)
    phi^m_3 = f(phi_3 at X_2)                        Eq. 2, 3  (1, 2155)
    Theta_3 = Regressor_3(phi^m_3, Theta_2)                    1 row, the result

What a frame contributes to all nine windows that contain it is computed once (`frame_maps`), the
rest for every window (`recover`); the values are the same.

Shapes: B windows, N frames, P points, S = 5 P numbers in a feature, H = 7 * 2^k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from staf_cli.body.format import SAMPLES
from staf_cli.body.skinning import Body, BodyPoints, dense_regressor
from staf_cli.checkpoints.format import Checkpoint
from staf_cli.core.devices import send
from staf_cli.core.errors import WeightsError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_rot6d, project_to_crop
from staf_cli.model import blazepose
from staf_cli.model.backbone import CHANNELS, build_encoder
from staf_cli.model.hmr import HMR, PooledArchitecture
from staf_cli.model.mpsnet import MPSNet
from staf_cli.model.network import WindowNetwork
from staf_cli.model.pyramid import (
    GRID_POINTS,
    MESH_POINTS,
    POINT_FEATURES,
    PointMLP,
    Pyramid,
    sample,
    sample_rows,
    sampling_grid,
)
from staf_cli.model.regressor import MeanParameters, Regressor, Theta
from staf_cli.model.temporal import SAFM, TARGET, TCFM, WINDOW

FRAMES_AT_ONCE = 16  # whose points are sampled


@dataclass(frozen=True)
class Architecture:
    """What the paper's ablation (Tables 4 and 6) varies; the defaults are the full STAF.

    Without APM, TCFM and SAFM it is the paper's base model, which sees the target frame only.

    Raises:
        WeightsError: The combination cannot be built.
    """

    encoder: str = "resnet50"
    apm: bool = True
    tcfm: int | None = 1  # pyramid level (1, 2, 3) of the module; None leaves it out
    safm: int | None = 2  # the same

    def __post_init__(self) -> None:
        """Check that the modules fit together."""
        for name, level in (("tcfm", self.tcfm), ("safm", self.safm)):
            if level not in (None, 1, 2, 3):
                raise WeightsError(f"{name} at level {level!r}: levels are 1, 2, 3 or none")
        if self.tcfm and self.safm and self.safm < self.tcfm:
            raise WeightsError(
                f"tcfm at level {self.tcfm} needs nine frames, but safm at level {self.safm} "
                "leaves only one: put safm at the same level or above"
            )

    @property
    def last_fusion(self) -> int:
        """The level up to which all nine frames are used; 0: the target alone."""
        return max(self.tcfm or 0, self.safm or 0)


@dataclass(frozen=True, eq=False)
class FrameMaps:
    """What a frame contributes to every window that contains it, for N frames.

    Only levels up to the last fusion are kept; the grid's features when there is any fusion.
    """

    deconv1: Tensor  # (N, 256, 14, 14) the linear half of DeConv_1
    grid: Tensor | None  # (N, 2205) phi^m_1, before TCFM
    products: tuple[Tensor, ...]  # (N, H, H, 197) phi_2, phi_3 after PointMLP.multiply

    def __getitem__(self, rows: slice | Tensor) -> "FrameMaps":
        """Return some of the frames."""
        grid = None if self.grid is None else self.grid[rows]
        return FrameMaps(self.deconv1[rows], grid, tuple(level[rows] for level in self.products))


def stack_frames(frames: Sequence[FrameMaps]) -> FrameMaps:
    """Join the maps of several frames into one batch, in their order."""
    grids = [frame.grid for frame in frames if frame.grid is not None]
    levels = zip(*(frame.products for frame in frames), strict=True)
    return FrameMaps(
        torch.cat([frame.deconv1 for frame in frames]),
        torch.cat(grids) if grids else None,
        tuple(torch.cat(level) for level in levels),
    )


class STAF(WindowNetwork):
    """Nine frames of one person's crops -> the target frame's SMPL parameters.

    Encoder and pyramid may be in float16 or bfloat16, and the maps' products with the point MLPs
    with them; the rest stays in float32.
    """

    def __init__(self, architecture: Architecture, samples: BodyPoints) -> None:
        """Build the network with random weights.

        Args:
            architecture: Encoder and modules.
            samples: D of Eq. 3: the mesh's 431 points of the body that the weights belong to.
        """
        super().__init__()
        self.architecture = architecture
        sizes = [POINT_FEATURES * n for n in (GRID_POINTS, MESH_POINTS, MESH_POINTS)]
        self.encoder = build_encoder(architecture.encoder)
        self.pyramid = Pyramid(CHANNELS[architecture.encoder])
        self.sampler = cast("list[PointMLP]", nn.ModuleList(PointMLP() for _ in sizes))
        self.tcfm = TCFM(sizes[architecture.tcfm - 1]) if architecture.tcfm else None
        self.safm = SAFM(sizes[architecture.safm - 1]) if architecture.safm else None
        self.regressor = nn.ModuleList(Regressor(size) for size in sizes)
        self.mean = MeanParameters()
        self.samples = samples

    @property
    def convolutions(self) -> tuple[nn.Module, ...]:
        """The parts that may be in float16 or bfloat16."""
        return (self.encoder, self.pyramid)

    @property
    def coherence(self) -> TCFM | None:
        """TCFM."""
        return self.tcfm

    @property
    def integration(self) -> SAFM | None:
        """SAFM."""
        return self.safm

    def base_model(self, phi_0: Tensor, levels: int = 3) -> tuple[list[Theta], Tensor]:
        """Run the base model (paper 4.2), every frame alone, up to a level of the pyramid.

        Args:
            phi_0: (N, C_0, 7, 7) encoder maps.
            levels: k, 0 to 3.

        Returns:
            Theta_1 to Theta_k (N rows each), and phi_k (N, C_k, H, H).
        """
        phi, theta = phi_0, self.mean(len(phi_0))  # Theta_0
        thetas = []
        for level in range(1, levels + 1):
            phi = self.pyramid(level, phi)  # (N, 256, H, H)
            feature = self.point_features(level, phi, theta)  # (N, S)
            theta = self.regressor[level - 1](feature, theta.detach())
            thetas.append(theta)
        return thetas, phi

    def point_features(self, level: int, phi: Tensor, theta: Theta) -> Tensor:
        """Compute phi^m_k of Eq. 2.

        Args:
            level: k, 1 to 3.
            phi: (N, 256, H, H) phi_k.
            theta: Theta_{k-1}, N rows.

        Returns:
            (N, S)
        """
        points = sample(phi.float(), self._points(level, theta))  # (N, P, 256)
        feature: Tensor = self.sampler[level - 1](points)
        return feature

    def frame_maps(self, phi_0: Tensor) -> FrameMaps:
        """Compute what the windows of a frame share.

        Args:
            phi_0: (N, C_0, 7, 7) encoder maps.

        Returns:
            The maps of N frames.
        """
        deconv1 = self.pyramid.deconvolve(1, phi_0)  # (N, 256, 14, 14)
        if self.architecture.last_fusion == 0:
            return FrameMaps(deconv1, None, ())
        phi = self.pyramid.activate(1, deconv1)  # (N, 256, 14, 14) phi_1
        rows = torch.arange(len(phi), device=phi.device)
        grid = self._features(1, self._products(1, phi), rows, self._grid(len(phi)))  # (N, 2205)
        products = []
        for level in range(2, self.architecture.last_fusion + 1):
            phi = self.pyramid(level, phi)  # (N, 256, H, H) phi_k
            products.append(self._products(level, phi))
        return FrameMaps(deconv1, grid, tuple(products))

    def stack(self, frames: Sequence[FrameMaps]) -> FrameMaps:
        """Join the maps of several frames into one batch, in their order."""
        return stack_frames(frames)

    def recover(self, maps: FrameMaps, windows: Tensor) -> tuple[Theta, Theta, Theta]:
        """Recover the target frames of whole windows from the maps of their frames.

        Args:
            maps: Of N frames; windows may share them.
            windows: (B, 9) int64 rows of the maps.

        Returns:
            Theta_1, Theta_2, Theta_3. Theta_3 is the result, B rows. Theta_k has 9 B rows (a
            window's frames together) below the last fusion module, and B rows from there on.
        """
        last_fusion = self.architecture.last_fusion
        windows = windows.to(maps.deconv1.device)
        phi = self.pyramid.activate(1, self._apm(maps, windows))  # (B, 256, 14, 14) the target's
        theta = self.mean(windows.numel() if last_fusion else len(phi))  # Theta_0
        thetas = []
        for level in (1, 2, 3):
            if 1 < level <= max(2, last_fusion):
                phi = self.pyramid(level, phi)  # (B, 256, H, H) phi_k of the target, Eq. 1
            if level <= last_fusion:
                window = self._window_features(level, maps, windows, phi, theta)  # (B, 9, S)
                feature = self._fuse(level, window)  # (9 B, S); (B, S) at the last fusion
            elif level < 3:
                feature = self.point_features(level, phi, theta)  # (B, S)
            else:  # nothing else needs phi_3
                points = self.pyramid.sample(level, phi, self._points(level, theta))  # (B, P, 256)
                feature = self.sampler[level - 1](points)  # (B, S)
            if level == last_fusion:
                theta = theta[TARGET::WINDOW]  # B rows: from here on the target alone
            theta = self.regressor[level - 1](feature, theta.detach())  # Theta_k
            thetas.append(theta)
        return thetas[0], thetas[1], thetas[2]

    def _apm(self, maps: FrameMaps, windows: Tensor) -> Tensor:
        """The linear half of DeConv_1 of the target (B, 256, 14, 14), after APM if there is one."""
        # APM puts the mean of the nine phi_0 in the target's place (Eq. 9). This half of DeConv_1
        # is linear, so the mean of its nine outputs is the same.
        if not self.architecture.apm:
            return maps.deconv1[windows[:, TARGET]]
        deconv1 = maps.deconv1.movedim(1, -1)  # (N, 14, 14, 256)
        share = one_hot(windows, len(deconv1)).sum(1).float() / WINDOW  # (B, N)
        mean = share @ deconv1.flatten(1).float()  # (B, 50176)
        return mean.to(deconv1.dtype).view(-1, *deconv1.shape[1:]).movedim(-1, 1)

    def _window_features(
        self, level: int, maps: FrameMaps, windows: Tensor, target_phi: Tensor, theta: Theta
    ) -> Tensor:
        """phi^m_k of all nine frames (B, 9, S), the target's from its own phi_k."""
        target = self._products(level, target_phi)  # (B, H, H, 197)
        rows = torch.arange(len(target), device=target.device)
        if level == 1:
            assert maps.grid is not None
            grid = self._features(1, target, rows, self._grid(len(target)))  # (B, 2205)
            return _replace_target(maps.grid[windows], grid)
        products = torch.cat([maps.products[level - 2], target])  # (N + B, H, H, 197)
        windows = _replace_target(windows, len(maps.deconv1) + rows)  # (B, 9)
        points = self._points(level, theta)  # (9 B, 431, 2)
        return _by_window(self._features(level, products, windows.flatten(), points))

    def _fuse(self, level: int, feature: Tensor) -> Tensor:
        """The level's TCFM, then SAFM: (B, 9, S) -> (9 B, S); at the last the target's (B, S)."""
        if self.tcfm is not None and level == self.architecture.tcfm:
            feature = self.tcfm(feature)  # (B, 9, S) Z_ref
        if self.safm is not None and level == self.architecture.safm:
            return self.safm(feature)  # type: ignore[no-any-return]
        if level == self.architecture.last_fusion:
            return feature[:, TARGET]
        return feature.flatten(0, 1)

    def _points(self, level: int, theta: Theta) -> Tensor:
        """Where to sample phi_k (N, P, 2): the grid at level 1, else X_{k-1} of Eq. 3."""
        if level == 1:
            return self._grid(len(theta.betas))
        theta = theta.detach()
        vertices, _ = self.samples(theta.rotmats, theta.betas)  # (N, 431, 3) m, D(M)
        return project_to_crop(vertices, theta.pred_cam)

    def _grid(self, n: int) -> Tensor:
        return send(sampling_grid(), self.mean.cam.device).expand(n, -1, -1)  # (N, 441, 2)

    def _products(self, level: int, phi: Tensor) -> Tensor:
        """phi_k (N, 256, H, H) -> its PointMLP products (N, H, H, 197) in float32."""
        return self.sampler[level - 1].multiply(phi.movedim(1, -1)).float()

    def _features(self, level: int, products: Tensor, row: Tensor, points: Tensor) -> Tensor:
        """phi^m_k (M, S) of Eq. 2 from products (N, H, H, 197), of these rows at (M, P, 2)."""
        # A few at a time: what is sampled of them stays in the processor's cache.
        parts = (torch.split(rows, FRAMES_AT_ONCE) for rows in (row, points))
        finish = self.sampler[level - 1].finish
        features = [finish(sample_rows(products, *part)) for part in zip(*parts, strict=True)]
        return torch.cat(features)


def _by_window(frames: Tensor) -> Tensor:
    """(9 B, ...) -> (B, 9, ...)."""
    return frames.reshape(-1, WINDOW, *frames.shape[1:])


def _replace_target(frames: Tensor, target: Tensor) -> Tensor:
    """Frames (B, 9, ...) with the target's (B, ...) put in; the input stays as it is."""
    return torch.cat([frames[:, :TARGET], target[:, None], frames[:, TARGET + 1 :]], 1)


def build_network(
    architecture: Architecture | PooledArchitecture, samples: BodyPoints
) -> STAF | HMR:
    """Build a network with random weights.

    Args:
        architecture: STAF's, or one of Table 5.
        samples: STAF's 431 points; the others do not sample.

    Returns:
        The network.
    """
    if isinstance(architecture, Architecture):
        return STAF(architecture, samples)
    return (MPSNet if architecture.network == "mps-net" else HMR)(architecture)


def load_network(checkpoint: Checkpoint, body: Body) -> STAF | HMR:
    """Build the network of a checkpoint, ready to infer.

    Args:
        checkpoint: Weights, and the architecture that they are for.
        body: The body that the network was trained for.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        WeightsError: The body is another one, or a tensor is missing, superfluous or of another
            shape.
    """
    if checkpoint.body != body.identity:
        raise WeightsError(
            f"checkpoint {checkpoint.name} was trained for body {checkpoint.body}, "
            f"not for {body.identity}; give its own body with --body"
        )
    tensors = dict(checkpoint.tensors)
    try:
        index, weight = tensors.pop("samples.index"), tensors.pop("samples.weight")
    except KeyError as error:
        raise WeightsError(
            f"checkpoint {checkpoint.name} lacks {error}; import it again"
        ) from error
    if checkpoint.architecture.get("encoder") == blazepose.NAME:
        tensors = blazepose.with_trunk(tensors)
    tensors.pop("joints.extra_regressor", None)  # the release's joints for evaluation
    vertices = len(body.arrays.v_template)
    whole = index.dtype == torch.int64 and index.shape == weight.shape and index.ndim == 2
    if not whole or len(index) != SAMPLES or not ((index >= 0) & (index < vertices)).all():
        raise WeightsError(
            f"checkpoint {checkpoint.name} samples other points than the body has; import it again"
        )
    samples = body.points(dense_regressor(index.numpy(), weight.numpy(), vertices))
    kind = PooledArchitecture if "network" in checkpoint.architecture else Architecture
    architecture = kind(**checkpoint.architecture)  # type: ignore[arg-type]
    with torch.device("meta"):  # random weights would be replaced at once
        network = build_network(architecture, samples)
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"checkpoint {checkpoint.name} does not fit: {reason}") from error
    return network.eval()


def mean_pose_network(body: Body) -> STAF:
    """Build an untrained full STAF that returns the mean pose for every image.

    The regressors' last layers are zero, so the result is Theta_0: a person who stands upright
    before the camera, arms lowered. It is used where a body has no trained weights.

    Args:
        body: The body that it is for.

    Returns:
        The network in evaluation mode, on the CPU.
    """
    network = STAF(Architecture(), body.sample_points())
    rotvecs = torch.zeros(24, 3)
    rotvecs[0, 0] = torch.pi  # the body's y points up, the camera's down
    rotvecs[16, 2], rotvecs[17, 2] = -1.1, 1.1  # shoulders
    network.mean.pose.copy_(matrix_to_rot6d(axis_angle_to_matrix(rotvecs)).flatten())
    for regressor in network.regressor:
        for head in ("decpose", "decshape", "deccam"):
            layer = regressor.get_submodule(head)
            for parameter in layer.parameters():
                torch.nn.init.zeros_(parameter)
    return network.eval()
