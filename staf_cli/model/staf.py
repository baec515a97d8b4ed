"""The STAF network, put together as in the paper's section 3.4 and Figure 3."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from staf_cli.body.format import SAMPLES
from staf_cli.body.skinning import Body, BodyPoints, sample_regressor
from staf_cli.checkpoints.format import Checkpoint
from staf_cli.core.devices import send
from staf_cli.core.errors import WeightsError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_rot6d, project_to_crop
from staf_cli.model.backbone import CHANNELS, build_encoder
from staf_cli.model.pyramid import (
    GRID_POINTS,
    MESH_POINTS,
    POINT_FEATURES,
    PointMLP,
    Pyramid,
    sample,
    sampling_grid,
)
from staf_cli.model.regressor import MeanParameters, Regressor, Theta
from staf_cli.model.temporal import SAFM, TARGET, TCFM, WINDOW


@dataclass(frozen=True)
class Architecture:
    """What the paper's ablation (Tables 4 and 6) varies; the defaults are the full STAF.

    tcfm and safm name the pyramid level (1, 2, 3) at which the module sits, None leaves it out.
    Without APM, TCFM and SAFM it is the paper's base model, which sees the target frame only.
    Raises WeightsError for a combination that cannot be built.
    """

    encoder: str = "resnet50"
    apm: bool = True
    tcfm: int | None = 1
    safm: int | None = 2

    def __post_init__(self) -> None:
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
        """The level up to which all nine frames are looked at; 0: the target alone."""
        return max(self.tcfm or 0, self.safm or 0)


@dataclass(frozen=True)
class FrameMaps:
    """What a frame, on its own, brings to every window that it is in. N counts frames.

    Only levels up to the last fusion are kept; the grid's features when there is any fusion.
    """

    expanded: Tensor  # (N, 256, 14, 14) the first deconvolution's output before its norm
    grid: Tensor | None  # (N, 2205) phi^m_1, sampled on the grid
    projected: tuple[Tensor, ...]  # (N, 197, S, S) phi_2, phi_3 through PointMLP.project

    def __getitem__(self, rows: slice | Tensor) -> "FrameMaps":
        grid = None if self.grid is None else self.grid[rows]
        return FrameMaps(self.expanded[rows], grid, tuple(level[rows] for level in self.projected))


def stack_frames(frames: list[FrameMaps]) -> FrameMaps:
    """Join the maps of several frames into one batch."""
    grids = [frame.grid for frame in frames if frame.grid is not None]
    levels = zip(*(frame.projected for frame in frames), strict=True)
    return FrameMaps(
        torch.cat([frame.expanded for frame in frames]),
        torch.cat(grids) if grids else None,
        tuple(torch.cat(level) for level in levels),
    )


class STAF(nn.Module):
    """Nine frames of one person's crops -> the target frame's SMPL parameters.

    `samples` computes the mesh's 431 sampled vertices for the body the weights belong to.
    The convolutions (encoder and pyramid) may be put in float16; the rest stays in float32.
    """

    def __init__(self, architecture: Architecture, samples: BodyPoints) -> None:
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

    def forward(self, crops: Tensor) -> tuple[Theta, Theta, Theta]:
        """Windows of crops (B, 9, 3, 224, 224), normalised RGB -> Theta after each regressor.

        Theta_1 is of all nine frames (9 B rows, a window's frames together) when a fusion
        module works above level 1, else of the target; the last, Theta_3 (B rows), is the result.
        """
        return self.recover(self.frame_maps(self.encoder(crops.flatten(0, 1))))

    def climb(self, features: Tensor, levels: int = 3) -> tuple[list[Theta], Tensor]:
        """The base model (paper 4.2) on frames alone, up to a level of the pyramid.

        Encoder maps (N, C, 7, 7), phi_0 of N frames -> Theta_1 to Theta_k (N rows each) and
        phi_k (N, 256, 7 2^k, 7 2^k).
        """
        phi, theta = features, self.mean(len(features))
        thetas = []
        for level in range(1, levels + 1):
            phi = self.pyramid(level, phi)
            feature = self.point_features(level, phi, theta)
            theta = self.regressor[level - 1](feature, theta.detach())
            thetas.append(theta)
        return thetas, phi

    def point_features(self, level: int, phi: Tensor, theta: Theta) -> Tensor:
        """phi^m_k (N, 5 P) of Eq. 2: phi_k (N, 256, S, S) at the points of Theta_{k-1} (N rows)."""
        feature: Tensor = self.sampler[level - 1](sample(phi.float(), self._points(level, theta)))
        return feature

    def frame_maps(self, features: Tensor) -> FrameMaps:
        """Encoder maps (N, C, 7, 7), phi_0 of N frames -> what their windows share."""
        expanded = self.pyramid.expand(1, features)
        if self.architecture.last_fusion == 0:
            return FrameMaps(expanded, None, ())
        phi = self.pyramid.activate(1, expanded)
        grid = self._features(1, self._project(1, phi), self._grid_points(len(phi)))
        projected = []
        for level in range(2, self.architecture.last_fusion + 1):
            phi = self.pyramid(level, phi)
            projected.append(self._project(level, phi))
        return FrameMaps(expanded, grid, tuple(projected))

    def recover(self, maps: FrameMaps) -> tuple[Theta, Theta, Theta]:
        """Frame maps of B whole windows, 9 B rows, each window's together -> as `forward`."""
        fused_at = self.architecture.last_fusion
        phi = self.pyramid.activate(1, self._target_expanded(maps))  # the target's own phi_k
        theta = self.mean(len(maps.expanded) if fused_at else len(phi))  # Theta_0
        thetas = []
        for level in (1, 2, 3):
            if level > 1:
                phi = self.pyramid(level, phi)
            if level <= fused_at:
                feature = self._fuse(level, self._window_features(level, maps, phi, theta))
            else:
                feature = self.point_features(level, phi, theta)
            if level == fused_at:
                theta = theta[TARGET::WINDOW]
            theta = self.regressor[level - 1](feature, theta.detach())  # Theta_k
            thetas.append(theta)
        return thetas[0], thetas[1], thetas[2]

    def _target_expanded(self, maps: FrameMaps) -> Tensor:
        """The target's first deconvolution (B, 256, 14, 14), after APM if there is one.

        APM (Eq. 9) puts the mean of the nine phi_0 in the target's place. The deconvolution is
        linear up to its norm, so the mean of its nine outputs is the same.
        """
        expanded = _by_window(maps.expanded)
        return expanded.mean(1) if self.architecture.apm else expanded[:, TARGET]

    def _window_features(
        self, level: int, maps: FrameMaps, target_phi: Tensor, theta: Theta
    ) -> Tensor:
        """phi^m_k of all nine frames (B, 9, S), the target's from its own phi_k."""
        target = self._project(level, target_phi)
        if level == 1:
            assert maps.grid is not None
            feature = self._features(1, target, self._grid_points(len(target)))
            return _replace_target(_by_window(maps.grid), feature)
        projected = _replace_target(_by_window(maps.projected[level - 2]), target)
        return _by_window(
            self._features(level, projected.flatten(0, 1), self._points(level, theta))
        )

    def _fuse(self, level: int, feature: Tensor) -> Tensor:
        """The level's TCFM, then SAFM: (B, 9, S) -> (9 B, S); at the last the target's (B, S)."""
        if self.tcfm is not None and level == self.architecture.tcfm:
            feature = self.tcfm(feature)
        if self.safm is not None and level == self.architecture.safm:
            return self.safm(feature)  # type: ignore[no-any-return]
        return (
            feature[:, TARGET] if level == self.architecture.last_fusion else feature.flatten(0, 1)
        )

    def _points(self, level: int, theta: Theta) -> Tensor:
        """Where to sample phi_k: the grid at level 1, else the mesh of Theta_{k-1} (Eq. 3)."""
        if level == 1:
            return self._grid_points(len(theta.betas))
        theta = theta.detach()
        vertices, _ = self.samples(theta.rotmats, theta.betas)  # (N, 431, 3) m
        return project_to_crop(vertices, theta.pred_cam)

    def _grid_points(self, n: int) -> Tensor:
        return send(sampling_grid(), self.mean.cam.device).expand(n, -1, -1)

    def _project(self, level: int, phi: Tensor) -> Tensor:
        """phi_k (N, 256, S, S) -> its PointMLP products (N, 197, S, S), always in float32."""
        products = self.sampler[level - 1].project(phi.movedim(1, -1).float())
        return products.movedim(-1, 1)

    def _features(self, level: int, projected: Tensor, points: Tensor) -> Tensor:
        """phi^m_k (N, 5 P) of Eq. 2 from projected maps (N, 197, S, S) at points (N, P, 2)."""
        return self.sampler[level - 1].finish(sample(projected, points))


def _by_window(frames: Tensor) -> Tensor:
    """(9 B, ...) -> (B, 9, ...)."""
    return frames.reshape(-1, WINDOW, *frames.shape[1:])


def _replace_target(frames: Tensor, target: Tensor) -> Tensor:
    """Frames (B, 9, ...) with the target's (B, ...) put in; the shared ones stay untouched."""
    return torch.cat([frames[:, :TARGET], target[:, None], frames[:, TARGET + 1 :]], 1)


def load_network(checkpoint: Checkpoint, body: Body) -> STAF:
    """The network of a checkpoint, for the body it was trained for, ready to infer.

    Raises WeightsError when the body is another one, or when a tensor is missing, superfluous
    or of another shape.
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
    tensors.pop("joints.extra_regressor", None)  # the release's joints for evaluation
    vertices = len(body.arrays.v_template)
    whole = index.dtype == torch.int64 and index.shape == weight.shape and index.ndim == 2
    if not whole or len(index) != SAMPLES or not ((index >= 0) & (index < vertices)).all():
        raise WeightsError(
            f"checkpoint {checkpoint.name} samples other points than the body has; import it again"
        )
    samples = body.points(sample_regressor(index.numpy(), weight.numpy(), vertices))
    with torch.device("meta"):  # no time is spent on random weights that are replaced at once
        network = STAF(Architecture(**checkpoint.architecture), samples)  # type: ignore[arg-type]
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"checkpoint {checkpoint.name} does not fit: {reason}") from error
    return network.eval()


def mean_pose_network(body: Body) -> STAF:
    """An untrained full STAF that answers the mean pose for whatever it sees.

    The regressors' last layers are zero, so Theta_0 comes out as it went in: standing upright
    before the camera, arms lowered. It stands in until there are trained weights for a body.
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
