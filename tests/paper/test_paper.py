"""What the paper's tables count and its figures show, and the commands' complaints."""

import numpy as np
import pytest
import torch

from staf_cli import video
from staf_cli.core import progress
from staf_cli.core.errors import UsageError
from staf_cli.core.records import Track
from staf_cli.evaluation.published import row_of
from staf_cli.model.staf import STAF, Architecture
from staf_cli.paper.costs import costs
from staf_cli.paper.figures import draw_all
from staf_cli.paper.window import Window, accelerations, find_track, look_inside, read_window
from staf_cli.recovery.engine import Settings, prepare
from tests.support.made_networks import golden_body, random_network

CPU = Settings(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def network():
    return prepare(random_network(Architecture("resnet18")), CPU)


@pytest.fixture(scope="module")
def window():
    random = np.random.default_rng(0)
    crops = random.integers(0, 255, (9, 224, 224, 3), np.uint8)
    return Window(1, tuple(range(40, 49)), crops, np.zeros((448, 448, 3), np.uint8))


def track_of(person: int, frames: list[int]) -> Track:
    n = len(frames)
    box = np.tile([100.0, 40, 220, 220], (n, 1))
    zeros = np.zeros(n)
    index = np.array(frames)
    return Track(person, index, index / 30, box, zeros + 1, zeros > 0, np.zeros((n, 17, 3)))


def test_costs_are_those_of_the_layers(network):
    rows = {row.module: row for row in costs(network)}
    assert rows["all"].parameters == sum(p.numel() for p in network.parameters())
    deconv1, deconv2 = 512 * 256 * 16 * 49, 256 * 256 * 16 * 196
    assert round(rows["deconvolutions"].window * 1e9) == 9 * deconv1 + 9 * deconv2 + deconv2
    assert round(rows["deconvolutions"].frame * 1e9) == deconv1 + deconv2 + deconv2
    tcfm = 4 * 9 * 2205 * 1102 + 9 * 9 * (2205 + 1102 + 1102)
    assert rows["TCFM"].window * 1e9 == pytest.approx(tcfm)
    assert rows["encoder"].frame == pytest.approx(rows["encoder"].window / 9)
    assert rows["all"].window == pytest.approx(
        sum(row.window for name, row in rows.items() if name != "all")
    )


def test_resnet50_has_the_parameters_of_the_authors_checkpoint():
    """The docs' count: 23.5 M of the ResNet and 32.0 M of everything else."""
    with torch.device("meta"):
        network = STAF(Architecture("resnet50"), golden_body().sample_points())
    encoder = sum(p.numel() for p in network.encoder.parameters())
    total = sum(p.numel() for p in network.parameters())
    assert (round(encoder / 1e6, 2), round(total / 1e6, 2)) == (23.51, 55.50)


@pytest.mark.parametrize(
    ("architecture", "name", "printed"),
    [
        (Architecture(), "base+APM+STAF", (48.0, 80.6, 95.3, 8.2)),
        (Architecture(apm=False, tcfm=None, safm=None), "base", (49.3, 83.5, 99.5, 27.5)),
        (Architecture(tcfm=None, safm=None), "base+APM", (48.4, 81.8, 96.9, 8.1)),
        (Architecture(apm=False), "base+STAF", (48.8, 82.3, 97.8, 24.7)),
        (Architecture(tcfm=2, safm=3), "TCFM2+SAFM3", (48.9, 82.2, 97.6, 8.4)),
        (Architecture(tcfm=None, safm=1), "SAFM1", (48.4, 81.3, 96.2, 8.2)),
        (Architecture(apm=False, tcfm=1, safm=None), "TCFM1 without APM", None),
    ],
)
def test_every_architecture_has_the_papers_row(architecture, name, printed):
    assert row_of(architecture) == (name, printed and (name, *printed))


def test_the_shares_are_those_that_make_the_features(network, window):
    seen = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
        for name, module in (("tcfm", network.tcfm), ("safm", network.safm))
    ]
    inside = look_inside(network, window, CPU)
    for hook in hooks:
        hook.remove()
    assert not network.tcfm._forward_pre_hooks and not network.safm._forward_pre_hooks
    assert inside.correlations is not None and inside.attention is not None
    features, fused = seen["safm"]
    mixed = torch.from_numpy(inside.attention).float() @ features[0]
    assert torch.allclose(mixed, fused[0], atol=1e-4)
    z_inp, z_ref = seen["tcfm"]
    m_g = torch.from_numpy(inside.correlations[2]).float()
    with torch.inference_mode():
        again = z_inp[0] + network.tcfm.mask(m_g @ network.tcfm.g(z_inp[0]))
    assert torch.allclose(again, z_ref[0], atol=1e-4)
    for matrix in inside.correlations:
        assert matrix.sum(1) == pytest.approx(np.ones(9))
    assert [len(theta.betas) for theta in inside.thetas] == [1, 1, 1, 1]


def test_figures_are_drawn_for_the_modules_that_there_are(network, window):
    base = prepare(random_network(Architecture("resnet18", tcfm=None, safm=None)), CPU)
    frames, curves = np.arange(5), {"one": np.array([np.nan, 1, 2, 3, np.nan])}
    drawn = {}
    for name, one in (("full", network), ("base", base)):
        inside = look_inside(one, window, CPU)
        drawn[name] = draw_all(window, inside, golden_body(), frames, curves)
    assert [*drawn["base"]] == ["fig7_regressors", "fig9_acceleration"]
    assert [*drawn["full"]] == [
        "fig4_correlations",
        "fig7_regressors",
        "fig8_attention",
        "fig9_acceleration",
    ]
    assert len(drawn["full"]["fig7_regressors"].axes) == 5
    bars = [patch.get_extents() for patch in drawn["full"]["fig8_attention"].axes[0].patches]
    assert len(bars) == 9 and all(bar.height > 0 for bar in bars)


def test_a_window_is_what_the_engine_looks_at_and_ends_stand_still(walking, network):
    clip = video.probe(walking)
    track = track_of(1, [*range(12)])
    middle = read_window(clip, track, 5, 1.1, progress.silent)
    assert middle.frames == tuple(range(1, 10)) and middle.crops.shape == (9, 224, 224, 3)
    end = read_window(clip, track, 11, 1.1, progress.silent)
    assert end.frames == (11,) * 9 and (end.crops == end.crops[0]).all()
    frames, curves = accelerations(
        clip, track, 5, network, golden_body(), 1.1, CPU, progress.silent
    )
    assert list(frames) == [*range(12)]
    windows, copies = curves.values()
    assert np.isnan(windows[[0, -1]]).all() and np.isfinite(windows[1:-1]).all()
    assert np.allclose(windows[1:3], copies[1:3], atol=0.1)  # before the first whole window


def test_the_person_and_frame_are_found_or_named():
    tracks = [track_of(1, [0, 1, 2]), track_of(4, [5, 6, 7, 8, 9, 20, 21])]
    assert find_track(tracks, None, None) == (tracks[1], 2)
    assert find_track(tracks, 4, 20) == (tracks[1], 5)
    with pytest.raises(UsageError, match="--person 2: is not in the result; choose from 1, 4"):
        find_track(tracks, 2, None)
    for frame in (4, 12, 22, -1):
        with pytest.raises(UsageError, match=r"not seen there, but in frames 5 to 21 with gaps"):
            find_track(tracks, 4, frame)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("tables", "nowhere"), 2, "give them with --weights"),
        (("tables", "-o", "here"), 2, "--output gets what is measured on a DATASET"),
        (("tables", "nowhere", "--weights", "staf-open"), 1, "no such folder of clips"),
        (("tables", "--weights", "nothing"), 1, "nothing"),
        (("figures", "nowhere", "-o", "here"), 1, "no finished result"),
    ],
)
def test_bad_input_is_one_line(staf, tmp_path, monkeypatch, words, code, line):
    monkeypatch.chdir(tmp_path)
    ended, _, err = staf("paper", *words)
    assert ended == code
    assert err.startswith("error: ") and err.count("\n") == 1 and line in err
    assert not [*tmp_path.iterdir()]
