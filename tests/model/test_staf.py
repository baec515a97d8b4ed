"""The network against the golden values, a plain version of itself, and its ablations."""

import numpy as np
import pytest
import torch

from staf_cli.body.skinning import Body
from staf_cli.core.errors import WeightsError
from staf_cli.core.geometry import axis_angle_to_matrix, project_to_crop
from staf_cli.model.network import separate_windows
from staf_cli.model.pyramid import Pyramid, sample, sample_rows, sampling_grid
from staf_cli.model.staf import (
    STAF,
    Architecture,
    load_network,
    mean_pose_network,
    stack_frames,
)
from staf_cli.model.temporal import SAFM, TCFM
from tests.support import golden, plain_network
from tests.support.made_networks import (
    golden_body,
    golden_checkpoint,
    golden_network,
    random_network,
)

# The 49 joints of the authors' losses, as places among 24 SMPL joints, 21 vertices, 9 extra.
VERTEX_JOINTS = [332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787]
VERTEX_JOINTS += [2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133]
JOINTS_49 = [24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28]
JOINTS_49 += [29, 30, 31, 32, 33, 34, 8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20]
JOINTS_49 += [47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27]


def joints_49(vertices, joints):
    extra = torch.from_numpy(golden.extra_regressor()) @ vertices
    return torch.cat([joints, vertices[:, VERTEX_JOINTS], extra], 1)[:, JOINTS_49]


def recover_windows(network, phi_0):
    """Encoder maps of whole windows (9 B, C, 7, 7) -> Theta_1 to Theta_3."""
    return network.recover(network.frame_maps(phi_0), separate_windows(len(phi_0)))


@pytest.fixture(scope="module")
def golden_run():
    """The golden window through the network, with what went in and out of TCFM and SAFM."""
    network = golden_network()
    seen = {}
    for name in ("tcfm", "safm"):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update(
                {f"{name}_in": inputs[0], f"{name}_out": output}
            )
        )
    with torch.no_grad():
        thetas = recover_windows(network, torch.from_numpy(golden.window()))
        assert network.safm is not None
        three = network.safm.integrate(seen["safm_in"].reshape(1, 3, 3, -1))
        seen["safm_scores"] = network.safm.attention_weights(three)
    return seen, thetas


@pytest.mark.parametrize("name", ["tcfm_in", "tcfm_out", "safm_in", "safm_out", "safm_scores"])
def test_golden_features(golden_run, name):
    want = golden.expected()[name]
    got = golden_run[0][name].numpy().reshape(want.shape)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_golden_parameters_and_joints(golden_run, stage):
    want = golden.expected()
    theta = golden_run[1][stage - 1]
    wanted = want[f"theta{stage}"]
    assert np.abs(theta.pose6d.numpy() - want[f"pose6d{stage}"]).max() <= 1e-4
    assert np.abs(theta.pred_cam.numpy() - wanted[:, :3]).max() <= 1e-4
    assert np.abs(theta.betas.numpy() - wanted[:, 75:]).max() <= 1e-4
    rotations = axis_angle_to_matrix(torch.from_numpy(wanted[:, 3:75]).reshape(-1, 24, 3))
    assert (theta.rotmats - rotations).abs().max() <= 1e-4
    with torch.no_grad():
        vertices, joints = golden_body()(theta.rotmats, theta.betas)
    kp3d = joints_49(vertices, joints)
    kp2d = project_to_crop(kp3d, theta.pred_cam)
    assert np.abs(vertices[:, ::53].numpy() - want[f"verts{stage}"]).max() <= 1e-4
    assert np.abs(kp3d.numpy() - want[f"kp3d{stage}"]).max() <= 1e-4
    assert np.abs(kp2d.numpy() - want[f"kp2d{stage}"]).max() <= 1e-4


def buildable():
    levels = (None, 1, 2, 3)
    return [(t, s) for t in levels for s in levels if not (t and s and s < t)]


@pytest.mark.parametrize(
    ("apm", "tcfm", "safm"),
    [(True, *levels) for levels in buildable()] + [(False, None, None), (False, 1, 2)],
)
def test_every_ablation_equals_its_plain_version(apm, tcfm, safm):
    network = random_network(Architecture("resnet18", apm, tcfm, safm))
    features = torch.rand(18, 512, 7, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = recover_windows(network, features)[-1]
        for n in range(2):
            want = plain_network.recover_window(network, golden_body(), features[9 * n : 9 * n + 9])
            for name in ("pose6d", "betas", "pred_cam"):
                have = getattr(got, name)[n : n + 1]
                assert (have - getattr(want, name)).abs().max() <= 1e-4
    assert got.pose6d.std() > 1e-3  # the weights do something


def test_twelve_combinations_of_the_paper_build_and_the_others_are_refused():
    assert len(buildable()) - 1 == 12  # Table 6, and the one without either
    for tcfm, safm in [(2, 1), (3, 1), (3, 2)]:
        with pytest.raises(WeightsError, match="leaves only one"):
            Architecture(tcfm=tcfm, safm=safm)
    with pytest.raises(WeightsError, match="levels are 1, 2, 3"):
        Architecture(tcfm=4)
    with pytest.raises(WeightsError, match="resnet50"):
        STAF(Architecture(encoder="vgg16"), golden_body().sample_points())


def test_base_model_looks_at_the_target_alone_and_apm_at_all_nine():
    features = torch.rand(9, 512, 7, 7, generator=torch.Generator().manual_seed(2))
    other = features.clone()
    other[0] += 1
    for apm in (False, True):
        network = random_network(Architecture("resnet18", apm, None, None))
        with torch.no_grad():
            a, b = (recover_windows(network, x)[-1].pose6d for x in (features, other))
        assert torch.equal(a, b) is not apm


def test_windows_do_not_see_each_other():
    generator = torch.Generator().manual_seed(3)
    for module, size in ((TCFM(40), 40), (SAFM(40), 40)):
        windows = torch.randn(4, 9, size, generator=generator)
        with torch.no_grad():
            together = module(windows)
            alone = torch.cat([module(window[None]) for window in windows])
        assert (together - alone).abs().max() < 1e-6


def test_sampling_takes_pixel_centres_and_x_before_y():
    ramp = torch.stack(torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="xy"))
    points = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [0.0, 0.5]]])
    assert sample(ramp[None], points)[0].tolist() == [[0, 0], [4, 0], [2, 3]]
    grid = sampling_grid()
    assert grid[0].tolist() == [-1, -1]
    assert grid[1, 0] == -1
    assert grid[1, 1] > -1  # y runs first


def test_untrained_network_answers_an_upright_mean_pose():
    body = golden_body()
    network = mean_pose_network(body)
    with torch.no_grad():
        thetas = recover_windows(network, torch.rand(9, 2048, 7, 7))
    assert torch.equal(thetas[0].pose6d[:1], thetas[2].pose6d)
    up = thetas[2].rotmats[0, 0] @ torch.tensor([0.0, 1.0, 0.0])
    assert torch.allclose(up, torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)


def test_checkpoint_must_fit_network_and_body():
    checkpoint = golden_checkpoint()
    load_network(checkpoint, golden_body())
    arrays = golden.body()
    heavier = Body("golden", type(arrays)(**{**vars(arrays), "v_template": arrays.v_template * 2}))
    with pytest.raises(WeightsError, match="trained for body"):
        load_network(checkpoint, heavier)
    for change, complaint in [
        (lambda t: t.pop("regressor.1.fc1.bias"), "regressor.1.fc1.bias"),
        (lambda t: t.update(strange=torch.zeros(1)), "strange"),
        (lambda t: t.update({"mean.cam": torch.zeros(4)}), "mean.cam"),
        (lambda t: t.pop("samples.index"), "samples.index"),
    ]:
        broken = golden_checkpoint()
        change(broken.tensors)
        with pytest.raises(WeightsError, match=complaint):
            load_network(broken, golden_body())


def test_windows_that_share_frames_are_the_same_windows():
    network = random_network(Architecture("resnet18"))
    features = torch.rand(12, 512, 7, 7, generator=torch.Generator().manual_seed(4))
    windows = torch.arange(4)[:, None] + torch.arange(9)  # (4, 9)
    windows[3] = windows[3, 4]  # nine times one frame
    with torch.no_grad():
        shared = network.recover(network.frame_maps(features), windows)
        apart = recover_windows(network, features[windows.flatten()])
    for one, other in zip(shared, apart, strict=True):
        assert (one.pose6d - other.pose6d).abs().max() <= 1e-5


def test_rows_of_maps_are_sampled_as_the_maps_are():
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(3, 7, 14, 14, generator=generator)
    row = torch.tensor([2, 0, 2, 1])
    points = torch.rand(4, 50, 2, generator=generator) * 3 - 1.5  # some outside
    points[0, :4] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, 0.0], [1e9, -1e9]])
    got = sample_rows(maps.movedim(1, -1), row, points)
    assert (got - sample(maps[row], points)).abs().max() <= 1e-5


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_level_sampled_where_it_is_computed_equals_the_whole_level(level):
    network = random_network(Architecture("resnet18"))
    generator = torch.Generator().manual_seed(6)
    side = 7 * 2 ** (level - 1)
    below = torch.randn(3, (512, 256, 256)[level - 1], side, side, generator=generator)
    points = torch.rand(3, 60, 2, generator=generator) * 2.6 - 1.3  # some outside
    weight = network.pyramid.deconv[level - 1].weight
    one, other = (below.clone().requires_grad_() for _ in range(2))
    want = sample(network.pyramid(level, one), points)
    got = network.pyramid.sample(level, other, points)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    wanted = torch.autograd.grad(want.square().sum(), (one, weight))
    for have, true in zip(
        torch.autograd.grad(got.square().sum(), (other, weight)), wanted, strict=True
    ):
        assert (have - true).abs().max() <= 1e-5 * true.abs().max()


def test_stacked_frames_are_the_same_frames():
    network = random_network(Architecture("resnet18"))
    with torch.no_grad():
        maps = network.frame_maps(torch.rand(3, 512, 7, 7))
        again = stack_frames([maps[n : n + 1] for n in (0, 1, 2)])
    assert torch.equal(maps.deconv1, again.deconv1)
    assert maps.grid is not None and again.grid is not None
    assert torch.equal(maps.grid, again.grid)
    assert torch.equal(maps.products[0], again.products[0])


def test_the_first_deconvolution_trains_as_the_same_products():
    pyramid = Pyramid(40)
    below = torch.randn(2, 40, 7, 7, requires_grad=True)
    expected = pyramid.deconv[0](below)  # torch's own
    goal = torch.randn_like(expected)
    kernel = pyramid.get_parameter("deconv.0.weight")
    wanted = torch.autograd.grad((expected * goal).sum(), [below, kernel])
    found = pyramid.train().deconvolve(1, below)
    got = torch.autograd.grad((found.float() * goal).sum(), [below, kernel])
    assert found.dtype == torch.bfloat16
    for one, other in ((found.float(), expected), *zip(got, wanted, strict=True)):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 0.02 * other.abs().max()  # eight bits of bfloat16
