"""people.glb: the people of a clip as animated, skinned skeletons (glTF 2.0, binary).

Every person is two nodes: person_<id> with the skeleton below it, and the mesh person_<id>_body,
which only follows the skeleton. While the person is not in the picture the scale of the pelvis is
0, and with it that of the whole body: glTF has no other way to hide a node that all programs
support.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from staf_cli.body.clothes import tones_of
from staf_cli.body.skinning import Body
from staf_cli.core.files import atomic
from staf_cli.core.palette import person_colour
from staf_cli.core.records import Float, Person
from staf_cli.core.version import __version__
from staf_cli.export.motion import Y_UP, mean_betas, rest_pose
from staf_cli.export.rigs import bone_names
from staf_cli.export.scene import Scene
from staf_cli.export.seams import Corners, split_at_seams
from staf_cli.export.skeleton import Skeleton, floor_under, skeleton_of, with_root

FILES = "people.glb"
STILL = 1e-6  # a camera whose place (m) and axes change by less does not move
INFLUENCES = 4  # joints that may move a vertex; SMPL's vertices have no more
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963  # glTF's numbers for vertex data and indices
COMPONENT_TYPES = {"uint8": 5121, "uint32": 5125, "float32": 5126}
ACCESSOR_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
Json = dict[str, Any]


def names(_: Scene) -> list[str]:
    """Return the file's name."""
    return [FILES]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write all people into one file.

    Metres, y up, the origin on the ground or at the video camera, which is in the file; times are
    the clip's own, in float32. Each person has one shape, `mean_betas`. SMPL's pose-dependent
    corrections of the surface (posedirs) are left out, and only the four strongest of the joints
    that move a vertex are used; open-body loses nothing by either. A body with texture coordinates
    has them here: its vertices come first, in their order, then copies of those on seams. Clothes
    are vertex colours, which multiply the person's.

    Args:
        folder: The result folder.
        scene: What to write; one person at least.

    Yields:
        The file's path.
    """
    path = folder / FILES
    with atomic(path) as temporary:
        temporary.write_bytes(_glb(*_document(scene.placed())))
    yield path


@dataclass
class _Buffer:
    """The file's binary chunk while it is built, and its table of contents."""

    chunks: list[bytes] = field(default_factory=list)
    views: list[Json] = field(default_factory=list)
    accessors: list[Json] = field(default_factory=list)

    def add(
        self,
        array: NDArray[Any],
        target: int | None = None,
        bounds: bool = False,
        normalized: bool = False,
    ) -> int:
        """Append an array.

        Args:
            array: (N, ...), of a type and shape that glTF has.
            target: `ARRAY_BUFFER` or `ELEMENT_ARRAY_BUFFER` for a mesh's data, else None.
            bounds: Whether glTF demands the array's minimum and maximum.
            normalized: Whether whole numbers stand for 0 to 1.

        Returns:
            The number of its accessor.
        """
        start = sum(view["byteLength"] for view in self.views)
        data = np.ascontiguousarray(array).tobytes()
        view: Json = {"buffer": 0, "byteOffset": start, "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        accessor: Json = {
            "bufferView": len(self.views),
            "componentType": COMPONENT_TYPES[array.dtype.name],
            "count": len(array),
            "type": ACCESSOR_TYPES[array.shape[1:]],
        }
        if bounds:
            rows = array.reshape(len(array), -1)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        if normalized:
            accessor["normalized"] = True
        self.chunks.append(data)
        self.views.append(view)
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _document(scene: Scene) -> tuple[Json, bytes]:
    """Return the file's JSON and its binary chunk."""
    buffer = _Buffer()
    above = 1 if scene.root_motion else 0  # joints above the pelvis
    corners = split_at_seams(scene.body.arrays)
    shared = _add_shared(buffer, scene, corners, above)
    document: Json = {
        "asset": {"version": "2.0", "generator": f"staf {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [],
        "cameras": [_camera(scene.people[0])],
        "materials": [],
        "meshes": [],
        "skins": [],
        "animations": [{"name": "motion", "samplers": [], "channels": []}],
    }
    _add_camera(document, buffer, scene)
    for person in scene.people:
        vertices, joints = rest_pose(scene.body, mean_betas(person))
        skeleton = replace(skeleton_of(person, joints), names=bone_names(scene.rig))
        if scene.root_motion:
            sole = float(vertices[:, 1].min())
            level = scene.space == "world"
            floor = 0.0 if level else floor_under(person, joints, sole)
            skeleton = with_root(skeleton, sole, floor)
        first = _add_skeleton(document, buffer, f"person_{person.id}", skeleton)
        normals = _normals(vertices, scene.body.faces)
        surface = vertices[corners.vertex], normals[corners.vertex]
        _add_surface(document, buffer, shared, person, *surface)
        animation = document["animations"][0]
        _add_motion(animation, buffer, first, skeleton)
        _add_visibility(animation, buffer, first + above, person, scene.frames)
    document["accessors"] = buffer.accessors
    document["bufferViews"] = buffer.views
    binary = b"".join(buffer.chunks)
    document["buffers"] = [{"byteLength": len(binary)}]
    return document, binary


def _add_shared(buffer: _Buffer, scene: Scene, corners: Corners, above: int) -> dict[str, int]:
    """Append what the surfaces of all people share, and return the accessors by name."""
    joints, weights = _skin_weights(scene.body, above)
    shared = {
        "indices": buffer.add(corners.faces.astype(np.uint32).ravel(), ELEMENT_ARRAY_BUFFER),
        "JOINTS_0": buffer.add(joints[corners.vertex], ARRAY_BUFFER),
        "WEIGHTS_0": buffer.add(weights[corners.vertex], ARRAY_BUFFER),
    }
    if corners.uv is not None:  # glTF counts from the upper left corner of the texture
        flipped = np.stack([corners.uv[:, 0], 1 - corners.uv[:, 1]], 1)
        shared["TEXCOORD_0"] = buffer.add(flipped, ARRAY_BUFFER)
    tones = tones_of(scene.body.arrays) if scene.clothes else None
    if (
        tones is not None
    ):  # four numbers a vertex: glTF wants each to begin at a multiple of 4 bytes
        colours = np.full((len(corners.vertex), 4), 255, np.uint8)
        colours[:, :3] = np.rint(255 * tones[corners.vertex, None])
        shared["COLOR_0"] = buffer.add(colours, ARRAY_BUFFER, normalized=True)
    return shared


def _add_skeleton(document: Json, buffer: _Buffer, name: str, skeleton: Skeleton) -> int:
    """Append a person's node, joints and skin, and return the number of the first joint's node."""
    root = len(document["nodes"])
    first = root + 1
    document["scenes"][0]["nodes"].append(root)
    document["nodes"].append({"name": name, "children": [first]})
    for joint, parent in enumerate(skeleton.parents):
        bone = skeleton.rest[joint] - (skeleton.rest[parent] if parent >= 0 else 0)
        node: Json = {"name": skeleton.names[joint], "translation": bone.tolist()}
        children = [first + child for child, one in enumerate(skeleton.parents) if one == joint]
        if children:
            node["children"] = children
        document["nodes"].append(node)
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(skeleton.names), 1, 1))
    inverse_bind[:, 3, :3] = -skeleton.rest  # transposed: glTF stores matrices column by column
    document["skins"].append(
        {
            "name": name,
            "inverseBindMatrices": buffer.add(inverse_bind),
            "joints": list(range(first, first + len(skeleton.names))),
            "skeleton": root,
        }
    )
    return first


def _add_surface(
    document: Json,
    buffer: _Buffer,
    shared: dict[str, int],
    person: Person,
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
) -> None:
    """Append a person's mesh, which the skin appended last moves, its material and its node."""
    name, number = f"person_{person.id}", len(document["meshes"])
    attributes = {
        "POSITION": buffer.add(points, ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add(normals, ARRAY_BUFFER),
        **{part: shared[part] for part in shared if part != "indices"},
    }
    primitive = {"attributes": attributes, "indices": shared["indices"], "material": number}
    document["meshes"].append({"name": name, "primitives": [primitive]})
    document["materials"].append(_material(person))
    # A skinned mesh moves with its joints only: glTF asks for it beside them, not below a node.
    document["scenes"][0]["nodes"].append(len(document["nodes"]))
    document["nodes"].append({"name": f"{name}_body", "mesh": number, "skin": number})


def _material(person: Person) -> Json:
    """Return a material in the person's colour, which glTF wants in linear light."""
    encoded = np.array(person_colour(person.id)) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return {
        "name": f"person_{person.id}",
        "pbrMetallicRoughness": {
            "baseColorFactor": [*linear.round(4).tolist(), 1],
            "metallicFactor": 0,
            "roughnessFactor": 0.8,
        },
    }


def _add_motion(animation: Json, buffer: _Buffer, first: int, skeleton: Skeleton) -> None:
    """Append the animation of a skeleton whose first joint is the node `first`."""
    kept = _ascending(skeleton.time)
    times = buffer.add(skeleton.time[kept].astype(np.float32), bounds=True)
    for joint, places in skeleton.places.items():
        values = buffer.add(places[kept].astype(np.float32))
        _animate(animation, first + joint, "translation", times, values, "LINEAR")
    for joint, turns in skeleton.turns.items():
        values = buffer.add(_quaternions(turns[kept]))
        _animate(animation, first + joint, "rotation", times, values, "LINEAR")


def _add_visibility(
    animation: Json, buffer: _Buffer, pelvis: int, person: Person, frames: range
) -> None:
    """Append the scale of the node `pelvis`, where the person is not in all frames."""
    changes, visible = _visibility(person, frames)
    if all(visible):
        return
    kept = _ascending(np.array(changes))
    times = buffer.add(np.array(changes, np.float32)[kept], bounds=True)
    scales = np.repeat(np.array(visible, np.float32)[kept, None], 3, 1)
    _animate(animation, pelvis, "scale", times, buffer.add(scales), "STEP")


def _animate(animation: Json, node: int, path: str, times: int, values: int, how: str) -> None:
    """Append a channel; `times` and `values` are accessors, `how` they are interpolated."""
    target = {"node": node, "path": path}
    animation["channels"].append({"sampler": len(animation["samplers"]), "target": target})
    animation["samplers"].append({"input": times, "output": values, "interpolation": how})


def _ascending(time: Float) -> NDArray[np.bool_]:
    """Find the times (F,) that float32 tells from all before them, as glTF demands."""
    single = time.astype(np.float32)
    return np.concatenate([[True], single[1:] > np.maximum.accumulate(single)[:-1]])


def _normals(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return outward unit normals (V, 3); up for a vertex without faces."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    normals = np.array(mesh.vertex_normals, np.float32)
    normals[~normals.any(1)] = [0, 1, 0]
    return normals


def _skin_weights(body: Body, above: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the joints that move each vertex (V, 4), and their weights, which sum to 1."""
    weights = body.arrays.weights
    strongest = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    chosen = np.take_along_axis(weights, strongest, 1)
    joints = np.where(chosen > 0, strongest + above, 0)  # joint 0 where there is no weight
    return joints.astype(np.uint8), chosen / chosen.sum(1, keepdims=True)


def _quaternions(rotmats: Float) -> NDArray[np.float32]:
    """Return rotations (F, 3, 3) as unit quaternions (F, 4) x, y, z, w without jumps to -q."""
    quaternions = Rotation.from_matrix(rotmats).as_quat()
    cosines = (quaternions[1:] * quaternions[:-1]).sum(1)
    quaternions[1:] *= np.cumprod(np.where(cosines < 0, -1, 1))[:, None]
    return np.asarray(quaternions, np.float32)


def _visibility(person: Person, frames: range) -> tuple[list[float], list[bool]]:
    """Return the times (s) when the person appears or disappears, and which of them it is."""
    frame, time = person.frame.tolist(), person.time.tolist()
    times, visible = [time[0]], [True]
    if frame[0] > frames.start:
        times, visible = [0.0, *times], [False, *visible]
    for (last, start), (back, end) in pairwise(zip(frame, time, strict=True)):
        if back > last + 1:
            # The times of the frames in a gap are not known: assume that they are even.
            times += [start + (end - start) / (back - last), end]
            visible += [False, True]
    if frame[-1] + 1 < frames.stop:
        times.append(time[-1] + 1 / person.fps)
        visible.append(False)
    return times, visible


def _add_camera(document: Json, buffer: _Buffer, scene: Scene) -> None:
    """Append the node of the camera that filmed the clip, as its first people were placed by it."""
    node: Json = {"name": "camera", "camera": 0}
    document["nodes"].append(node)
    if scene.space == "camera":
        return
    time, turns, places = _camera_path(scene.people)
    moves = bool(np.ptp(turns, 0).max() > STILL or np.ptp(places, 0).max() > STILL)
    node["rotation"] = _quaternions(turns[:1])[0].tolist()
    node["translation"] = places[0].tolist()
    if moves:
        kept = _ascending(time)
        times = buffer.add(time[kept].astype(np.float32), bounds=True)
        animation = document["animations"][0]
        values = buffer.add(places[kept].astype(np.float32))
        _animate(animation, 0, "translation", times, values, "LINEAR")
        _animate(animation, 0, "rotation", times, buffer.add(_quaternions(turns[kept])), "LINEAR")


def _camera_path(people: Sequence[Person]) -> tuple[Float, Float, Float]:
    """Return times (F,), rotations (F, 3, 3) and places (F, 3) of the camera, by who is there."""
    found: dict[float, Float] = {}
    for person in people:
        assert person.world_camera is not None
        for time, moved in zip(person.time.tolist(), person.world_camera, strict=True):
            found.setdefault(time, moved)
    times = sorted(found)
    path = np.stack([found[time] for time in times])
    return np.array(times), path[..., :3] @ Y_UP.T, path[..., 3]


def _camera(person: Person) -> Json:
    """Return the lens of the camera that filmed the clip; it looks along -z, as glTF wants it."""
    width, height = person.image_size
    perspective = {
        "yfov": 2 * float(np.arctan(height / (2 * person.focal_length))),
        "aspectRatio": width / height,
        "znear": 0.1,
    }
    return {"type": "perspective", "perspective": perspective}


def _glb(document: Json, binary: bytes) -> bytes:
    """Return the file: header and two chunks, padded to multiples of four (glTF 2.0, 4.4)."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<4sII", b"glTF", 2, size)
    text_head = struct.pack("<I4s", len(text), b"JSON")
    binary_head = struct.pack("<I4s", len(binary), b"BIN\0")
    return b"".join([head, text_head, text, binary_head, binary])
