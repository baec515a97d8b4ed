"""The authors' checkpoints: staf weights import FOLDER."""

import pickle
import zipfile
from pathlib import Path

import torch

from tests.support.untrusted.attacks import GIB, Arguments, Canary, attack
from tests.support.untrusted.crafted_files import bomb, write_zip

RELEASE = "3dpw_model_best.pth.tar", "base_model.pt"


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
