"""The rules of glTF 2.0 that the Khronos validator checks, as far as they concern our files."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
TYPES: dict[int, np.dtype[Any]] = {
    5121: np.dtype("u1"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
VERTICES, INDICES = 34962, 34963


def read_glb(path: Path) -> tuple[Json, bytes]:
    """The JSON and the binary chunk, each of a length that is a multiple of four."""
    content = path.read_bytes()
    magic, version, size = struct.unpack_from("<4sII", content)
    assert (magic, version, size) == (b"glTF", 2, len(content))
    length, kind = struct.unpack_from("<I4s", content, 12)
    rest = 20 + length
    assert (kind, length % 4) == (b"JSON", 0)
    size, kind = struct.unpack_from("<I4s", content, rest)
    assert (kind, size % 4, rest + 8 + size) == (b"BIN\0", 0, len(content))
    document: Json = json.loads(content[20:rest])
    return document, content[rest + 8 :]


def check_gltf(path: Path) -> Json:
    """Check a file by all the rules here, and return its JSON."""
    document, binary = read_glb(path)
    tables = [_table(document, binary, number) for number in range(len(document["accessors"]))]
    _check_buffer(document, binary)
    _check_meshes(document, tables)
    _check_animations(document, tables)
    _check_nodes(document, tables)
    _check_all_is_used(document)
    return document


def _table(document: Json, binary: bytes, number: int) -> NDArray[Any]:
    """An accessor's numbers (N, columns): aligned, within its view, finite, of the given bounds."""
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype, columns = TYPES[accessor["componentType"]], COLUMNS[accessor["type"]]
    assert view["byteOffset"] % 4 == 0
    assert accessor["count"] * columns * dtype.itemsize == view["byteLength"]
    flat = np.frombuffer(binary, dtype, accessor["count"] * columns, view["byteOffset"])
    table: NDArray[Any] = flat.reshape(-1, columns)
    assert len(table) > 0
    assert np.isfinite(table).all()
    for name, bound in (("min", table.min(0)), ("max", table.max(0))):
        assert np.array_equal(np.array(accessor.get(name, bound), dtype), bound)
    return table


def _check_buffer(document: Json, binary: bytes) -> None:
    """Views lie one after the other and fill the buffer."""
    (buffer,) = document["buffers"]
    end = 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] == end
        end += view["byteLength"]
    assert end == buffer["byteLength"]
    assert len(binary) - 3 <= end <= len(binary)


def _check_meshes(document: Json, tables: list[NDArray[Any]]) -> None:
    """Attributes fit each other and the skin; normals and weights are normalised."""

    def target(number: int) -> int | None:
        view: Json = document["bufferViews"][document["accessors"][number]["bufferView"]]
        return view.get("target")

    for node in document["nodes"]:
        if "mesh" not in node:
            continue
        (primitive,) = document["meshes"][node["mesh"]]["primitives"]
        attributes = primitive["attributes"]
        parts = {name: tables[number] for name, number in attributes.items()}
        assert {target(number) for number in attributes.values()} == {VERTICES}
        assert target(primitive["indices"]) == INDICES
        assert {len(table) for table in parts.values()} == {len(parts["POSITION"])}
        assert tables[primitive["indices"]].max() < len(parts["POSITION"])
        assert {"min", "max"} <= document["accessors"][attributes["POSITION"]].keys()
        assert np.abs(np.linalg.norm(parts["NORMAL"], axis=1) - 1).max() < 5e-4
        joints, weights = parts["JOINTS_0"], parts["WEIGHTS_0"]
        assert weights.min() >= 0
        assert np.abs(weights.sum(1) - 1).max() < 1e-6
        assert not joints[weights == 0].any()
        assert joints.max() < len(document["skins"][node["skin"]]["joints"])
        assert all(
            (np.diff(np.sort(row[share > 0])) > 0).all()
            for row, share in zip(joints[::50], weights[::50], strict=True)
        )


def _check_animations(document: Json, tables: list[NDArray[Any]]) -> None:
    """Times ascend from 0 on; rotations are unit quaternions; a property is animated once."""
    for animation in document["animations"]:
        moved = [(one["target"]["node"], one["target"]["path"]) for one in animation["channels"]]
        assert len(set(moved)) == len(moved)
        assert len({one["sampler"] for one in animation["channels"]}) == len(animation["samplers"])
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            times, values = tables[sampler["input"]], tables[sampler["output"]]
            assert {"min", "max"} <= document["accessors"][sampler["input"]].keys()
            assert times.min() >= 0
            assert (np.diff(times[:, 0]) > 0).all()
            assert len(times) == len(values)
            if channel["target"]["path"] == "rotation":
                assert np.abs(np.linalg.norm(values, axis=1) - 1).max() < 1e-5


def _check_nodes(document: Json, tables: list[NDArray[Any]]) -> None:
    """Nodes form trees; skinned meshes are roots; a skin's joints are below its skeleton."""
    nodes = document["nodes"]
    parent = {child: i for i, node in enumerate(nodes) for child in node.get("children", ())}
    assert sum(len(node.get("children", ())) for node in nodes) == len(parent)
    roots = document["scenes"][document["scene"]]["nodes"]
    assert sorted(roots) == [i for i in range(len(nodes)) if i not in parent]
    for number, node in enumerate(nodes):
        if "skin" in node:
            assert number in roots
            assert not node.keys() & {"translation", "rotation", "scale", "children"}
    for skin in document["skins"]:
        matrices = tables[skin["inverseBindMatrices"]]
        assert len(matrices) == len(skin["joints"]) == len(set(skin["joints"]))
        assert (matrices[:, [3, 7, 11, 15]] == [0, 0, 0, 1]).all()
        names = [nodes[joint]["name"] for joint in skin["joints"]]
        assert len(set(names)) == len(names)
        for joint in skin["joints"]:
            while joint != skin["skeleton"]:
                joint = parent[joint]
    for kind in ("nodes", "meshes", "materials", "skins", "animations"):
        assert all(one["name"] for one in document[kind])
    top = [nodes[number]["name"] for number in roots]
    assert len(set(top)) == len(top)


def _check_all_is_used(document: Json) -> None:
    """Each object is referred to by another."""
    primitives = [one for mesh in document["meshes"] for one in mesh["primitives"]]
    samplers = [one for motion in document["animations"] for one in motion["samplers"]]
    used = {
        "accessors": [number for one in primitives for number in one["attributes"].values()]
        + [one["indices"] for one in primitives]
        + [one[end] for one in samplers for end in ("input", "output")]
        + [one["inverseBindMatrices"] for one in document["skins"]],
        "bufferViews": [one["bufferView"] for one in document["accessors"]],
        "materials": [one["material"] for one in primitives],
        **{
            f"{kind}s" if kind != "mesh" else "meshes": [
                node[kind] for node in document["nodes"] if kind in node
            ]
            for kind in ("mesh", "skin", "camera")
        },
    }
    for kind, numbers in used.items():
        assert set(numbers) == set(range(len(document[kind]))), kind
