"""Body files: the way there and back, the hash, and everything that is no body."""

import dataclasses
import hashlib
import io
import os
import struct
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from staf_cli.body import format as body_format
from staf_cli.body.format import SMPL_PARENTS, BodyArrays, body_arrays, load_body, save_body
from staf_cli.core.errors import BodyError

V = 30


def small_body(**changes):
    generator = np.random.default_rng(0)
    weights = generator.random((V, 24))
    arrays = {
        "v_template": generator.standard_normal((V, 3)),
        "shapedirs": generator.standard_normal((V, 3, 10)),
        "posedirs": generator.standard_normal((V, 3, 207)),
        "J_regressor": generator.random((24, V)),
        "weights": weights / weights.sum(1, keepdims=True),
        "parents": np.array(SMPL_PARENTS),
        "faces": generator.integers(V, size=(40, 3)),
        "sample_index": generator.integers(V, size=(431, 2)),
        "sample_weight": generator.random((431, 2)),
        "coco17_regressor": generator.random((17, V)),
        "lsp14_regressor": generator.random((14, V)),
        "uv": generator.random((V + 5, 2)),
        "uv_faces": generator.integers(V + 5, size=(40, 3)),
    }
    return body_arrays(arrays | changes)


def same(a, b):
    for field in dataclasses.fields(BodyArrays):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert (x is None) == (y is None), field.name
        assert x is None or (x.dtype == y.dtype and np.array_equal(x, y)), field.name


def test_a_body_comes_back_as_it_went(tmp_path):
    body = small_body()
    save_body(body, tmp_path / "new" / "it.npz")
    same(body, load_body(tmp_path / "new" / "it.npz"))


def test_a_bare_body_without_pose_corrections_comes_back(tmp_path):
    extras = ("sample_index", "sample_weight", "coco17_regressor", "lsp14_regressor", "uv")
    body = dataclasses.replace(
        small_body(posedirs=np.zeros((V, 3, 207))), **dict.fromkeys((*extras, "uv_faces"), None)
    )
    save_body(body, tmp_path / "it.npz")
    with np.load(tmp_path / "it.npz") as archive:
        names = {"v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f"}
        assert set(archive.files) == names
        assert archive["kintree_table"].shape == (2, 24)
    same(body, load_body(tmp_path / "it.npz"))


def test_old_number_types_and_more_betas_mean_the_same_body():
    body = small_body()
    table = np.array([SMPL_PARENTS, range(24)]).astype(np.uint32)  # the root is 2**32 - 1
    betas = np.concatenate([body.shapedirs, np.ones((V, 3, 290), np.float32)], -1)
    other = small_body(
        parents=table,
        faces=body.faces.astype(np.uint32),
        shapedirs=np.asfortranarray(betas.astype(">f8")),
    )
    same(body, other)
    assert body.hash == other.hash


def test_the_hash_is_over_little_endian_float32_in_the_stated_order():
    body = small_body()
    numbers = [
        *body.v_template.ravel(),
        *body.shapedirs.ravel(),
        *body.J_regressor.ravel(),
        *body.weights.ravel(),
    ]
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    assert body.hash == hashlib.sha256(packed).hexdigest()[:16]
    assert small_body(posedirs=np.zeros((V, 3, 207))).hash == body.hash
    moved = body.v_template.copy()
    moved[3, 1] += 1e-4
    assert small_body(v_template=moved).hash != body.hash


def nan(*shape):
    return np.full(shape, np.nan)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v_template": np.zeros((V, 2))}, "v_template: shape"),
        ({"v_template": np.zeros(3)}, "v_template: shape"),
        ({"v_template": nan(V, 3)}, "v_template: holds values"),
        ({"v_template": np.full((V, 3), 1e300)}, "v_template: holds values"),
        ({"v_template": np.array([["a"] * 3] * V)}, "not numbers"),
        ({"v_template": np.zeros((200_000, 3))}, "more than 100000 vertices"),
        ({"shapedirs": np.zeros((V, 3, 9))}, "shapedirs: shape"),
        ({"shapedirs": np.zeros(())}, "shapedirs: shape"),
        ({"posedirs": np.zeros((207, V * 3))}, "posedirs: shape"),
        ({"J_regressor": np.zeros((52, V))}, "J_regressor: shape"),
        ({"weights": np.full((V, 24), 0.1)}, "sum to 1"),
        ({"weights": np.eye(V, 24) * 2 - np.eye(V, 24, 1)}, "sum to 1"),
        ({"parents": np.zeros(24)}, "not SMPL's"),
        ({"parents": np.zeros((0, 24))}, "parents: shape"),
        ({"faces": np.full((4, 3), V)}, "faces: a vertex outside"),
        ({"faces": np.full((4, 3), -1)}, "faces: a vertex outside"),
        ({"faces": np.zeros((0, 3))}, "no faces"),
        ({"sample_index": np.full((431, 2), V)}, "sample_index: a vertex outside"),
        ({"sample_index": np.zeros((430, 2))}, "sample_index: shape"),
        ({"sample_weight": np.zeros((431, 3))}, "sample_weight: shape"),
        ({"coco17_regressor": np.zeros((14, V))}, "coco17_regressor: shape"),
        ({"lsp14_regressor": nan(14, V)}, "lsp14_regressor: holds values"),
        ({"uv": np.zeros((V, 3))}, "uv: shape"),
        ({"uv": nan(V, 2)}, "uv: holds values"),
        ({"uv_faces": np.zeros((39, 3))}, "uv_faces: 39 faces, faces has 40"),
        ({"uv_faces": np.full((40, 3), V + 5)}, "uv_faces: a row of uv outside"),
        ({"uv": np.zeros((0, 2))}, "uv_faces: a row of uv outside"),
    ],
)
def test_what_makes_no_body_is_refused(changes, reason):
    with pytest.raises(BodyError, match=reason) as caught:
        small_body(**changes)
    assert "\n" not in str(caught.value)


def test_half_of_the_samples_and_other_number_types_are_refused():
    with pytest.raises(BodyError, match="only one is there"):
        dataclasses.replace(small_body(), sample_weight=None)
    with pytest.raises(BodyError, match="only one is there"):
        dataclasses.replace(small_body(), uv_faces=None)
    with pytest.raises(BodyError, match="float64, expected float32"):
        dataclasses.replace(small_body(), v_template=np.zeros((V, 3)))


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def header(shape, dtype="<f4"):
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_objects_are_neither_read_nor_run(tmp_path):
    save_body(small_body(), path := tmp_path / "it.npz")
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(tmp_path / "canary")], dtype=object))
    rewrite(path, members(path) | {"weights.npy": stream.getvalue()})
    with pytest.raises(BodyError, match="weights holds Python objects"):
        load_body(path)
    assert not (tmp_path / "canary").exists()
    # An array that nobody asks for does not hinder.
    rewrite(path, members(path) | {"notes.npy": stream.getvalue()})
    with pytest.raises(BodyError, match="weights"):
        load_body(path)


@pytest.mark.parametrize(
    "content",
    [
        header((10**12, 3)) + b"\0" * 64,
        header((V, 3)),
        header((V, 3)) + b"\0" * (V * 12 + 1),
        header((-1, -3)) + b"\0" * 12,
        header((V, 3))[:20],
        b"",
        b"\x93NUMPY\x09\x00" + b"\0" * 100,
        b"cos\nsystem\n(S'false'\ntR.",
    ],
)
def test_lying_headers_are_refused_without_taking_memory(tmp_path, content):
    save_body(small_body(), path := tmp_path / "it.npz")
    rewrite(path, members(path) | {"v_template.npy": content})
    with pytest.raises(BodyError, match="v_template") as caught:
        load_body(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_array_larger_than_any_body_needs_is_not_unpacked(tmp_path, monkeypatch):
    save_body(small_body(), path := tmp_path / "it.npz")
    monkeypatch.setattr(body_format, "LARGEST_ARRAYS", 1000)
    with pytest.raises(BodyError, match="more than any body needs"):
        load_body(path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_damaged_files_are_refused(tmp_path, kept):
    save_body(small_body(), path := tmp_path / "it.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(BodyError, match="damaged"):
        load_body(path)
    flipped = bytearray(content)
    flipped[200] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(BodyError):
        load_body(path)


def test_missing_arrays_files_and_other_zips_are_named(tmp_path):
    with pytest.raises(BodyError, match="no such file"):
        load_body(tmp_path / "absent.npz")
    with pytest.raises(BodyError, match="cannot be read"):
        load_body(tmp_path)
    rewrite(tmp_path / "it.npz", {"readme.txt": b""})
    with pytest.raises(BodyError, match="has no v_template"):
        load_body(tmp_path / "it.npz")
    save_body(small_body(), tmp_path / "it.npz")
    content = members(tmp_path / "it.npz")
    del content["kintree_table.npy"]
    rewrite(tmp_path / "it.npz", content)
    with pytest.raises(BodyError, match="has no kintree_table"):
        load_body(tmp_path / "it.npz")
