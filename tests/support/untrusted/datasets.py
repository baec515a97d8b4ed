"""Truth and photos to evaluate on: staf eval FOLDER."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np

from tests.support import made_clips
from tests.support.made_joblib import joblib_file
from tests.support.untrusted.attacks import GIB, Arguments, Canary, attack
from tests.support.untrusted.crafted_files import as_npy, bomb, npy, raw_npy, write_zip


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
    box = as_npy(np.array([[[1, 1, 50, 50]]], np.float32))
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


@attack("nothing was run")
def sequence_of_3dpw_with_code(folder):
    path = folder / "sequenceFiles" / "test" / "a.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"poses": [Canary(folder)]}, 2))
    return ["eval", folder]


@attack("damaged or no numpy array")
def regressor_with_code(folder):
    arguments = truth(folder)
    (folder / "J.npy").write_bytes(as_npy(np.array([Canary(folder)]), allow_pickle=True))
    return [*arguments, "--regressor", folder / "J.npy"]


@attack("nothing was run")
def vibe_s_file_with_code(folder):
    (folder / "a_db.pt").write_bytes(joblib_file({"vid_name": Canary(folder)}))
    return ["data", "check", folder]


@attack("Python objects, which could run code")
def table_of_images_with_code(folder):
    names = as_npy(np.array([Canary(folder)], dtype=object), allow_pickle=True)
    write_zip(folder / "h36m_valid_protocol2.npz", [("imgname.npy", names)])
    return ["eval", folder]


@attack("is damaged or holds no images")
def labels_nested_without_end(folder):
    (folder / "annotations").mkdir()
    (folder / "annotations" / "a.json").write_text("[" * 10**6)
    return ["data", "check", folder]


@attack("is damaged or no MATLAB 5 file")
def annotation_of_3dhp_that_inflates(folder):
    path = folder / "S1" / "Seq1" / "annot.mat"
    path.parent.mkdir(parents=True)
    inflated = zlib.compress(struct.pack("<II", 14, 2**31 - 8) + bytes(2**26), 9)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(head + struct.pack("<II", 15, len(inflated)) + inflated)
    return ["data", "check", folder]


@attack("is damaged or no HDF5|needs h5py")
def annotation_of_3dhp_with_addresses_beyond_its_end(folder):
    (folder / "TS1").mkdir()
    head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0])
    addresses = struct.pack("<4Q", 0, 2**64 - 1, 2**62, 2**64 - 1)
    content = head + addresses + struct.pack("<2Q2I", 0, 2**61, 1, 0) + b"\xff" * 500
    (folder / "TS1" / "annot_data.mat").write_bytes(content)
    return ["data", "check", folder]


@attack("is damaged or holds no fits")
def fits_nested_without_end(folder):
    (folder / "MPII_ver01.json").write_text('{"ver": 0.1, "data": [' + '{"a":' * 10**6)
    return ["data", "check", folder]
