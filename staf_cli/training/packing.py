"""Prepared data packed into small files, for a machine without network, and unpacked there.

A pack is a folder with one folder for each load, 1/, 2/, ...: pieces of files, and in every load
the same contents.json, which lists them all with their hashes. Pictures become JPEGs; rendered
sets are left out. Unpacking works with any number of the loads and reports what is missing.
"""

import hashlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic
from staf_cli.core.large_arrays import create_array
from staf_cli.training.loop import Say

FILES = (  # in the order in which they are unpacked: a set's labels after its images
    "motions.npz",
    "wardrobe.npz",
    "backgrounds.npy",
    "photos/images.npy",
    "photos/labels.npz",
    "photos-held-out/images.npy",
    "photos-held-out/labels.npz",
    "resnet50.safetensors",
    "yolo11n.safetensors",
)
PIECE = 8_000_000  # bytes
LOAD = 60 * 2**20  # bytes
QUALITY = 85  # of JPEGs
CONTENTS = "contents.json"
FORMAT = "staf-pack-1"


@dataclass(frozen=True)
class FilePiece:
    """A part of a packed file."""

    name: str  # of a file in one of the loads' folders
    bytes: int
    sha256: str


Contents = dict[str, list[FilePiece]]  # the packed files and their pieces, in order


def pack(data: Path, folder: Path, say: Say) -> None:
    """Pack prepared data.

    Args:
        data: What `prepare_data` made.
        folder: The pack's, to write.
        say: Called with a line for each load.

    Raises:
        DatasetError: A file is missing or cannot be read.
        OutputError: The pack cannot be written.
    """
    absent = [name for name in FILES if not (data / name).is_file()]
    if absent:
        raise DatasetError(f"{data}: lacks {', '.join(absent)}; prepare it first")
    contents: Contents = {}
    cut: dict[str, bytes] = {}
    for name in FILES:
        content = _packed(data / name)
        contents[name] = []
        for start in range(0, len(content), PIECE):
            part = content[start : start + PIECE]
            piece = f"{name.replace('/', '-')}.{start // PIECE:02d}"
            cut[piece] = part
            contents[name].append(FilePiece(piece, len(part), hashlib.sha256(part).hexdigest()))
    loads = _share_out({name: len(part) for name, part in cut.items()})
    listing = {name: [asdict(piece) for piece in pieces] for name, pieces in contents.items()}
    about = json.dumps({"format": FORMAT, "files": listing}, indent=1)
    for number, names in enumerate(loads, 1):
        load = folder / str(number)
        for name in names:
            _write(load / name, cut[name])
        _write(load / CONTENTS, about.encode())
        megabytes = sum(len(cut[name]) for name in names) / 1e6
        say(f"{load}: {len(names)} pieces, {megabytes:.1f} MB")


def unpack(folder: Path, data: Path, say: Say) -> None:
    """Unpack every file whose pieces are all here.

    Args:
        folder: The pack's, with some loads or all.
        data: The folder of prepared data, to write.
        say: Called with a line for each file, and with what is missing.

    Raises:
        DatasetError: There is no load, the loads do not belong together, or a piece was altered.
        OutputError: The data cannot be written.
    """
    loads = sorted(path.parent for path in folder.glob(f"*/{CONTENTS}"))
    if not loads:
        raise DatasetError(f"{folder}: holds no load of a pack; give the folder of 1/, 2/, ...")
    contents = _read_contents(loads[0] / CONTENTS)
    if any(_read_contents(load / CONTENTS) != contents for load in loads):
        raise DatasetError(f"{folder}: its loads are of different packs; pack once more")
    missing = []
    for name in FILES:
        places = [_find(loads, piece) for piece in contents[name]]
        found = [path for path in places if path is not None]
        if len(found) == len(places):
            _unpack(name, [_read(p, c) for p, c in zip(found, contents[name], strict=True)], data)
            say(f"unpacked {name}")
        elif not (data / name).exists():
            missing.append(f"{name} ({len(places) - len(found)} of {len(places)} pieces)")
    if missing:
        say(f"still missing: {', '.join(missing)}; bring the other loads and unpack again")


def _share_out(sizes: dict[str, int]) -> list[list[str]]:
    """Distribute pieces over as few loads as LOAD allows, about equally large."""
    for count in range(math.ceil(sum(sizes.values()) / LOAD), len(sizes)):
        loads: list[list[str]] = [[] for _ in range(count)]
        weights = [0] * count
        for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
            lightest = weights.index(min(weights))
            loads[lightest].append(name)
            weights[lightest] += size
        if max(weights) <= LOAD:
            return loads
    return [[name] for name in sizes]


def _packed(path: Path) -> bytes:
    """A file's content; for an array of pictures (..., H, W, 3), its shape and its JPEGs."""
    if path.suffix != ".npy":
        return path.read_bytes()
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); prepare it again") from error
    if array.dtype != np.uint8 or array.ndim < 4 or array.shape[-1] != 3:
        raise DatasetError(f"{path}: holds {array.dtype} {array.shape}, no pictures")
    jpegs = [_encode(picture) for picture in array.reshape(-1, *array.shape[-3:])]
    return safetensors.save(
        {
            "shape": np.array(array.shape),
            "end": np.cumsum([len(jpeg) for jpeg in jpegs]),
            "jpeg": np.frombuffer(b"".join(jpegs), np.uint8),
        }
    )


def _unpack(name: str, parts: list[bytes], data: Path) -> None:
    content = b"".join(parts)
    if not name.endswith(".npy"):
        _write(data / name, content)
        return
    try:
        arrays = safetensors.load(content)
        shape = tuple(int(n) for n in arrays["shape"])
        pictures = _decode(arrays["jpeg"], arrays["end"], shape[-3:])
        with atomic(data / name) as temporary:
            array = create_array(temporary, np.uint8, shape)
            flat = array.reshape(-1, *shape[-3:])
            for place, picture in zip(flat, pictures, strict=True):
                place[:] = picture
            array.flush()
    except (SafetensorError, KeyError, ValueError) as error:
        raise DatasetError(f"{name}: holds no pictures ({error}); pack once more") from error


def _encode(picture: NDArray[np.uint8]) -> bytes:
    # Pillow comes with torchvision, whose own JPEGs need a build that fits the installed torch.
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=QUALITY, optimize=True)
    return stream.getvalue()


def _decode(
    jpeg: NDArray[np.uint8], end: NDArray[np.int64], shape: tuple[int, ...]
) -> Iterator[NDArray[np.uint8]]:
    """Decode JPEGs that follow each other; raise ValueError for another shape."""
    from PIL import Image

    start = 0
    for stop in end.tolist():
        with Image.open(io.BytesIO(jpeg[start:stop].tobytes())) as image:
            picture = np.asarray(image)
        if picture.shape != shape:
            raise ValueError(f"a picture is {picture.shape} instead of {shape}")
        yield picture
        start = stop


def _read_contents(path: Path) -> Contents:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        return {
            name: [
                FilePiece(str(p["name"]), int(p["bytes"]), str(p["sha256"]))
                for p in about["files"][name]
            ]
            for name in FILES
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: describes no pack ({error!r}); pack once more") from error


def _find(loads: list[Path], piece: FilePiece) -> Path | None:
    """Where a piece is; only the last part of its name is used, so no path leads elsewhere."""
    places = (load / Path(piece.name).name for load in loads)
    return next((path for path in places if path.is_file()), None)


def _read(path: Path, piece: FilePiece) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != piece.sha256:
        raise DatasetError(f"{path}: was altered or cut off; bring it here again")
    return content


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)
