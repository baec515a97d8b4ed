"""Bodies in our own format: --body FILE."""

import struct
import zipfile
from pathlib import Path

import numpy as np

from staf_cli.checkpoints.registry import shipped
from tests.support.untrusted.attacks import GIB, MIB, Canary, attack, run_with
from tests.support.untrusted.crafted_files import (
    as_npy,
    bomb,
    claim_size,
    npy,
    patch,
    raw_npy,
    write_zip,
)


def good_body() -> dict[str, np.ndarray]:
    with np.load(shipped("open_body.npz")) as found:
        return dict(found)


def with_body(folder: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED):
    named = [(f"{name}.npy", content) for name, content in members.items()]
    return run_with(folder, "--body", write_zip(folder / "body.npz", named, method))


@attack("Python objects, which could run code")
def body_of_objects(folder):
    objects = np.array([Canary(folder)], dtype=object)
    return with_body(folder, {"v_template": as_npy(objects, allow_pickle=True)})


@attack("bytes, more than")
def body_that_inflates_to_50_gb(folder):
    members = {"v_template.npy": (npy(f"({50 * GIB // 12}, 3)"), 50 * GIB)}
    return run_with(folder, "--body", bomb(folder / "body.npz", members))


@attack("bytes, more than")
def body_of_many_arrays_that_inflate(folder):
    names = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
    members = {f"{name}.npy": (npy(f"({40 * MIB},)"), 160 * MIB) for name in names}
    return run_with(folder, "--body", bomb(folder / "body.npz", members))


@attack("has a wrong size")
def body_whose_header_claims_terabytes(folder):
    return with_body(folder, {"v_template": npy(f"({10**12}, 3)", bytes(24))})


@attack("has a wrong size")
def body_of_negative_size(folder):
    return with_body(folder, {"v_template": npy("(-2, -3)", bytes(24))})


@attack("no numpy array|has a wrong size")
def body_of_boundless_nothing(folder):
    return with_body(folder, {"v_template": npy(f"({10**30}, 0)")})


@attack("neither numbers nor text")
def body_of_things_without_size(folder):
    return with_body(folder, {"v_template": npy(f"({10**18}, 3)", dtype="'|V0'")})


@attack("neither numbers nor text")
def body_of_giant_things(folder):
    return with_body(folder, {"v_template": npy("(0, 3)", dtype="'|V2000000000'")})


@attack("neither numbers nor text")
def body_of_nested_things(folder):
    members = {"v_template": npy("(1, 3)", bytes(24), dtype="[('a', '<f4', (2,))]")}
    return with_body(folder, members)


@attack("no SMPL|shape|not an SMPL")
def body_in_the_other_order(folder):
    members = {name: as_npy(array) for name, array in good_body().items()}
    members["v_template"] = npy("(3, 4)", bytes(48), fortran="True")
    return with_body(folder, members)


@attack("no numpy array")
def body_with_a_huge_header(folder):
    return with_body(folder, {"v_template": raw_npy(b"{" + b" " * 2**26 + b"}")})


@attack("no numpy array")
def body_with_a_header_of_brackets(folder):
    return with_body(folder, {"v_template": raw_npy(b"(" * 9000)})


@attack("no numpy array")
def body_with_a_header_of_signs(folder):
    return with_body(folder, {"v_template": raw_npy(b"-" * 9000 + b"1")})


@attack("no numpy array")
def body_with_a_header_that_is_code(folder):
    code = f"__import__('os').mkdir({str(folder / 'canary')!r})".encode()
    return with_body(folder, {"v_template": raw_npy(code)})


@attack("no numpy array")
def body_with_a_header_that_is_cut_off(folder):
    return with_body(folder, {"v_template": b"\x93NUMPY\x02\x00\xff\xff\xff\xff"})


@attack("not finite")
def body_of_nan(folder):
    members = {name: as_npy(array) for name, array in good_body().items()}
    members["v_template"] = as_npy(np.full((12, 3), np.nan, np.float32))
    return with_body(folder, members)


@attack("is damaged")
def body_compressed_with_lzma(folder):
    path = folder / "body.npz"
    write_zip(path, [("v_template.npy", npy("(2, 3)", bytes(24)))], zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)
    return run_with(folder, "--body", path)


@attack("is damaged")
def body_that_is_encrypted(folder):
    arguments = with_body(folder, {"v_template": npy("(2, 3)", bytes(24))})
    path = folder / "body.npz"
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return arguments


@attack("is damaged|cut off or has a wrong size")
def body_whose_zip_lies_about_sizes(folder):
    arguments = with_body(folder, {"v_template": npy("(2, 3)", bytes(24))})
    claim_size(folder / "body.npz", "v_template.npy", 2**27)
    return arguments


@attack("has no shapedirs")
def body_whose_members_climb_out(folder):
    content = npy("(2, 3)", bytes(24))
    names = ("../../v_template.npy", "/tmp/v_template.npy", "v_template.npy\x00.npy", "..\\f.npy")
    return run_with(folder, "--body", write_zip(folder / "body.npz", [(n, content) for n in names]))


@attack("is damaged|shape")
def body_with_everything_twice(folder):
    members = [(f"{name}.npy", as_npy(array)) for name, array in good_body().items()]
    members += [(name, npy("(0, 3)")) for name, _ in members]
    return run_with(folder, "--body", write_zip(folder / "body.npz", members))


@attack("is damaged")
def body_in_a_zip_of_a_million_members(folder):
    path = write_zip(folder / "body.npz", [("a.npy", b"")], zipfile.ZIP_STORED)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    entry = content[start : content.index(b"PK\x05\x06")]
    many = entry * 10**6
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, len(many), start, 0)
    path.write_bytes(content[:start] + many + end)
    return run_with(folder, "--body", path)


@attack("is damaged")
def body_whose_names_are_no_text(folder):
    arguments = with_body(folder, {"v_täplate": npy("(2, 3)", bytes(24))})
    patch(folder / "body.npz", "ä".encode(), b"\xff\xff")
    return arguments


@attack("is a folder|cannot be read|not on this machine")
def body_that_is_a_folder(folder):
    (folder / "body.npz").mkdir()
    return run_with(folder, "--body", folder / "body.npz")
