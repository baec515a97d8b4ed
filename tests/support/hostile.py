"""Files that a stranger may send: each attack makes its own and says how `staf` is given them.

A file with code in it would make the folder `canary`; `secret` is a file that others refer to.
"""

import io
import json
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from staf_cli.checkpoints.registry import shipped
from staf_cli.core.records import Person
from staf_cli.result import tracks_csv
from tests.support import made_clips
from tests.support.made_people import make_track, open_body

SMPL = "SMPL_NEUTRAL.pkl"  # a name under which a body is taken for the official one
RELEASE = "3dpw_model_best.pth.tar", "base_model.pt"
MIB, GIB = 2**20, 2**30

Arguments = list[str | Path]


@dataclass(frozen=True)
class Attack:
    """What is made, and what the command line must say of it."""

    make: Callable[[Path], Arguments]  # in an empty folder
    says: str  # a pattern in the one line
    code: int = 1

    @property
    def name(self) -> str:
        return self.make.__name__


ATTACKS: list[Attack] = []


def attack(says: str, code: int = 1) -> Callable[..., Any]:
    """Register the function that makes an attack."""

    def register(make: Callable[[Path], Arguments]) -> Callable[[Path], Arguments]:
        ATTACKS.append(Attack(make, says, code))
        return make

    return register


class Canary:
    """Makes a file when it is unpickled by a reader that runs what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.folder / "canary"),)


def npy(shape: str, data: bytes = b"", dtype: str = "'<f4'", fortran: str = "False") -> bytes:
    """An npy member whose header says what it is told to say."""
    header = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    return raw_npy(header.encode(), data)


def raw_npy(header: bytes, data: bytes = b"") -> bytes:
    """An npy member with any header."""
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + data


def write_zip(
    path: Path, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    """A zip of these members, names unchecked and repeated if they are."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of repeated names
        for name, content in members:
            archive.writestr(name, content)
    return path


def bomb(path: Path, members: Mapping[str, tuple[bytes, int]]) -> Path:
    """A zip whose members unpack to so many bytes, zeros after their heads; a thousandth on disk.

    Written by hand, because a block of zeros need be compressed only once. Checksums are wrong,
    which shows when everything has been unpacked.
    """
    size = 2**24
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)
    directory = b""
    with path.open("wb") as stream:
        for name, (head, zeros) in members.items():
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            parts = [packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)]
            parts += [block] * (zeros // size)
            parts += [zlib.compressobj(9, zlib.DEFLATED, -15).flush()]
            whole = len(head) + zeros // size * size
            sizes = struct.pack("<HHQQ", 1, 16, whole, sum(map(len, parts)))
            about = struct.pack("<HHHHIIIHH", 0, 8, 0, 0, 0, 2**32 - 1, 2**32 - 1, len(name), 20)
            place = stream.tell()
            stream.write(b"PK\3\4" + struct.pack("<H", 45) + about + name.encode() + sizes)
            stream.writelines(parts)
            directory += b"PK\1\2" + struct.pack("<HH", 45, 45) + about
            directory += struct.pack("<HHHII", 0, 0, 0, 0, place) + name.encode() + sizes
        start, count = stream.tell(), len(members)
        stream.write(directory)
        end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), start, 0)
        stream.write(b"PK\5\6" + end)
    return path


def patch(path: Path, old: bytes, new: bytes) -> Path:
    """Replace bytes wherever they are, by as many others."""
    assert len(old) == len(new)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def claim_size(path: Path, member: str, size: int) -> Path:
    """Let a zip's directory and its member's own header say that it unpacks to `size` bytes."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        directory = archive.start_dir
        local = info.header_offset
    content = bytearray(path.read_bytes())
    content[local + 22 : local + 26] = size.to_bytes(4, "little")
    content[directory + 24 : directory + 28] = size.to_bytes(4, "little")
    path.write_bytes(content)
    return path


def safetensors(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file with any header, whose length may be a lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def about(**changes: object) -> dict[str, str]:
    """The metadata of a checkpoint of ours, with changes."""
    good: dict[str, object] = {
        "format": "staf-checkpoint-1",
        "name": "staf-gift",
        "architecture": {"encoder": "resnet50", "apm": True, "tcfm": 1, "safm": 2},
        "body": "open-body 0123456789abcdef",
        "crop_scale": 1.1,
        "licence": "free",
    }
    return {"staf": json.dumps(good | changes)}


# --- bodies: --body FILE, staf body import FILE --------------------------------------------------


def good_body() -> dict[str, np.ndarray]:
    with np.load(shipped("open_body.npz")) as found:
        return dict(found)


def run(folder: Path, *more: str | Path) -> Arguments:
    """Run a harmless video, with a detector that is not reached."""
    detector = folder / "detector.pt"
    detector.touch()
    video = made_clips.make_clip(folder / "v.mp4", range(3))
    return ["run", video, "-o", folder / "out", "--detector", detector, "--trust", *more]


def with_body(folder: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED):
    named = [(f"{name}.npy", content) for name, content in members.items()]
    return run(folder, "--body", write_zip(folder / "body.npz", named, method))


def as_npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


@attack("Python objects, which could run code")
def body_of_objects(folder):
    objects = np.array([Canary(folder)], dtype=object)
    return with_body(folder, {"v_template": as_npy(objects, allow_pickle=True)})


@attack("bytes, more than")
def body_that_inflates_to_50_gb(folder):
    members = {"v_template.npy": (npy(f"({50 * GIB // 12}, 3)"), 50 * GIB)}
    return run(folder, "--body", bomb(folder / "body.npz", members))


@attack("bytes, more than")
def body_of_many_arrays_that_inflate(folder):
    names = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
    members = {f"{name}.npy": (npy(f"({40 * MIB},)"), 160 * MIB) for name in names}
    return run(folder, "--body", bomb(folder / "body.npz", members))


@attack("lies about its size")
def body_whose_header_claims_terabytes(folder):
    return with_body(folder, {"v_template": npy(f"({10**12}, 3)", bytes(24))})


@attack("lies about its size")
def body_of_negative_size(folder):
    return with_body(folder, {"v_template": npy("(-2, -3)", bytes(24))})


@attack("no numpy array|lies about its size")
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
    return run(folder, "--body", path)


@attack("is damaged")
def body_that_is_encrypted(folder):
    arguments = with_body(folder, {"v_template": npy("(2, 3)", bytes(24))})
    path = folder / "body.npz"
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return arguments


@attack("is damaged|cut off or lies")
def body_whose_zip_lies_about_sizes(folder):
    arguments = with_body(folder, {"v_template": npy("(2, 3)", bytes(24))})
    claim_size(folder / "body.npz", "v_template.npy", 2**27)
    return arguments


@attack("has no shapedirs")
def body_whose_members_climb_out(folder):
    content = npy("(2, 3)", bytes(24))
    names = ("../../v_template.npy", "/tmp/v_template.npy", "v_template.npy\x00.npy", "..\\f.npy")
    return run(folder, "--body", write_zip(folder / "body.npz", [(n, content) for n in names]))


@attack("is damaged|shape")
def body_with_everything_twice(folder):
    members = [(f"{name}.npy", as_npy(array)) for name, array in good_body().items()]
    members += [(name, npy("(0, 3)")) for name, _ in members]
    return run(folder, "--body", write_zip(folder / "body.npz", members))


@attack("is damaged")
def body_in_a_zip_of_a_million_members(folder):
    path = write_zip(folder / "body.npz", [("a.npy", b"")], zipfile.ZIP_STORED)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    entry = content[start : content.index(b"PK\x05\x06")]
    many = entry * 10**6
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, len(many), start, 0)
    path.write_bytes(content[:start] + many + end)
    return run(folder, "--body", path)


@attack("is damaged")
def body_whose_names_are_no_text(folder):
    arguments = with_body(folder, {"v_täplate": npy("(2, 3)", bytes(24))})
    patch(folder / "body.npz", "ä".encode(), b"\xff\xff")
    return arguments


@attack("is a folder|cannot be read|not on this machine")
def body_that_is_a_folder(folder):
    (folder / "body.npz").mkdir()
    return run(folder, "--body", folder / "body.npz")


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


# --- the authors' checkpoints: staf weights import FOLDER ---------------------------------------


def release(folder: Path, state: object) -> Arguments:
    for name in RELEASE:
        torch.save({"gen_state_dict": state, "model": state}, folder / name)
    return ["weights", "import", folder]


def release_of(folder: Path, pickled: bytes, **records: bytes) -> Arguments:
    """A torch zip with this pickle."""
    members = [("a/data.pkl", pickled), ("a/version", b"3\n"), ("a/byteorder", b"little")]
    members += [(f"a/data/{name}", content) for name, content in records.items()]
    for name in RELEASE:
        write_zip(folder / name, members, zipfile.ZIP_STORED)
    return ["weights", "import", folder]


@attack("could run code")
def release_with_code(folder):
    return release(folder, Canary(folder))


@attack("could run code")
def release_with_code_in_the_old_format(folder):
    for name in RELEASE:
        content = {"gen_state_dict": Canary(folder)}
        torch.save(content, folder / name, _use_new_zipfile_serialization=False)
    return ["weights", "import", folder]


@attack("could run code")
def release_that_is_a_bare_pickle(folder):
    for name in RELEASE:
        (folder / name).write_bytes(pickle.dumps(Canary(folder)))
    return ["weights", "import", folder]


@attack("could run code")
def release_that_asks_for_memory(folder):
    size = (4 * GIB).to_bytes(5, "little")
    return release_of(folder, b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + size + b"\x85R.")


@attack("damaged or no torch file|could run code")
def release_that_crashes_the_reader(folder):
    return release_of(folder, b"\x80\x02})" + b"\x85" * 500_000 + b"K\x00s.")


@attack("could run code|named tensors")
def release_of_tensors_without_memory(folder):
    return release(folder, {"a": torch.empty(10**12, device="meta")})


@attack("could run code|named tensors")
def release_of_sparse_tensors(folder):
    place = torch.zeros(2, 1, dtype=torch.long)
    tensor = torch.sparse_coo_tensor(place, [1.0], (10**6, 10**6), check_invariants=False)
    return release(folder, {"deconv_layers.1.bias": tensor})


@attack("is missing|shape")
def release_of_one_number_repeated(folder):
    return release(folder, {"a": torch.zeros(1).expand(10**12)})


@attack("damaged or no torch file")
def release_that_inflates_to_50_gb(folder):
    torch.save({"gen_state_dict": {"a": torch.zeros(4)}}, folder / "good")
    with zipfile.ZipFile(folder / "good") as archive:
        members = {name: (archive.read(name), 0) for name in archive.namelist()}
    members["good/data/0"] = (b"", 50 * GIB)
    for name in RELEASE:
        bomb(folder / name, members)
    return ["weights", "import", folder]


@attack("damaged or no torch file")
def release_whose_pickle_inflates(folder):
    for name in RELEASE:
        bomb(folder / name, {"a/data.pkl": (b"\x80\x02X\xff\xff\xff\x3f", GIB)})
    return ["weights", "import", folder]


@attack("could run code")
def release_that_is_a_zip_only_at_its_end(folder):
    size = (4 * GIB).to_bytes(5, "little")
    pickled = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + size + b"\x85R."
    for name in RELEASE:
        path = write_zip(folder / name, [("a/version", b"3")])
        path.write_bytes(pickled * 5 + path.read_bytes())
    return ["weights", "import", folder]


@attack("unknown|missing|named tensors")
def release_with_keys_for_the_terminal(folder):
    return release(folder, {"\x1b[2J\n" * 10**6: torch.zeros(1)})


@attack("plain name", code=2)
def release_with_a_name_that_climbs_out(folder):
    return [*release(folder, {}), "--name", "../../escaped"]


@attack("plain name", code=2)
def release_with_an_absolute_name(folder):
    return [*release(folder, {}), "--name", folder / "escaped"]


@attack("plain name", code=2)
def release_with_a_name_without_end(folder):
    return [*release(folder, {}), "--name", "x" * 5000]


@attack("plain name", code=2)
def release_with_a_name_for_the_terminal(folder):
    return [*release(folder, {}), "--name", "\x1b[31mred\n"]


# --- checkpoints: --weights FILE ----------------------------------------------------------------


def with_weights(folder: Path, header: object, data: bytes = b"", length: int | None = None):
    return run(folder, "--weights", safetensors(folder / "w.safetensors", header, data, length))


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@attack("damaged or no safetensors")
def weights_whose_header_has_no_end(folder):
    return with_weights(folder, {}, length=2**60)


@attack("damaged or no safetensors")
def weights_with_a_header_of_100_mb(folder):
    one = json.dumps(tensor("F32", [0], 0, 0))
    many = ",".join(f'"{n:020}": {one}' for n in range(10**6))
    return with_weights(folder, f'{{"__metadata__": {json.dumps(about())}, {many}}}'.encode())


@attack("damaged or no safetensors")
def weights_beyond_the_file(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [1000], 0, 4000)}
    return with_weights(folder, header, bytes(8))


@attack("damaged or no safetensors")
def weights_that_overlap(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [2], 0, 8)}
    return with_weights(folder, header | {"b": tensor("F32", [2], 4, 12)}, bytes(12))


@attack("damaged or no safetensors")
def weights_of_boundless_shape(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [2**40, 2**40], 0, 8)}
    return with_weights(folder, header, bytes(8))


@attack("damaged or no safetensors")
def weights_with_a_header_of_brackets(folder):
    return with_weights(folder, b"[" * 2**20)


@attack("more than any network")
def weights_of_40_gb_of_nothing(folder):
    size = 40 * GIB
    header = {"__metadata__": about(), "a": tensor("I8", [size // 2**20, 2**20], 0, size)}
    arguments = with_weights(folder, header)
    os.truncate(folder / "w.safetensors", size + 8 + len(json.dumps(header)))
    return arguments


def eight_bits(folder: Path, rows: int, columns: int) -> Arguments:
    """Zeros in eight bits that take no room on the disk."""
    size = rows * columns
    header = {
        "__metadata__": about(),
        "a": tensor("I8", [rows, columns], 0, size),
        "a.scale": tensor("F32", [rows], size, size + 4 * rows),
    }
    arguments = with_weights(folder, header)
    os.truncate(folder / "w.safetensors", size + 4 * rows + 8 + len(json.dumps(header)))
    return arguments


@attack("more than any network")
def weights_that_unpack_to_a_gigabyte(folder):
    return eight_bits(folder, 256, MIB)


@attack("trained for body")
def weights_that_unpack_to_what_a_network_has(folder):
    return eight_bits(folder, 72, MIB)


@attack("not finite")
def weights_of_nan(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [2], 0, 8)}
    return with_weights(folder, header, struct.pack("<ff", 0, float("nan")))


@attack("no fitting scale")
def weights_in_eight_bits_of_no_shape(folder):
    header = {"__metadata__": about(), "a": tensor("I8", [], 0, 1)}
    header["a.scale"] = tensor("F32", [], 1, 5)
    return with_weights(folder, header, bytes(5))


@attack("no fitting scale")
def weights_in_eight_bits_of_one_row(folder):
    header = {"__metadata__": about(), "a": tensor("I8", [4], 0, 4)}
    header["a.scale"] = tensor("F32", [4], 4, 20)
    return with_weights(folder, header, bytes(20))


@attack("no fitting scale|not finite")
def weights_with_a_scale_of_nan(folder):
    header = {"__metadata__": about(), "a": tensor("I8", [2, 2], 0, 4)}
    header["a.scale"] = tensor("F32", [2], 4, 12)
    return with_weights(folder, header, bytes(4) + struct.pack("<ff", 1, float("nan")))


@attack("not torch.float32|no safetensors")
def weights_of_another_type(folder):
    header = {"__metadata__": about(), "a": tensor("F8_E8M0", [4], 0, 4)}
    return with_weights(folder, header, bytes(4))


@attack("not made by staf|no safetensors")
def weights_whose_metadata_are_nested(folder):
    return with_weights(folder, {"__metadata__": {"staf": "[" * 10**6}})


@attack("not made by staf|no safetensors")
def weights_whose_metadata_take_90_mb(folder):
    return with_weights(folder, {"__metadata__": {"staf": "[[]," * (22 * 2**20) + "0]"}})


@attack("nothing usable about its body")
def weights_of_a_body_without_name(folder):
    return with_weights(folder, {"__metadata__": about(body=" ")})


@attack("nothing usable about its body")
def weights_of_a_body_that_is_a_path(folder):
    return with_weights(
        folder, {"__metadata__": about(body="../../../etc/passwd 0123456789abcdef")}
    )


@attack("nothing usable about its name")
def weights_whose_name_is_for_the_terminal(folder):
    return with_weights(folder, {"__metadata__": about(name="\x1b[2J\n[red]" * 1000)})


@attack("unknown architecture")
def weights_of_an_encoder_that_is_a_path(folder):
    architecture = {"encoder": "../../x", "apm": True, "tcfm": 1, "safm": 2}
    return with_weights(folder, {"__metadata__": about(architecture=architecture)})


def samples(folder: Path, index: np.ndarray, **changes: object) -> Arguments:
    """Weights for the body that comes with the project, and which vertices they sample."""
    rows, columns = index.shape
    weight = np.ones_like(index, np.float32)
    header = {
        "__metadata__": about(body=open_body().identity, **changes),
        "samples.index": tensor("I64", [rows, columns], 0, index.nbytes),
        "samples.weight": tensor("F32", [rows, columns], index.nbytes, index.nbytes * 3 // 2),
    }
    return with_weights(folder, header, index.tobytes() + weight.tobytes())


@attack("levels are")
def weights_with_a_thousand_million_levels(folder):
    architecture = {"encoder": "resnet50", "apm": True, "tcfm": 10**9, "safm": -5}
    return samples(folder, np.zeros((431, 1), np.int64), architecture=architecture)


@attack("samples other points")
def weights_that_sample_outside_of_the_body(folder):
    return samples(folder, np.full((431, 1), 2**40))


@attack("samples other points")
def weights_that_sample_a_million_points(folder):
    return samples(folder, np.zeros((10**6, 1), np.int64))


@attack("does not fit")
def weights_without_a_network(folder):
    return samples(folder, np.zeros((431, 1), np.int64))


@attack("not torch.float32")
def weights_with_names_without_end(folder):
    header = {"__metadata__": about(), "\x1b[2J" * 10**5: tensor("F64", [1], 0, 8)}
    return with_weights(folder, header, bytes(8))


@attack("not a detector|no such file|unknown detector|is no checkpoint")
def weights_of_another_kind(folder):
    path = folder / "w.pt"
    torch.save({"a": Canary(folder)}, path)
    return run(folder, "--weights", path)


@attack("no such file|too long")
def weights_with_a_name_without_end_as_option(folder):
    return run(folder, "--weights", "../" * 3000)


# --- detectors: --detector FILE -----------------------------------------------------------------


@attack("add --trust")
def detector_of_unknown_origin(folder):
    arguments = run(folder)[:4]
    torch.save({"model": Canary(folder)}, folder / "detector.pt")
    return [*arguments, "--detector", folder / "detector.pt"]


@attack("not a readable YOLO checkpoint")
def detector_with_code_that_is_trusted(folder):
    arguments = run(folder)
    torch.save({"model": Canary(folder)}, folder / "detector.pt")
    return arguments


# --- result folders: staf export FOLDER, staf render FOLDER -------------------------------------


def result(folder: Path, **changes: object) -> Path:
    """A finished result of one person, as a stranger may hand it on, with a changed run.json."""
    tracks = [make_track(1, 8)]
    run = {
        "video": {"path": str(folder / "v.mp4"), "sha256": "0" * 64},
        "frames": 8,
        "damage": {"packets": 0, "missing": 0},
        "body_file": "open-body",
        "options": {},
        "passes": {},
    }
    tracks_csv.save(folder / "tracks.csv", tracks)
    (folder / "run.json").write_text(json.dumps(run | changes))
    return folder


@attack("run.json: cannot be read|not written by staf")
def result_of_nested_brackets(folder):
    (result(folder) / "run.json").write_text("[" * 10**6)
    return ["export", folder]


@attack("run.json: cannot be read|not written by staf")
def result_whose_account_takes_100_mb(folder):
    (result(folder) / "run.json").write_text("[" + "[]," * (33 * 2**20) + "0]")
    return ["export", folder]


@attack("run.json: cannot be read|not written by staf")
def result_whose_account_is_no_text(folder):
    (result(folder) / "run.json").write_bytes(b"\xff\xfe" * 100)
    return ["export", folder]


@attack("not written by staf")
def result_of_a_video_that_is_a_number(folder):
    return ["render", result(folder, video=7)]


@attack("not written by staf")
def result_of_a_video_at_a_number(folder):
    return ["render", result(folder, video={"path": 7, "sha256": "0" * 64})]


@attack("not written by staf")
def result_of_a_body_that_is_a_list(folder):
    return ["export", result(folder, body_file=["x"])]


@attack("not written by staf|too long|no longer there")
def result_of_a_path_without_end(folder):
    return ["render", result(folder, video={"path": "x/" * 10**6, "sha256": "0" * 64})]


@attack("not written by staf")
def result_of_negative_frames(folder):
    return ["render", result(folder, frames=-(10**30))]


@attack("no table of tracks")
def result_with_a_million_columns(folder):
    with (result(folder) / "tracks.csv").open("w") as stream:
        stream.write(",".join(f"c{n}" for n in range(10**6)) + "\n")
        stream.write(",".join("1" for _ in range(10**6)) + "\n")
    return ["export", folder]


@attack("no table of tracks")
def result_of_one_endless_line(folder):
    with (result(folder) / "tracks.csv").open("w") as stream:
        stream.write("1," * 2**25)
    return ["export", folder]


def one_row(folder: Path, **fields: str) -> Arguments:
    path = result(folder) / "tracks.csv"
    header, first, *_ = path.read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True)) | fields
    path.write_text(header + "\n" + ",".join(row.values()) + "\n")
    return ["export", folder]


@attack("line 2")
def result_of_a_person_without_end(folder):
    return one_row(folder, person="1e308")


@attack("line 2")
def result_of_half_a_person(folder):
    return one_row(folder, person="-1.5")


@attack("line 2")
def result_of_frames_without_end(folder):
    return one_row(folder, frame="1e300")


@attack("line 2")
def result_with_a_formula(folder):
    return one_row(folder, x1="=HYPERLINK(1)" + "\x1b[2J" * 10_000)


@attack("no such file")
def result_of_many_people(folder):
    path = result(folder) / "tracks.csv"
    header, first, *_ = path.read_text().splitlines()
    rest = first.split(",", 1)[1]
    with path.open("w") as stream:
        stream.write(header + "\n")
        for person in range(20_000):
            stream.write(f"{person + 2},{rest}\n")
    return ["export", folder]


def with_person(folder: Path, members: dict[str, bytes]) -> Arguments:
    named = [(f"{name}.npy", content) for name, content in members.items()]
    write_zip(result(folder) / "person_1.npz", named)
    return ["export", folder]


@attack("Python objects, which could run code")
def person_of_objects(folder):
    objects = np.array([Canary(folder)], dtype=object)
    return with_person(folder, {"person": as_npy(objects, allow_pickle=True)})


@attack("bytes, more than")
def person_that_inflates(folder):
    bomb(result(folder) / "person_1.npz", {"person.npy": (npy(f"({GIB // 4},)"), GIB)})
    return ["export", folder]


@attack("bytes, more than")
def person_of_many_arrays_that_inflate(folder):
    fields = ("person", "frame", "time", "poses", "betas", "trans", "pred_cam", "box")
    members = {f"{name}.npy": (npy(f"({40 * MIB},)"), 160 * MIB) for name in fields}
    bomb(result(folder) / "person_1.npz", members)
    return ["export", folder]


@attack("has no |not numbers|run the clip again|holds")
def person_of_text_that_is_none(folder):
    members = {"person": as_npy(np.array(1)), "body": npy("()", b"\xff" * 4, dtype="'<U1'")}
    return with_person(folder, members)


PIPES = ("run.json", "tracks.csv", "person_1.npz")


def piped(name: str) -> Attack:
    """A result with a pipe that never says anything."""

    def make(folder: Path) -> Arguments:
        (result(folder) / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        return ["export", folder]

    make.__name__ = f"result_with_a_pipe_for_{name}"
    return Attack(make, f"{name}: (cannot be read|is no file)")


ATTACKS += [piped(name) for name in PIPES]


@attack("run.json: cannot be read")
def result_of_a_device(folder):
    (result(folder) / "run.json").unlink()
    (folder / "run.json").symlink_to("/dev/zero")
    return ["export", folder]


@attack("person_1.npz: .*more than|run the clip again")
def person_whose_rows_are_wide(folder):
    """As many frames as in tracks.csv, each of 80 MB."""
    people = {
        "person": np.array(1), "focal_length": np.array(900.0), "image_size": np.array([640, 480]),
        "fps": np.array(30.0), "gender": np.array("neutral"), "body": np.array("x 0"),
        "weights": np.array("x 0"),
    }  # fmt: skip
    members = {f"{name}.npy": (as_npy(array), 0) for name, array in people.items()}
    for field in fields(Person):
        if field.name not in people:
            members[f"{field.name}.npy"] = npy(f"(8, {10 * MIB})", dtype="'<f8'"), 640 * MIB
    bomb(result(folder) / "person_1.npz", members)
    return ["export", folder]


# --- truth and photos: staf eval FOLDER ---------------------------------------------------------


def truth(folder: Path, **members: bytes) -> Arguments:
    made_clips.make_clip(folder / "v.mp4", range(3))
    good = {
        "frame": as_npy(np.arange(3)),
        "box": as_npy(np.tile([1.0, 1, 50, 50], (3, 1))),
        "image_size": as_npy(np.array([128, 96])),
        "focal_length": as_npy(np.array(500.0)),
        "poses": as_npy(np.zeros((3, 72))),
        "betas": as_npy(np.zeros((3, 10))),
        "trans": as_npy(np.ones((3, 3))),
        "body": as_npy(np.array("open-body 0123456789abcdef")),
    }
    named = [(f"{name}.npy", content) for name, content in (good | members).items()]
    write_zip(folder / "v.npz", named)
    return ["eval", folder]


@attack("Python objects, which could run code")
def truth_of_objects(folder):
    objects = np.array([Canary(folder)], dtype=object)
    return truth(folder, poses=as_npy(objects, allow_pickle=True))


@attack("bytes, more than")
def truth_that_inflates(folder):
    arguments = truth(folder)
    bomb(folder / "v.npz", {"frame.npy": (npy(f"({GIB // 2},)", dtype="'<i8'"), 4 * GIB)})
    return arguments


@attack("body")
def truth_of_a_body_that_is_no_text(folder):
    return truth(folder, body=npy("()", b"\xff" * 4, dtype="'<U1'"))


@attack("frame")
def truth_of_frames_without_end(folder):
    return truth(folder, frame=as_npy(np.array([0, 1, 1e300])))


def photos(folder: Path, content: bytes) -> Arguments:
    (folder / "images.npy").write_bytes(content)
    kp2d = as_npy(np.ones((1, 1, 31, 3), np.float32))
    box = as_npy(np.float32([[[1, 1, 50, 50]]]))
    write_zip(folder / "labels.npz", [("kp2d.npy", kp2d), ("box.npy", box)])
    return ["eval", folder]


@attack("no numpy array of images")
def photos_of_objects(folder):
    return photos(folder, as_npy(np.array([Canary(folder)], dtype=object), allow_pickle=True))


@attack("no numpy array of images")
def photos_that_are_a_pickle(folder):
    return photos(folder, pickle.dumps(Canary(folder)))


@attack("no numpy array of images")
def photos_that_are_a_zip(folder):
    arguments = photos(folder, b"")
    write_zip(folder / "images.npy", [("a.npy", npy("(2,)", bytes(8)))])
    return arguments


@attack("no numpy array of images")
def photos_without_end(folder):
    return photos(folder, npy(f"({10**12}, 1, 96, 96, 3)", bytes(99), dtype="'|u1'"))


@attack("no numpy array of images|holds")
def photos_of_negative_number(folder):
    return photos(folder, npy("(-1, 1, 96, 96, 3)", bytes(99), dtype="'|u1'"))


@attack("no numpy array of images")
def photos_with_a_header_of_brackets(folder):
    return photos(folder, raw_npy(b"(" * 9000))


# --- videos: staf run FILE ----------------------------------------------------------------------


def secret(folder: Path) -> Path:
    """A video that the attack is after."""
    return made_clips.make_clip(folder / "secret.mp4", range(3))


def played(folder: Path, name: str, text: str | bytes) -> Arguments:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    secret(folder)
    return ["run", path, "-o", folder / "out"]


PLAYLISTS = {
    "list.ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "list.mp4": "ffconcat version 1.0\nfile 'secret.mp4'\nduration 9\n",
    "absolute.ffconcat": "ffconcat version 1.0\nfile {secret}\n",
    "live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "key.m3u8": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="secret.mp4"\n'
    "#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "net.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n"
    "#EXT-X-ENDLIST\n",
    "tunnel.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nconcat:secret.mp4|secret.mp4\n"
    "#EXT-X-ENDLIST\n",
    "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "stream.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>secret.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "film.imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas'
    '/2067-3/2016"><Id>x</Id></CompositionPlaylist>',
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="secret.mp4"/></svg>',
    "about.ffmetadata": ";FFMETADATA1\ntitle=secret.mp4\n[STREAM]\n",
    "titles.idx": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00, filepos: 0\n",
    "stream.rtsp": "RTSP/1.0 200 OK\nContent-Base: rtsp://127.0.0.1:{port}/\n",
    "redirect.asx": '<asx version="3.0"><entry><ref href="secret.mp4"/></entry></asx>',
}


def playlist(name: str) -> Attack:
    def make(folder: Path) -> Arguments:
        text = PLAYLISTS[name].replace("{secret}", str(folder / "secret.mp4"))
        return played(folder, name, text.replace("{port}", os.environ.get("STAF_TEST_PORT", "9")))

    make.__name__ = f"playlist_{name}"
    return Attack(make, "not a video")


ATTACKS += [playlist(name) for name in PLAYLISTS]


@attack("not one frame|not a video")
def video_that_lies_elsewhere(folder):
    """A QuickTime movie whose samples are said to be in another file."""
    path = made_clips.make_clip(folder / "v.mov", range(3))
    content = path.read_bytes()
    name = str(secret(folder)).encode()
    alias = bytes(6) + bytes(10 - 6) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    alias += bytes([10]) + b"secret.mp4".ljust(63, b"\0") + bytes(16) + b"\0\1\0\1" + bytes(16)
    alias += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
    alias = b"alis" + bytes(4) + alias
    entry = struct.pack(">I", len(alias) + 4) + alias
    start = content.index(b"dref") + 12
    old = content[start : start + int.from_bytes(content[start : start + 4], "big")]
    grown = content[:start] + entry + content[start + len(old) :]
    grown = bytearray(grown)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = (content.rindex(box) if box in (b"moov", b"trak") else content.index(box)) - 4
        size = int.from_bytes(content[place : place + 4], "big") + len(entry) - len(old)
        grown[place : place + 4] = size.to_bytes(4, "big")
    path.write_bytes(bytes(grown))
    return ["run", path, "-o", folder / "out"]


@attack("not one frame")
def video_of_a_numbered_name(folder):
    """What FFmpeg takes for a series of pictures: the files beside it would be shown."""
    secret(folder).rename(folder / "secret0.jpg")
    return played(folder, "secret%d.jpg", "no picture")


# --- names --------------------------------------------------------------------------------------

NAMES = {
    "clears": "\x1b[2J\x1b]0;title\x07.mp4",
    "lines": "a\nerror: b\r\n.mp4",
    "backwards": "\u202egpj.\u2066x.mp4",
    "bytes": "\udcff\udc9b31m.mp4",
    "markup": "[red]x[link=file:x]y.mp4",
    "emoji": ":smile:.mp4",
    "protocol": "concat:a|b.mp4",
    "address": "http:..127.0.0.1.mp4",
    "pattern": "%s%n{0}%(x)s.mp4",
}


def named(kind: str) -> Attack:
    name = NAMES[kind]

    def make(folder: Path) -> Arguments:
        return played(folder, name, "no video")

    make.__name__ = f"name_with_{kind}"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return Attack(make, re.escape(f"{shown}: not a video"))


ATTACKS += [named(kind) for kind in NAMES]


@attack("no finished result")
def folder_with_a_name_for_the_terminal(folder):
    path = folder / "\x1b[2J\n[b]"
    path.mkdir()
    return ["export", path]


@attack("unknown format", code=2)
def export_to_a_format_that_climbs_out(folder):
    return ["export", folder, "--format", "../../x\x1b[2J"]
