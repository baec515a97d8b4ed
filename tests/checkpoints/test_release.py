"""The authors' two files, made from the golden seed in their layout, into one of ours."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.checkpoints.release import (
    convert_encoder,
    convert_temporal,
    import_release,
    sparse_rows,
)
from staf_cli.core import torchvision_ops
from staf_cli.core.errors import WeightsError
from tests.support import golden

torchvision_ops.ensure()
from torchvision.models import resnet50  # noqa: E402

RENAMED = {  # ours: the authors', a sample of every kind
    "pyramid.deconv.0.weight": "deconv_layers.0.weight",
    "pyramid.deconv.2.weight": "deconv_layers.6.weight",
    "pyramid.norm.0.running_var": "deconv_layers.1.running_var",
    "pyramid.norm.2.bias": "deconv_layers.7.bias",
    "sampler.1.layer.2.weight": "maf_extractor.1.conv2.weight",
    "sampler.2.layer.0.bias": "maf_extractor.2.conv0.bias",
    "tcfm.theta.weight": "tcfm.nonlocalblock.conv_theta.weight",
    "tcfm.phi.weight": "tcfm.nonlocalblock.conv_phi.weight",
    "tcfm.g.weight": "tcfm.nonlocalblock.conv_g.weight",
    "tcfm.mask.weight": "tcfm.nonlocalblock.conv_mask.weight",
    "tcfm.fuse": "tcfm.nonlocalblock.conv_mask_forR.weight",
    "safm.reduce.bias": "safm.nonlocalblock.attention.fc.bias",
    "safm.attend.4.weight": "safm.nonlocalblock.attention.attention.4.weight",
    "regressor.2.fc1.weight": "regressor.2.fc1.weight",
    "regressor.1.deccam.bias": "regressor.1.deccam.bias",
    "mean.pose": "regressor.0.init_pose",
    "mean.shape": "regressor.0.init_shape",
    "mean.cam": "regressor.0.init_cam",
    "joints.extra_regressor": "regressor.0.smpl.J_regressor_extra",
}


@pytest.fixture(scope="module")
def encoder():
    with torch.device("meta"):
        layout = resnet50().state_dict()
    shapes = {name: tensor.shape for name, tensor in layout.items() if not name.startswith("fc.")}
    return golden.encoder_state(shapes)


@pytest.fixture
def state():
    return dict(golden.release_state())


@pytest.fixture(scope="module")
def imported(tmp_path_factory, encoder):
    folder = golden.write_release(
        tmp_path_factory.mktemp("release"), golden.release_state(), encoder
    )
    return import_release(folder, folder / "out" / "it.safetensors")


def test_every_number_arrives_under_our_name(imported, state, encoder):
    checkpoint = load_checkpoint(imported)
    ours = checkpoint.tensors
    for name, theirs in RENAMED.items():
        assert torch.equal(ours[name].flatten(), state[theirs].flatten()), name
    for name, tensor in encoder.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(ours[f"encoder.{name}"], tensor)
    # The paper counts 23.5 M + 32.0 M parameters; nothing may be lost, nothing counted twice.
    learned = sum(int(np.prod(shape)) for shape in golden.learned_shapes().values())
    kept = {n: t for n, t in ours.items() if not n.startswith(("samples", "joints", "mean"))}
    temporal = sum(t.numel() for n, t in kept.items() if not n.startswith("encoder."))
    assert temporal == learned and round(learned / 1e6, 1) == 32.0
    statistics = [t.numel() for n, t in kept.items() if "encoder" in n and "running" in n]
    total = sum(t.numel() for n, t in kept.items() if "encoder" in n)
    assert round((total - sum(statistics)) / 1e6, 1) == 23.5
    assert not any(name.endswith("num_batches_tracked") for name in ours)
    assert all(1 not in t.shape for n, t in ours.items() if n.startswith(("tcfm", "sampler")))
    assert ours["tcfm.fuse"].shape == (2,) and ours["mean.pose"].shape == (144,)


def test_it_names_its_architecture_body_and_licence(imported):
    checkpoint = load_checkpoint(imported)
    assert checkpoint.architecture == {"encoder": "resnet50", "apm": True, "tcfm": 1, "safm": 2}
    assert checkpoint.body == f"smpl-neutral {golden.body().hash}"
    assert checkpoint.crop_scale == 1.1
    assert "MIT" in checkpoint.licence


def test_the_sampled_points_are_those_of_the_dense_matrix():
    rows = torch.zeros(431, 6890)
    generator = torch.Generator().manual_seed(1)
    for row in rows:
        count = int(torch.randint(1, 6, (1,), generator=generator))
        row[torch.randperm(6890, generator=generator)[:count]] = torch.rand(
            count, generator=generator
        )
    index, weight = sparse_rows(rows)
    assert index.shape == weight.shape == (431, 5) and index.dtype == torch.int64
    vertices = torch.randn(6890, 3, generator=generator)
    mixed = (vertices[index] * weight[..., None]).sum(1)
    assert torch.allclose(mixed, rows @ vertices, atol=1e-5)


def spoil(key, change):
    def damage(state):
        state[key] = change(state[key].clone())

    return damage


def put_nan(tensor):
    tensor[0] = float("nan")
    return tensor


def drop(key):
    return lambda state: state.pop(key)


def empty_row(state):
    for stage in range(3):
        state[f"maf_extractor.{stage}.Dmap"] = state["maf_extractor.0.Dmap"].clone()
        state[f"maf_extractor.{stage}.Dmap"][7] = 0


def dense_row(state):
    for stage in range(3):
        state[f"maf_extractor.{stage}.Dmap"] = state["maf_extractor.0.Dmap"].clone()
        state[f"maf_extractor.{stage}.Dmap"][7, :65] = 1 / 65


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (drop("regressor.1.fc2.bias"), r"regressor\.1\.fc2\.bias is missing"),
        (drop("regressor.0.init_cam"), r"regressor\.0\.init_cam is missing"),
        (drop("maf_extractor.2.Dmap"), r"maf_extractor\.2\.Dmap is missing"),
        (drop("regressor.0.smpl.v_template"), r"v_template is missing"),
        (drop("deconv_layers.4.running_mean"), r"running_mean is missing"),
        (spoil("regressor.2.fc1.weight", lambda t: t[:, 1:]), r"\(1024, 2311\)"),
        (spoil("tcfm.nonlocalblock.conv_g.weight", lambda t: t[..., 0]), r"\(1102, 2205\)"),
        (spoil("deconv_layers.0.weight", lambda t: t.double()), r"torch\.float64"),
        (spoil("maf_extractor.1.conv0.weight", put_nan), "not finite"),
        (spoil("maf_extractor.1.Dmap", lambda t: t.flip(0)), "three Dmaps differ"),
        (empty_row, "mixed from none"),
        (dense_row, "mixed from none or from 6[56]"),
        (lambda s: s.update({"regressor.3.fc1.weight": torch.ones(1)}), r"3\.fc1.* is unknown"),
        (lambda s: s.update({"extra.smpl.weight": torch.ones(1)}), r"extra\.smpl.* is unknown"),
    ],
)
def test_damaged_temporal_weights_are_refused_by_name(state, damage, reason):
    damage(state)
    with pytest.raises(WeightsError, match=reason):
        convert_temporal(state)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (drop("layer4.2.conv3.weight"), r"layer4\.2\.conv3\.weight is missing"),
        (spoil("conv1.weight", lambda t: t[:, :1]), r"conv1\.weight has shape"),
        (lambda s: s.update({"layer5.weight": torch.ones(1)}), r"layer5\.weight' is unknown"),
        (lambda s: s.update({"fc.weight": torch.ones(1)}), r"fc\.weight' is unknown"),
    ],
)
def test_a_damaged_encoder_is_refused_by_name(encoder, damage, reason):
    state = dict(encoder)  # whole, it is read by the import above
    damage(state)
    with pytest.raises(WeightsError, match=reason):
        convert_encoder(state)


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_pair(folder, temporal=None, base=None):
    """Two small files: enough for what is refused before any array is looked at."""
    torch.save(temporal or {"gen_state_dict": {"a": torch.ones(1)}}, folder / golden.CHECKPOINT)
    torch.save(base or {"model": {"a": torch.ones(1)}}, folder / golden.BASE)


def refusal(folder):
    with pytest.raises(WeightsError) as caught:
        import_release(folder, folder / "out.safetensors")
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert not list(folder.glob("*.safetensors"))
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    assert golden.CHECKPOINT in refusal(tmp_path)
    write_pair(tmp_path)
    (tmp_path / golden.BASE).unlink()
    assert f"has no {golden.BASE}" in refusal(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("which", [golden.CHECKPOINT, golden.BASE])
def test_code_in_the_pickle_is_refused_and_not_run(tmp_path, which, zipped):
    write_pair(tmp_path)
    canary = tmp_path / "canary"
    content = {"gen_state_dict": {}, "model": {}, "more": Canary(canary)}
    torch.save(content, tmp_path / which, _use_new_zipfile_serialization=zipped)
    assert "could run code" in refusal(tmp_path)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()  # the canary does sing


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_are_refused(tmp_path, seed):
    write_pair(tmp_path)
    path = tmp_path / golden.CHECKPOINT
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    if seed < 3:
        content = content[: generator.integers(len(content))]
    else:
        for place in generator.integers(len(content), size=20):
            content[place] ^= 0xFF
    path.write_bytes(content)
    refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"state_dict": {"a": torch.ones(1)}},
        {"gen_state_dict": [torch.ones(1)]},
        {"gen_state_dict": {"a": 1.0}},
        {"gen_state_dict": {1: torch.ones(1)}},
    ],
)
def test_other_contents_are_refused(tmp_path, content):
    write_pair(tmp_path, temporal=content)
    refusal(tmp_path)


@pytest.mark.parametrize("numpy", [b"numpy.core", b"numpy._core"])
def test_scores_saved_with_an_older_numpy_do_not_hinder(tmp_path, numpy):
    """The file goes on to be refused for its weights, not for the score beside them."""
    state = OrderedDict(a=torch.ones(1))
    write_pair(tmp_path, temporal={"performance": np.float32(52.1), "gen_state_dict": state})
    path = tmp_path / golden.CHECKPOINT
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name.endswith("data.pkl"):
                content = content.replace(b"cnumpy._core.multiarray", b"c" + numpy + b".multiarray")
                assert numpy + b".multiarray\nscalar" in content
            archive.writestr(name, content)
    assert "conv1.weight is missing" in refusal(tmp_path)
