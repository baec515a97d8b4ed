"""The official SMPL files: staf body import FILE."""

import pickle
import zipfile
from pathlib import Path

import numpy as np

from tests.support.untrusted.attacks import GIB, MIB, Arguments, Canary, attack
from tests.support.untrusted.crafted_files import bomb, npy, write_zip

SMPL = "SMPL_NEUTRAL.pkl"  # a name under which a body is taken for the official one


def smpl(folder: Path, content: bytes) -> Arguments:
    path = folder / SMPL
    path.write_bytes(content)
    return ["body", "import", path]


@attack("nothing was run")
def smpl_with_code(folder):
    return smpl(folder, pickle.dumps({"v_template": Canary(folder)}, 2))


@attack("nothing was run")
def smpl_with_code_in_an_array(folder):
    return smpl(folder, pickle.dumps({"f": np.array([Canary(folder)], dtype=object)}, 4))


@attack("nothing was run")
def smpl_with_code_in_a_zip(folder):
    content = pickle.dumps({"v_template": Canary(folder)}, 2)
    return ["body", "import", write_zip(folder / "smpl.zip", [(f"../../{SMPL}", content)])]


@attack("nothing was run")
def smpl_whose_name_of_code_is_a_trick_of_the_terminal(folder):
    return smpl(folder, b"c\x1b[2J\x1b]0;gone\x07\nsystem\n.")


@attack("damaged or no SMPL")
def smpl_that_crashes_the_reader(folder):
    return smpl(folder, b"\x80\x02})" + b"\x85" * 500_000 + b"K\x00s.")


@attack("damaged or no SMPL")
def smpl_that_crashes_the_reader_in_a_set(folder):
    return smpl(folder, b"\x80\x04\x8f()" + b"\x85" * 500_000 + b"\x90.")


@attack("damaged or no SMPL")
def smpl_of_one_giant_array(folder):
    head = b"\x80\x04\x8e" + (300 * MIB).to_bytes(8, "little")
    return ["body", "import", bomb(folder / "smpl.zip", {SMPL: (head, 304 * MIB)})]


@attack("more than any SMPL")
def smpl_that_inflates_to_50_gb(folder):
    return ["body", "import", bomb(folder / "smpl.zip", {SMPL: (b"\x80\x04", 50 * GIB)})]


@attack("more than any SMPL|damaged or no")
def smpl_of_one_endless_line(folder):
    return ["body", "import", bomb(folder / "smpl.zip", {SMPL: (b"(S'", 304 * MIB)})]


@attack("bytes, more than")
def smpl_npz_that_inflates_to_50_gb(folder):
    members = {"v_template.npy": (npy(f"({50 * GIB // 12}, 3)"), 50 * GIB)}
    return ["body", "import", bomb(folder / "SMPL_NEUTRAL.npz", members)]


@attack("is damaged")
def smpl_in_a_zip_compressed_with_lzma(folder):
    path = write_zip(folder / "smpl.zip", [(SMPL, b"a" * 99)], zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    content[50:60] = bytes(10)
    path.write_bytes(content)
    return ["body", "import", path]


@attack("no sensible size")
def smpl_of_a_boundless_sparse_matrix(folder):
    from scipy import sparse

    matrix = sparse.csc_matrix(np.ones((2, 2)))
    matrix._shape = (2**20, 2**20)
    return smpl(folder, pickle.dumps({"J_regressor": matrix}, 2))
