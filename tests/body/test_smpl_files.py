"""Official SMPL files, made by hand as Python 2 and chumpy wrote them; and untrusted ones.

The arrays are the golden seed's; none of the licensed numbers is here.
"""

import os
import pickle
import struct
import sys
import types
import zipfile
from functools import cache

import numpy as np
import pytest
from scipy import sparse
from smplx.vertex_ids import vertex_ids

from staf_cli.body import smpl_files
from staf_cli.body.format import load_body
from staf_cli.body.smpl_files import import_body, read_smpl
from staf_cli.core.errors import BodyError
from tests.support import golden

NAME = "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def official_arrays():
    """The golden body under SMPL's names and in its number types."""
    body = golden.body()
    parents = np.array([body.parents, np.arange(24)]).astype(np.uint32)
    return {
        "v_template": body.v_template.astype(float),
        "shapedirs": body.shapedirs.astype(float),
        "posedirs": np.asfortranarray(body.posedirs.astype(float)),
        "J_regressor": body.J_regressor.astype(float),
        "weights": body.weights.astype(float),
        "kintree_table": parents,
        "f": body.faces.astype(np.uint32),
    }


@cache
def quick_pickle():
    """The same without pose corrections, which are most of its size."""
    return pickle.dumps(official_arrays() | {"posedirs": np.zeros((6890, 3, 207))}, 4)


def same_as_golden(body):
    for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "parents"):
        assert np.array_equal(getattr(body, name), getattr(golden.body(), name)), name
    assert np.array_equal(body.faces, golden.body().faces)
    assert body.hash == golden.body().hash


# --- Python 2's opcodes, by hand -----------------------------------------------------------


def text(value, protocol):
    if protocol == 0:
        return b"S" + repr(value)[1:].encode() + b"\n"
    return b"T" + struct.pack("<i", len(value)) + value


def whole(value):
    return b"I%d\n" % value


def py2_array(array, protocol):
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    shape = b"(" + b"".join(whole(n) for n in array.shape) + b"t"
    kind = array.dtype.str[1:].encode()
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt",
            text(b"b", protocol),
            b"tR(I1\n" + shape,
            b"cnumpy\ndtype\n(" + text(kind, protocol) + b"I0\nI1\ntR(I3\n",
            text(b"<", protocol) + b"NNNI-1\nI-1\nI0\ntb",
            b"I01\n" if fortran else b"I00\n",
            text(array.tobytes("A"), protocol) + b"tb",
        ]
    )


def py2_object(module, name, state, protocol):
    """A new-style object with a state of pickled values."""
    made = f"c{module}\n{name}\n".encode()
    if protocol == 0:
        start = b"ccopy_reg\n_reconstructor\n(" + made + b"c__builtin__\nobject\nNtR"
    else:
        start = made + b")\x81"
    return start + py2_dict(state, protocol) + b"b"


def py2_dict(items, protocol):
    pairs = b"".join(text(key.encode(), protocol) + value for key, value in items.items())
    return b"(" + pairs + b"d"


def py2_chumpy(array, protocol):
    dirty = b"c__builtin__\nset\n((ltR"
    state = {"x": py2_array(array, protocol), "_dirty_vars": dirty, "_status": b"N"}
    return py2_object("chumpy.ch", "Ch", state, protocol)


def py2_csc(matrix, protocol, module="scipy.sparse.csc"):
    matrix = sparse.csc_matrix(matrix)
    state = {name: py2_array(getattr(matrix, name), protocol) for name in ("data", "indices")}
    state["indptr"] = py2_array(matrix.indptr, protocol)
    state["_shape"] = b"(" + whole(matrix.shape[0]) + whole(matrix.shape[1]) + b"t"
    state["format"] = text(b"csc", protocol)
    return py2_object(module, "csc_matrix", state, protocol)


def py2_pickle(protocol, **changes):
    """The whole file as the releases of SMPL have it: chumpy shapes, a sparse regressor."""
    arrays = official_arrays()
    items = {name: py2_array(array, protocol) for name, array in arrays.items()}
    items["shapedirs"] = py2_chumpy(arrays["shapedirs"], protocol)
    items["J_regressor"] = py2_csc(arrays["J_regressor"], protocol)
    items["J"] = py2_object("chumpy.ch", "MatVecMult", {"mtx": items["J_regressor"]}, protocol)
    items["bs_style"] = text(b"lbs", protocol)
    items["vert_sym_idxs"] = py2_array(np.arange(6890), protocol)
    return (b"" if protocol == 0 else b"\x80\x02") + py2_dict(items | changes, protocol) + b"."


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_python_2_pickle_with_chumpy_gives_the_body(tmp_path, protocol):
    path = tmp_path / NAME
    path.write_bytes(py2_pickle(protocol))
    assert "chumpy" not in sys.modules
    same_as_golden(read_smpl(path))
    assert "chumpy" not in sys.modules


def python_3_pickle(protocol, monkeypatch):
    """The same through real pickling of real arrays, with a module that only looks like chumpy."""
    ch, reordering = types.ModuleType("chumpy.ch"), types.ModuleType("chumpy.reordering")
    vars(ch)["Ch"] = type("Ch", (), {"__module__": "chumpy.ch"})
    vars(reordering)["Select"] = type("Select", (), {"__module__": "chumpy.reordering"})
    for module in (types.ModuleType("chumpy"), ch, reordering):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    arrays = official_arrays()
    template, longer = ch.Ch(), ch.Ch()
    template.x = arrays["v_template"]
    longer.x = np.concatenate([arrays["shapedirs"], np.ones((6890, 3, 10))], -1)
    first = reordering.Select()  # as `shapedirs[:, :, :15]` is kept
    first.a = longer
    first.idxs = np.arange(6890 * 3 * 20).reshape(6890, 3, 20)[:, :, :15].ravel()
    first.preferred_shape = (6890, 3, 15)
    regressor = sparse.csc_matrix(arrays["J_regressor"])
    changes = {"v_template": template, "shapedirs": first, "J_regressor": regressor}
    content = pickle.dumps(arrays | changes, protocol)
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    return content


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_python_3_pickle_gives_the_body(tmp_path, monkeypatch, protocol):
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(python_3_pickle(protocol, monkeypatch))
    same_as_golden(read_smpl(path))


def test_an_npz_with_300_betas_gives_the_body(tmp_path):
    arrays = official_arrays()
    arrays["shapedirs"] = np.concatenate([arrays["shapedirs"], np.ones((6890, 3, 290))], -1)
    path = tmp_path / "SMPL_MALE.npz"
    np.savez(path, **arrays)
    name, saved = import_body(path)
    assert name == "smpl-male"
    same_as_golden(load_body(saved))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("SMPL_NEUTRAL.pkl", "smpl-neutral"),
        ("SMPL_FEMALE.pkl", "smpl-female"),
        ("basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", "smpl-neutral"),
        ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "smpl-female"),
        ("basicmodel_m_lbs_10_207_0_v1.1.0.pkl", "smpl-male"),
    ],
)
def test_official_names_say_which_body_it_is(tmp_path, data_folder, name, body):
    path = tmp_path / name
    path.write_bytes(quick_pickle())
    assert import_body(path) == (body, data_folder / "bodies" / f"{body}.npz")


def test_a_zip_gives_its_neutral_or_only_model(tmp_path):
    content = quick_pickle()
    folder = "SMPL_python_v.1.1.0/smpl/models"
    path = tmp_path / "SMPL_python_v.1.1.0.zip"

    def write(*names):
        with zipfile.ZipFile(path, "w") as archive:
            for name in (*names, "readme.txt"):
                archive.writestr(f"{folder}/{name}", content)

    three = [f"basicmodel_{g}_lbs_10_207_0_v1.1.0.pkl" for g in ("f", "m", "neutral")]
    write(*three)
    assert import_body(path)[0] == "smpl-neutral"
    write(three[1])
    assert import_body(path)[0] == "smpl-male"
    write(*three[:2])
    with pytest.raises(BodyError, match=r"basicmodel_f_.*, basicmodel_m_.*unzip it"):
        read_smpl(path)
    write()
    with pytest.raises(BodyError, match="no SMPL model"):
        read_smpl(path)
    write(three[2])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BodyError, match="damaged"):
        read_smpl(path)


def test_the_regressors_are_smpl_joints_and_known_vertices(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(quick_pickle())
    body = read_smpl(path)
    joints = body.J_regressor @ body.v_template
    assert body.coco17_regressor is not None and body.lsp14_regressor is not None
    coco = body.coco17_regressor @ body.v_template
    lsp = body.lsp14_regressor @ body.v_template
    for place, name in enumerate(("nose", "leye", "reye", "lear", "rear")):
        assert np.array_equal(coco[place], body.v_template[vertex_ids["smplh"][name]])
    left = {"shoulder": 16, "elbow": 18, "wrist": 20, "hip": 1, "knee": 4, "ankle": 7}
    right = {name: joint + 1 for name, joint in left.items()}
    for place, name in enumerate(left):
        assert np.allclose(coco[5 + 2 * place], joints[left[name]])
        assert np.allclose(coco[6 + 2 * place], joints[right[name]])
    order = ["ankle", "knee", "hip"]
    expected = [right[n] for n in order] + [left[n] for n in reversed(order)]
    order = ["wrist", "elbow", "shoulder"]
    expected += [right[n] for n in order] + [left[n] for n in reversed(order)] + [12]
    assert np.allclose(lsp[:13], joints[expected])
    assert np.array_equal(lsp[13], body.v_template[411])


# --- what must be refused -------------------------------------------------------------------


def refusal(path, content=None):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BodyError) as caught:
        read_smpl(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


class Canary:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def untrusted(folder):
    """Pickles that make the folder's `canary` when read by an ordinary unpickler."""
    canary = str(folder / "canary")
    made = f"__import__('os').mkdir({canary!r})"
    array = np.array([Canary(os.mkdir, canary)], dtype=object)
    for protocol in (0, 2, 4):
        yield pickle.dumps(Canary(os.mkdir, canary), protocol)
        yield pickle.dumps({"v_template": Canary(eval, made)}, protocol)
        yield pickle.dumps({"f": Canary(exec, made)}, protocol)
        yield pickle.dumps({"v_template": array}, protocol)
        yield pickle.dumps({"unused": [({"deep": (array,)},)]}, protocol)
    mkdir = b"cos\nmkdir\n(" + text(canary.encode(), 0) + b"tR"
    yield py2_object("chumpy.ch", "Ch", {"x": mkdir}, 2) + b"."
    yield b"(" + text(canary.encode(), 0) + b"ios\nmkdir\n."  # INST
    yield b"(cos\nmkdir\n" + text(canary.encode(), 0) + b"o."  # OBJ
    yield b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + b"(" + text(canary.encode(), 0) + b"tR."


def test_the_canaries_sing_for_an_ordinary_unpickler(tmp_path):
    for content in untrusted(tmp_path):
        try:
            pickle.loads(content, encoding="latin1")
        except ModuleNotFoundError as error:
            assert "chumpy" in str(error)  # whose state is never reached without chumpy
            continue
        (tmp_path / "canary").rmdir()


def test_no_hostile_pickle_is_run(tmp_path):
    path = tmp_path / NAME
    for content in untrusted(tmp_path):
        assert "nothing was run" in refusal(path, content)
        assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins.getattr",
        "builtins.type",
        "numpy.load",
        "numpy.ndarray.tofile",
        "numpy.core.multiarray._reconstruct.__globals__",
        "chumpy.ch.Ch.__init__",
        "chumpy.utils.anything",
        "functools.partial",
        "pickle.loads",
        "staf_cli.body.smpl_pickle.os",
    ],
)
def test_names_beyond_the_list_are_refused_by_name(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    if name.count(".") > 2 and name.startswith(("numpy.core", "chumpy.ch.Ch")):
        module, _, first = module.rpartition(".")
        attribute = f"{first}.{attribute}"
    encoded = [part.encode() for part in (module, attribute)]
    strings = b"".join(b"\x8c" + bytes([len(part)]) + part for part in encoded)
    assert f"asks for '{name}'," in refusal(tmp_path / NAME, b"\x80\x04" + strings + b"\x93.")


CH = b"cchumpy.ch\nCh\n"
ARRAY = py2_array(np.zeros(3), 2)

NONSENSE = {
    "empty": b"",
    "no pickle": b"SMPL" * 100,
    "html": b"<!DOCTYPE html><html>please log in</html>",
    "a list": pickle.dumps([1, 2]),
    "a number": b"I1\n.",
    "memo bomb": b"\x80\x02Nr\xff\xff\xff\xff.",
    "text memo bomb": b"Np99999999999\n.",
    "bytearray bomb": b"\x80\x05\x96" + struct.pack("<q", 2**36) + b"\0.",
    "bytes bomb": b"\x80\x04\x8e" + struct.pack("<q", 2**45) + b"\0.",
    "frame bomb": b"\x80\x04\x95" + struct.pack("<q", 2**45) + b"N.",
    "class changed": CH + b"N}" + text(b"__setstate__", 2) + b"Ns\x86b.",
    "class with state": CH + b"}b.",
    "persistent": b"Pid\n.",
    "extension": b"\x82\x01.",
    "called array": ARRAY + b")R.",
    "reconstructed object": b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\n"
    b"object\nNtR.",
    "unhashable": b"}]Ns.",
    "a name of many lines": b"\x80\x04\x8c\x04o\n\x1b[\x8c\x03\n\n\n\x93.",
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_and_bombs_are_refused(tmp_path, content):
    refusal(tmp_path / NAME, content)


def bent_array(shape=b"(I2\nI3\nt", kind=b"f8", data=b"\0" * 48, endian=b"<"):
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt",
            text(b"b", 2) + b"tR(I1\n" + shape,
            b"cnumpy\ndtype\n(" + text(kind, 2) + b"I0\nI1\ntR(I3\n" + text(endian, 2),
            b"NNNI-1\nI-1\nI0\ntbI00\n" + text(data, 2) + b"tb",
        ]
    )


BENT = {
    "more shape than data": bent_array(b"(I1000000000000\nI3\nt"),
    "less shape than data": bent_array(b"(I1\nt"),
    "negative shape": bent_array(b"(I-2\nI-3\nt"),
    "shape of text": bent_array(b"(" + text(b"2", 2) + b"t"),
    "objects": bent_array(kind=b"O8"),
    "text": bent_array(kind=b"S8"),
    "structured": bent_array(kind=b"f8,f8"),
    "no state": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt"
    + text(b"b", 2)
    + b"tR",
    "itself": CH + b")\x81q\x07}" + text(b"x", 2) + b"h\x07sb",
    "a number": b"I1\n",
    "other chumpy": py2_object("chumpy.ch", "MatVecMult", {"x": ARRAY}, 2),
    "the class": CH,
}


@pytest.mark.parametrize("value", BENT.values(), ids=BENT)
def test_bent_arrays_are_refused(tmp_path, value):
    refusal(tmp_path / NAME, b"\x80\x02" + py2_dict({"v_template": value}, 2) + b".")


def bent_csc(rows=24, columns=3, **changes):
    state = {
        "data": np.ones(3),
        "indices": np.array([0, 1, 2], np.int32),
        "indptr": np.array([0, 1, 2, 3], np.int32),
    } | changes
    pickled = {name: py2_array(array, 2) for name, array in state.items()}
    pickled["_shape"] = b"(" + whole(rows) + whole(columns) + b"t"
    return py2_object("scipy.sparse.csc", "csc_matrix", pickled, 2)


@pytest.mark.parametrize(
    "value",
    [
        bent_csc(rows=10**9),
        bent_csc(rows=-1),
        bent_csc(columns=0),
        bent_csc(columns=4),
        bent_csc(indices=np.array([0, 1, 24])),
        bent_csc(indices=np.array([0, 1, -1])),
        bent_csc(indices=np.array([0.0, 1.0, 2.0])),
        bent_csc(indptr=np.array([0, 1, 2, 4])),
        bent_csc(indptr=np.array([0, 3, 2, 3])),
        bent_csc(indptr=np.array([[0, 1], [2, 3]])),
        bent_csc(data=np.ones(2)),
        py2_object("scipy.sparse.csc", "csc_matrix", {}, 2),
    ],
)
def test_bent_sparse_matrices_are_refused(tmp_path, value):
    good = b"\x80\x02" + py2_dict({"J_regressor": bent_csc()}, 2) + b"."
    assert "has no v_template" in refusal(tmp_path / NAME, good)
    content = b"\x80\x02" + py2_dict({"J_regressor": value}, 2) + b"."
    assert "has no" not in refusal(tmp_path / NAME, content)


@pytest.mark.parametrize(
    ("chosen", "shape"),
    [
        (np.array([3]), b"N"),
        (np.array([-1]), b"N"),
        (np.array([0.5]), b"N"),
        (np.array([0]), b"(I2\nt"),
        (np.array([0]), b"(Nt"),
        (np.array([0]), b"(L99999999999999999999L\nt"),
    ],
)
def test_a_bent_selection_is_refused(tmp_path, chosen, shape):
    state = {"a": py2_chumpy(np.zeros(3), 2), "idxs": py2_array(chosen, 2)}
    good = state | {"idxs": py2_array(np.array([0, 2]), 2), "preferred_shape": b"(I2\nI1\nt"}
    bad = state | {"preferred_shape": shape}
    for selection, reason in ((good, "has no shapedirs"), (bad, "get the original")):
        value = py2_object("chumpy.reordering", "Select", selection, 2)
        content = b"\x80\x02" + py2_dict({"v_template": value}, 2) + b"."
        assert reason in refusal(tmp_path / NAME, content)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.999])
def test_truncated_pickles_are_refused(tmp_path, part):
    content = py2_pickle(2)
    assert "damaged" in refusal(tmp_path / NAME, content[: int(part * len(content))])


def test_random_damage_never_ends_in_a_traceback(tmp_path):
    content = bytearray(
        b"\x80\x02" + py2_dict({"J_regressor": bent_csc(), "v_template": bent_array()}, 2) + b"."
    )
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(len(content), size=3):
            damaged[place] = generator.integers(256)
        refusal(tmp_path / NAME, bytes(damaged))


def test_other_models_and_unknown_names_are_distinguished(tmp_path):
    arrays = pickle.loads(quick_pickle())
    path = tmp_path / NAME
    larger = arrays | {"v_template": np.zeros((10475, 3))}
    assert "10475 vertices" in refusal(path, pickle.dumps(larger, 2))
    hands = arrays | {"weights": np.full((6890, 52), 1 / 52)}
    assert "weights: shape" in refusal(path, pickle.dumps(hands, 2))
    nameless = {name: array for name, array in arrays.items() if name != "weights"}
    assert "has no weights" in refusal(path, pickle.dumps(nameless, 2))
    assert "no such file" in refusal(tmp_path / "absent.pkl")
    unknown = tmp_path / "model.pkl"
    assert "official name" in refusal(unknown, pickle.dumps(arrays, 2))


def test_a_file_larger_than_any_official_one_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(smpl_files, "LARGEST_FILE", 100)
    assert "more than any SMPL file" in refusal(tmp_path / NAME, b"\0" * 101)


def test_a_failed_import_leaves_nothing(tmp_path, data_folder):
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(BodyError):
        import_body(tmp_path / NAME)
    assert not data_folder.exists()
