"""Readers for MakeHuman's assets: meshes (obj), garments (mhclo), shape targets, weights.

The files are text; MakeHuman's own code is not needed.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from staf_cli.core.errors import BodyError
from staf_cli.core.records import Float, Ints

DECIMETRE = 0.1  # MakeHuman's unit, in metres


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of quads with texture coordinates."""

    vertices: Float  # (N, 3) decimetres, y up
    quads: Ints  # (Q, 4) vertex indices
    uv: Float  # (U, 2) from the texture's lower left corner, 0..1
    quad_uv: Ints  # (Q, 4) rows of uv

    @property
    def triangles(self) -> Ints:
        """Triangles (T, 3): the quads cut in two, without the empty halves of repeated corners."""
        cut = np.concatenate([self.quads[:, [0, 1, 2]], self.quads[:, [0, 2, 3]]])
        whole: Ints = cut[(cut != np.roll(cut, 1, 1)).all(1)]
        return whole


@dataclass(frozen=True, eq=False)
class Fitting:
    """How a garment's G vertices are placed on the base mesh: the content of an mhclo file."""

    anchors: Ints  # (G, 3) vertices of the base mesh
    shares: Float  # (G, 3) weights of the anchors
    offsets: Float  # (G, 3) added to the weighted anchors, in units of `scales`
    scales: tuple[tuple[int, int, float], ...]  # for x, y, z: two vertices, their usual distance
    covered: Ints  # vertices of the base mesh that the garment hides


def read_mesh(path: Path) -> Mesh:
    """Read an obj file of quads with texture coordinates; a triangle repeats its last corner.

    Returns:
        The mesh, in the file's units.

    Raises:
        BodyError: The file is missing or holds no such mesh.
    """
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    corners: list[list[list[int]]] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in values[:3]])
            elif kind == "vt":
                uv.append([float(x) for x in values[:2]])
            elif kind == "f":
                face = [[int(x) - 1 for x in corner.split("/")[:2]] for corner in values]
                corners.append([*face, *face[-1:]][:4])
        faces = np.array(corners, np.int64).reshape(-1, 4, 2)
        points = np.array(vertices, float).reshape(-1, 3)
        mesh = Mesh(points, faces[..., 0], np.array(uv, float).reshape(-1, 2), faces[..., 1])
    except (OSError, ValueError) as error:
        raise BodyError(f"{path}: is no obj of quads with texture coordinates: {error}") from error
    if not len(faces) or faces[..., 0].max() >= len(points) or faces[..., 1].max() >= len(uv):
        raise BodyError(f"{path}: its faces name vertices that it does not have; get it again")
    return mesh


def read_fitting(path: Path) -> Fitting:
    """Read an mhclo file.

    Returns:
        The placement of the garment's vertices.

    Raises:
        BodyError: The file is missing or holds no placement.
    """
    rows: list[list[float]] = []
    scales = dict.fromkeys("xyz", (0, 0, 0.0))
    covered: list[int] = []
    section = ""
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0] in ("verts", "delete_verts"):
                section = words[0]
            elif words[0][1:] == "_scale":
                scales[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]))
            elif words[0][0].isalpha():
                continue  # other settings may be anywhere, even among the vertices
            elif section == "verts":
                numbers = [float(word) for word in words]
                rows.append(numbers if len(numbers) == 9 else [numbers[0]] * 3 + [1.0] + [0.0] * 5)
            elif section == "delete_verts":
                for span in line.replace(" - ", "-").split():
                    first, _, last = span.partition("-")
                    covered += range(int(first), int(last or first) + 1)
    except (OSError, ValueError, IndexError) as error:
        raise BodyError(f"{path}: is no mhclo file: {error}") from error
    if not rows:
        raise BodyError(f"{path}: is no mhclo file: it places no vertices")
    table = np.array(rows)
    return Fitting(
        anchors=table[:, :3].astype(np.int64),
        shares=table[:, 3:6],
        offsets=table[:, 6:],
        scales=tuple(scales[axis] for axis in "xyz"),
        covered=np.unique(np.array(covered, np.int64)),
    )


def read_base_shape(makehuman: Path, vertices: Float, male: float) -> Float:
    """Shape the base mesh as a young adult of average muscle, weight and height.

    The shape is the mean of MakeHuman's three origins (african, asian, caucasian).

    Args:
        makehuman: The folder `mpfb2` of MakeHuman's data.
        vertices: (N, 3) decimetres, the neutral base mesh.
        male: From 0, a woman, to 1, a man.

    Returns:
        (N, 3) decimetres.

    Raises:
        BodyError: A shape target is missing or broken.
    """
    folder = makehuman / "targets" / "macrodetails"
    shape = vertices.copy()
    for sex, share in (("male", male), ("female", 1 - male)):
        if share:
            body = f"universal-{sex}-young-averagemuscle-averageweight"
            shape += share * _read_target(folder / f"{body}.target.gz", len(vertices))
            for origin in ("african", "asian", "caucasian"):
                target = _read_target(folder / f"{origin}-{sex}-young.target.gz", len(vertices))
                shape += share / 3 * target
    return shape


def _read_target(path: Path, vertices: int) -> Float:
    """Read the offsets (N, 3) in decimetres of one shape target."""
    offset = np.zeros((vertices, 3))
    try:
        with gzip.open(path, "rt") as lines:
            rows = [line.split()[:4] for line in lines if line[0] not in "#\n"]
        table = np.array(rows, float).reshape(-1, 4)
        offset[table[:, 0].astype(int)] = table[:, 1:]
    except (OSError, ValueError, IndexError) as error:
        raise BodyError(f"{path}: is no target of MakeHuman's base mesh: {error}") from error
    return offset


def read_base_weights(makehuman: Path, vertices: int) -> Float:
    """Read MakeHuman's own skinning weights of the whole base mesh.

    Args:
        makehuman: The folder `mpfb2` of MakeHuman's data.
        vertices: Number of vertices of the base mesh, N.

    Returns:
        (N, B) for MakeHuman's B bones; rows sum to 1.

    Raises:
        BodyError: The file is missing or holds no such weights.
    """
    path = makehuman / "rigs" / "standard" / "weights.default.json"
    try:
        bones = json.loads(path.read_text(encoding="utf-8"))["weights"]
        weights = np.zeros((vertices, len(bones)))
        for column, pairs in enumerate(bones.values()):
            for row, weight in pairs:
                weights[row, column] = weight
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise BodyError(f"{path}: holds no weights of MakeHuman's base mesh: {error}") from error
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
    return weights
