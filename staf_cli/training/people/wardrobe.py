"""What synthetic people wear: skins, clothes, shoes and hair in SMPL format, in one npz file.

A piece is in the body's own frame (m, y up, T-pose) and has its own blend shapes and skinning
weights, so the same betas and rotations pose the body and the piece.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from staf_cli.body.format import BETAS, JOINT_COUNT, ROW_TOLERANCE, read_npz
from staf_cli.core.errors import BodyError
from staf_cli.core.files import atomic

KINDS = ("suit", "shoes", "hair")

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Piece:
    """One garment, pair of shoes or hair: G vertices for a body of V.

    Its surface is open: both sides of a triangle may be seen.

    Raises:
        BodyError: Arrays have a wrong shape, values that are not finite, skinning weights that
            do not sum to 1, or faces of missing vertices.
    """

    name: str
    kind: str  # one of KINDS
    female: int  # 1 for women, 0 for men, -1 for both
    held_out: bool  # never worn in training
    v_template: NDArray[np.float32]  # (G, 3) m
    shapedirs: NDArray[np.float32]  # (G, 3, 10) m per unit of beta
    weights: NDArray[np.float32]  # (G, 24) skinning weights, rows sum to 1
    faces: NDArray[np.int64]  # (F, 3) indices of the piece's own vertices
    colours: NDArray[np.uint8]  # (G, 3) RGB
    hides: NDArray[np.bool_]  # (V,) vertices of the body that it surely covers

    def __post_init__(self) -> None:
        """Check the kind and all arrays."""
        count = len(self.v_template) if self.v_template.ndim else 0
        if self.kind not in KINDS or self.female not in (-1, 0, 1):
            raise BodyError(f"{self.name}: is a {self.kind} for {self.female}; no known piece")
        shapes = {
            "v_template": (count, 3),
            "shapedirs": (count, 3, BETAS),
            "weights": (count, JOINT_COUNT),
            "faces": (len(self.faces) if self.faces.ndim else 0, 3),
            "colours": (count, 3),
            "hides": (len(self.hides) if self.hides.ndim else 0,),
        }
        for name, shape in shapes.items():
            _check(f"{self.name}/{name}", getattr(self, name), shape)
        if count == 0 or len(self.faces) == 0:
            raise BodyError(f"{self.name}: has no vertices or no faces; make the wardrobe again")
        if np.abs(self.weights.sum(1) - 1).max() > ROW_TOLERANCE or self.weights.min() < 0:
            raise BodyError(f"{self.name}/weights: rows must be >= 0 and sum to 1")
        if self.faces.min() < 0 or self.faces.max() >= count:
            raise BodyError(f"{self.name}/faces: a vertex outside 0..{count - 1}")


@dataclass(frozen=True, eq=False)
class Wardrobe:
    """S skins for a body of V vertices, and the pieces to dress it in.

    Raises:
        BodyError: Arrays have a wrong shape.
    """

    skins: NDArray[np.uint8]  # (S, V, 3) RGB at the body's vertices
    skin_names: tuple[str, ...]
    skin_female: NDArray[np.bool_]  # (S,)
    skin_held_out: NDArray[np.bool_]  # (S,) never worn in training
    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        """Check the arrays' shapes against each other."""
        count = len(self.skin_names)
        vertices = self.skins.shape[1] if self.skins.ndim == 3 else 0
        _check("skins", self.skins, (count, vertices, 3))
        _check("skin_female", self.skin_female, (count,))
        _check("skin_held_out", self.skin_held_out, (count,))
        for piece in self.pieces:
            _check(f"{piece.name}/hides", piece.hides, (vertices,))

    @property
    def training(self) -> "Wardrobe":
        """The skins and pieces that may be worn in training."""
        return self._only(held_out=False)

    @property
    def held_out(self) -> "Wardrobe":
        """The skins and pieces that are kept for evaluation."""
        return self._only(held_out=True)

    def _only(self, held_out: bool) -> "Wardrobe":
        rows = np.flatnonzero(self.skin_held_out == held_out)
        return Wardrobe(
            skins=self.skins[rows],
            skin_names=tuple(self.skin_names[row] for row in rows),
            skin_female=self.skin_female[rows],
            skin_held_out=self.skin_held_out[rows],
            pieces=tuple(piece for piece in self.pieces if piece.held_out == held_out),
        )


# For each array of the file the kinds of its dtype that are allowed, as in numpy's `dtype.kind`.
_LISTS = {
    "skins": "u",
    "skin_names": "U",
    "skin_female": "b",
    "skin_held_out": "b",
    "names": "U",
    "kinds": "U",
    "female": "i",
    "held_out": "b",
}
_ARRAYS = {
    "v_template": "f",
    "shapedirs": "f",
    "weights": "f",
    "faces": "iu",
    "colours": "u",
    "hides": "b",
}


def read_wardrobe(path: Path) -> Wardrobe:
    """Read the npz file that `write_wardrobe` wrote; half-precision arrays become float32.

    Returns:
        The wardrobe.

    Raises:
        BodyError: The file is missing, damaged or holds no wardrobe.
    """
    lists = _read(path, _LISTS)
    names = [str(name) for name in lists["names"].ravel()]
    arrays = _read(path, {f"{name}/{k}": kinds for name in names for k, kinds in _ARRAYS.items()})
    try:
        for name in ("names", "kinds", "female", "held_out"):
            _check(name, lists[name], (len(names),))
        pieces = tuple(
            Piece(
                name=name,
                kind=str(lists["kinds"][row]),
                female=int(lists["female"][row]),
                held_out=bool(lists["held_out"][row]),
                v_template=arrays[f"{name}/v_template"].astype(np.float32),
                shapedirs=arrays[f"{name}/shapedirs"].astype(np.float32),
                weights=_sum_to_one(arrays[f"{name}/weights"].astype(np.float32)),
                faces=arrays[f"{name}/faces"].astype(np.int64),
                colours=arrays[f"{name}/colours"].astype(np.uint8),
                hides=arrays[f"{name}/hides"].astype(np.bool_),
            )
            for row, name in enumerate(names)
        )
        return Wardrobe(
            skins=lists["skins"].astype(np.uint8),
            skin_names=tuple(str(name) for name in lists["skin_names"].ravel()),
            skin_female=lists["skin_female"].astype(np.bool_),
            skin_held_out=lists["skin_held_out"].astype(np.bool_),
            pieces=pieces,
        )
    except BodyError as error:
        raise BodyError(f"{path}: {error}") from error


def write_wardrobe(wardrobe: Wardrobe, path: Path) -> None:
    """Write the npz file that `read_wardrobe` reads; weights and shapedirs in half precision.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **_to_arrays(wardrobe))


def _to_arrays(wardrobe: Wardrobe) -> dict[str, Array]:
    """Return the arrays of the npz file by their names."""
    pieces = wardrobe.pieces
    arrays: dict[str, Array] = {
        "skins": wardrobe.skins,
        "skin_names": np.array(wardrobe.skin_names, dtype=np.str_),
        "skin_female": wardrobe.skin_female,
        "skin_held_out": wardrobe.skin_held_out,
        "names": np.array([piece.name for piece in pieces], dtype=np.str_),
        "kinds": np.array([piece.kind for piece in pieces], dtype=np.str_),
        "female": np.array([piece.female for piece in pieces], dtype=np.int8),
        "held_out": np.array([piece.held_out for piece in pieces], dtype=np.bool_),
    }
    small = {"shapedirs": np.float16, "weights": np.float16, "faces": np.int32}
    for piece in pieces:
        for name in _ARRAYS:
            array = getattr(piece, name)
            arrays[f"{piece.name}/{name}"] = array.astype(small.get(name, array.dtype))
    return arrays


def _read(path: Path, members: dict[str, str]) -> dict[str, Array]:
    """Read arrays by name, each with its allowed dtype kinds."""
    arrays = read_npz(path, members)
    for name, kinds in members.items():
        if name not in arrays:
            raise BodyError(f"{path}: has no {name}; it is no wardrobe")
        if arrays[name].dtype.kind not in kinds:
            raise BodyError(f"{path}: {name}: holds {arrays[name].dtype}; it is no wardrobe")
    return arrays


def _sum_to_one(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo the rounding to half precision; rows that are further off stay, to be refused."""
    if weights.ndim != 2:
        return weights
    total = weights.sum(1, keepdims=True)
    near = np.abs(total - 1) < 4 * ROW_TOLERANCE
    scaled: NDArray[np.float32] = np.where(near, weights / np.where(near, total, 1), weights)
    return scaled


def _check(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape or with values that are not finite."""
    if array.shape != shape:
        raise BodyError(f"{name}: shape {array.shape}, expected {shape}; it is no wardrobe")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BodyError(f"{name}: holds values that are not finite; make the wardrobe again")
