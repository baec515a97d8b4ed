"""The SMPL format as plain arrays: what a body file must hold, checked, hashed, read and written.

An npz has the arrays under SMPL's own names (f, kintree_table, weights, ...). Reading one never
runs code: no pickles, and every array's size is checked before memory is taken for it.

Shapes: V vertices, F faces.
"""

import hashlib
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from staf_cli.core.errors import BodyError
from staf_cli.core.files import atomic

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

JOINT_COUNT = 24
BETAS = 10
SAMPLES = 431  # points of the down-sampled mesh at which the network samples its maps
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

# SMPL's names of arrays where they are not those of BodyArrays; vt and ft are SMPL-X's.
NPZ_NAMES = {"parents": "kintree_table", "faces": "f", "uv": "vt", "uv_faces": "ft"}
INTEGER_ARRAYS = ("parents", "faces", "sample_index", "uv_faces")

MOST_VERTICES = 100_000
LARGEST_ARRAYS = 256 * 2**20  # bytes, together; SMPL with 300 betas in float64 has 90 MB
LARGEST_DIRECTORY = 2**20  # bytes of a zip's list of members; reading it takes twenty times that
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # how numpy and SMPL's authors compress
# What reading an npy header can raise: it is a Python expression, and this one may be any text.
HEADER_ERRORS = (
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    TokenError,
    OverflowError,
    RecursionError,
    MemoryError,
)
ROW_TOLERANCE = 1e-3  # how far a vertex's skinning weights may sum from 1


@dataclass(frozen=True, eq=False)
class BodyArrays:
    """One body model in SMPL format with V vertices, in its T-pose, in metres.

    `J_regressor` computes the 24 joints from the vertices. `posedirs` are vertex offsets for the
    207 = 23 * 9 numbers of R - I of the joints 1..23. `sample_index` and `sample_weight` mix
    each of the network's 431 points from K vertices; the two other regressors compute the 17 COCO
    keypoints and the 14 LSP joints of the evaluation from posed vertices. `uv` and `uv_faces` place
    the surface on a texture; a vertex on a seam has several rows. All after `faces` are optional.

    Raises:
        BodyError: An array has another shape or values that are not finite, or weights, parents
            or faces make no body.
    """

    v_template: Floats  # (V, 3) m
    shapedirs: Floats  # (V, 3, 10) m per unit of beta
    posedirs: Floats  # (V, 3, 207) m
    J_regressor: Floats  # (24, V)
    weights: Floats  # (V, 24) skinning weights, rows sum to 1
    parents: Ints  # (24,), -1 for the root
    faces: Ints  # (F, 3) vertex indices, from 0
    sample_index: Ints | None = None  # (431, K) vertex indices
    sample_weight: Floats | None = None  # (431, K), 0 where padded
    coco17_regressor: Floats | None = None  # (17, V)
    lsp14_regressor: Floats | None = None  # (14, V)
    uv: Floats | None = None  # (T, 2) texture coordinates, from the lower left corner
    uv_faces: Ints | None = None  # (F, 3) rows of uv, of the corners of each face

    def __post_init__(self) -> None:
        """Check shapes, types and values."""
        vertices = len(self.v_template) if self.v_template.ndim else 0
        columns = -1 if self.sample_index is None else self.sample_index.shape[-1]
        shapes = {
            "v_template": (vertices, 3),
            "shapedirs": (vertices, 3, BETAS),
            "posedirs": (vertices, 3, 9 * (JOINT_COUNT - 1)),
            "J_regressor": (JOINT_COUNT, vertices),
            "weights": (vertices, JOINT_COUNT),
            "parents": (JOINT_COUNT,),
            "faces": (-1, 3),
            "sample_index": (SAMPLES, -1),
            "sample_weight": (SAMPLES, columns),
            "coco17_regressor": (17, vertices),
            "lsp14_regressor": (14, vertices),
            "uv": (-1, 2),
            "uv_faces": (-1, 3),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            _check_array(name, array, shape)
            kind = np.int64 if name in INTEGER_ARRAYS else np.float32
            if array is not None and array.dtype != kind:
                raise BodyError(f"{name}: holds {array.dtype}, expected {kind.__name__}")
        if vertices == 0 or len(self.faces) == 0:
            raise BodyError("the body has no vertices or no faces; use the original SMPL file")
        if (self.sample_index is None) != (self.sample_weight is None):
            raise BodyError("sample_index and sample_weight come together; only one is there")
        if (self.uv is None) != (self.uv_faces is None):
            raise BodyError("vt and ft come together; only one is there")
        if tuple(self.parents.tolist()) != SMPL_PARENTS:
            raise BodyError("the joints' tree is not SMPL's; only 24-joint SMPL bodies are known")
        if np.abs(self.weights.sum(1) - 1).max() > ROW_TOLERANCE or self.weights.min() < 0:
            raise BodyError("weights: rows must be >= 0 and sum to 1; use the original SMPL file")
        rows = 0 if self.uv is None else len(self.uv)
        for name, what, count in (
            ("faces", "vertex", vertices),
            ("sample_index", "vertex", vertices),
            ("uv_faces", "row of uv", rows),
        ):
            index = getattr(self, name)
            if index is not None and (index.min() < 0 or index.max() >= count):
                raise BodyError(f"{name}: a {what} outside 0..{count - 1}; the file is damaged")
        if self.uv_faces is not None and len(self.uv_faces) != len(self.faces):
            raise BodyError(
                f"uv_faces: {len(self.uv_faces)} faces, faces has {len(self.faces)}; "
                "get the file again"
            )

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that identify this body: see `body_hash`."""
        return body_hash(self.v_template, self.shapedirs, self.J_regressor, self.weights)


def body_hash(
    v_template: NDArray[np.generic],
    shapedirs: NDArray[np.generic],
    J_regressor: NDArray[np.generic],
    weights: NDArray[np.generic],
) -> str:
    """Hash the arrays that make two bodies differ.

    They are hashed in the order of the arguments, each as C-ordered little-endian float32.

    Args:
        v_template: (V, 3) m.
        shapedirs: (V, 3, 10 or more); only the first 10 count.
        J_regressor: (24, V)
        weights: (V, 24)

    Returns:
        The first 16 hexadecimal digits of the SHA-256.
    """
    digest = hashlib.sha256()
    for array in (v_template, shapedirs[..., :BETAS], J_regressor, weights):
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def load_body(path: Path) -> BodyArrays:
    """Read a body's npz.

    Args:
        path: The npz, with arrays under SMPL's names; sample_*, *_regressor, vt, ft and posedirs
            (then zeros) may be missing.

    Returns:
        The body.

    Raises:
        BodyError: The file is missing, damaged, not an npz, or no SMPL body.
    """
    members = {_npz_name(field.name): field.name for field in fields(BodyArrays)}
    found = {members[name]: array for name, array in read_npz(path, members).items()}
    for name in ("v_template", "shapedirs", "J_regressor", "weights", "parents", "faces"):
        if name not in found:
            raise BodyError(f"{path}: has no {_npz_name(name)}; it is not an SMPL-format body")
    try:
        return body_arrays(found)
    except BodyError as error:
        raise BodyError(f"{path}: {error}") from error


def body_arrays(found: dict[str, NDArray[np.generic]]) -> BodyArrays:
    """Convert arrays of any number type to a body.

    Args:
        found: Arrays under the names of BodyArrays' fields. `parents` may be the whole
            kintree_table (2, 24), whose root is 2**32 - 1 in old files; shapedirs may have more
            than 10 betas, which are cut; posedirs may be missing, they are zeros then.

    Returns:
        The body.

    Raises:
        BodyError: They are not the arrays of an SMPL body.
    """
    for name, array in found.items():
        if array.dtype.kind not in "biuf":
            raise BodyError(f"{name}: holds {array.dtype}, not numbers; not an SMPL body")
    _check_array("v_template", found["v_template"], (-1, 3))
    _check_array("shapedirs", found["shapedirs"], (-1, 3, -1))
    if len(found["v_template"]) > MOST_VERTICES:
        raise BodyError(f"v_template: more than {MOST_VERTICES} vertices; not an SMPL body")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf and is refused
        floats = {
            name: np.ascontiguousarray(array, dtype=np.float32)
            for name, array in found.items()
            if name not in INTEGER_ARRAYS
        }
    floats["shapedirs"] = np.ascontiguousarray(floats["shapedirs"][..., :BETAS])
    floats.setdefault(
        "posedirs", np.zeros((*floats["v_template"].shape, 9 * (JOINT_COUNT - 1)), np.float32)
    )
    integers = {
        name: np.ascontiguousarray(found[name]).astype(np.int64)
        for name in INTEGER_ARRAYS
        if name in found
    }
    parents = integers["parents"]
    parents = parents[0].copy() if parents.ndim == 2 and len(parents) else parents.copy()
    parents[parents == 2**32 - 1] = -1
    return BodyArrays(
        v_template=floats["v_template"],
        shapedirs=floats["shapedirs"],
        posedirs=floats["posedirs"],
        J_regressor=floats["J_regressor"],
        weights=floats["weights"],
        parents=parents,
        faces=integers["faces"],
        sample_index=integers.get("sample_index"),
        sample_weight=floats.get("sample_weight"),
        coco17_regressor=floats.get("coco17_regressor"),
        lsp14_regressor=floats.get("lsp14_regressor"),
        uv=floats.get("uv"),
        uv_faces=integers.get("uv_faces"),
    )


def save_body(body: BodyArrays, path: Path) -> None:
    """Write a body as the compressed npz that `load_body` reads; posedirs of zeros are left out.

    Args:
        body: The body.
        path: The npz to write.

    Raises:
        OutputError: The file cannot be written.
    """
    arrays = {
        _npz_name(field.name): getattr(body, field.name)
        for field in fields(BodyArrays)
        if getattr(body, field.name) is not None
    }
    arrays["kintree_table"] = np.stack([body.parents, np.arange(JOINT_COUNT)])
    if not body.posedirs.any():
        del arrays["posedirs"]
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def read_npz(
    path: Path, names: Iterable[str], largest: int | None = None, kinds: str = "biufU"
) -> dict[str, NDArray[np.generic]]:
    """Read some arrays of an untrusted npz, numbers or text; the others are not touched.

    Args:
        path: The npz.
        names: Of the arrays; one that is not there is left out of the result.
        largest: Bytes that they may take together; None: as much as any body needs.
        kinds: Of numpy's types that an array may have.

    Returns:
        The arrays that are there, by name.

    Raises:
        BodyError: The file is missing or damaged, an array holds objects (a pickle), the arrays
            take too many bytes, or a header does not fit its data.
    """
    with open_zip(path) as archive:
        present = set(archive.namelist())
        members = {name: f"{name}.npy" for name in names if f"{name}.npy" in present}
        size = sum(archive.getinfo(member).file_size for member in members.values())
        if size > (LARGEST_ARRAYS if largest is None else largest):
            raise BodyError(
                f"{path}: its arrays take {size} bytes, more than any body needs or its frames "
                "allow; get the file again"
            )
        return {
            name: _read_member(path, archive, member, kinds) for name, member in members.items()
        }


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an untrusted zip for reading; its directory is not read where it is too large.

    Args:
        path: The zip.

    Yields:
        The open zip; errors while members are read in the block become BodyError, too.

    Raises:
        BodyError: The file is missing or damaged.
    """
    damaged = f"{path}: is damaged, or no npz or zip file; get it again"
    try:
        if not path.is_file():  # reading a pipe would block
            problem = "cannot be read: is no file" if path.exists() else "there is no such file"
            raise BodyError(f"{path}: {problem}")
        with path.open("rb") as stream:
            if _directory_size(stream) > LARGEST_DIRECTORY:
                raise BodyError(damaged)
            with zipfile.ZipFile(stream) as archive:
                if any(member.compress_type not in ZIP_METHODS for member in archive.infolist()):
                    raise BodyError(damaged)
                yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
    ) as error:
        raise BodyError(damaged) from error
    except OSError as error:
        raise BodyError(f"{path}: cannot be read: {error.strerror or error}") from error


def _directory_size(stream: IO[bytes]) -> int:
    """The bytes that zipfile itself will read into memory when it opens the zip; 0 for no zip."""
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    size: int = end[zipfile._ECD_SIZE] if end else 0  # type: ignore[attr-defined]
    return size


def _read_member(
    path: Path, archive: zipfile.ZipFile, member: str, kinds: str
) -> NDArray[np.generic]:
    where = f"{path}: {member.removesuffix('.npy')}"
    with archive.open(member) as stream:
        try:
            version = npy.read_magic(stream)
            one = version == (1, 0)
            read_header = npy.read_array_header_1_0 if one else npy.read_array_header_2_0
            shape, _, dtype = read_header(stream)
        except HEADER_ERRORS as error:
            raise BodyError(f"{where} is no numpy array; get the file again") from error
        start = stream.tell()
    if dtype.hasobject:
        raise BodyError(f"{where} holds Python objects, which could run code; it is not read")
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise BodyError(f"{where} holds {dtype!s:.40}, neither numbers nor text; get it again")
    wrong_size = f"{where} is cut off or has a wrong size; get the file again"
    data = archive.getinfo(member).file_size - start
    if min(shape, default=1) < 0 or data != math.prod(shape) * dtype.itemsize:
        raise BodyError(wrong_size)
    try:
        with archive.open(member) as stream:
            array: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
    except (
        HEADER_ERRORS
    ) as error:  # fewer data than the zip promises, or a shape that numpy cannot hold
        raise BodyError(wrong_size) from error
    if dtype.kind == "U":  # Python aborts on a number that is no letter
        letters = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if letters.max(initial=0) > sys.maxunicode:
            raise BodyError(f"{where} holds what is no text; get the file again")
    return array


def _npz_name(field: str) -> str:
    return NPZ_NAMES.get(field, field)


def _check_array(name: str, array: NDArray[np.generic] | None, shape: tuple[int, ...]) -> None:
    if array is None:
        return
    fits = array.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = str(shape).replace("-1", "any")
        raise BodyError(f"{name}: shape {array.shape}, expected {expected}; not an SMPL body")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BodyError(f"{name}: holds values that are not finite; get the file again")
