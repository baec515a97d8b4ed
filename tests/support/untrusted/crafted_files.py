"""Files made by hand, whose headers and sizes may be wrong."""

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def npy(shape: str, data: bytes = b"", dtype: str = "'<f4'", fortran: str = "False") -> bytes:
    """An npy member with these fields in its header."""
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


def as_npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()
