"""people.glb: the people of a clip as animated, skinned skeletons (glTF 2.0, binary).

Every person is one node, person_<id>, with the skeleton and the mesh below it. While the person
is not in the picture the scale of the pelvis is 0, and with it that of the whole body: glTF has
no other way to hide a node that all programs support.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.body.skinning import Body
from staf_cli.core.files import atomic
from staf_cli.core.records import Float, Person
from staf_cli.core.version import __version__
from staf_cli.export.motion import JOINT_NAMES, Y_UP, mean_betas, motion_of, rest_pose
from staf_cli.export.scene import Scene

FILES = "people.glb"
INFLUENCES = 4  # joints that may move a vertex; SMPL's vertices have no more
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963  # glTF's numbers for vertex data and indices
COMPONENT_TYPES = {"uint8": 5121, "uint32": 5125, "float32": 5126}
ACCESSOR_TYPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
SKIN_MATERIAL = {
    "name": "skin",
    "pbrMetallicRoughness": {
        "baseColorFactor": [0.75, 0.66, 0.6, 1.0],
        "metallicFactor": 0,
        "roughnessFactor": 0.8,
    },
}

Json = dict[str, Any]


def names(_: Scene) -> list[str]:
    """Return the file's name."""
    return [FILES]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write all people into one file.

    Metres, y up, the video camera at the origin and in the file; times are the clip's own, in
    float32. Each person has one shape, `mean_betas`. SMPL's pose-dependent corrections of the
    surface (posedirs) are left out, and only the four strongest of the joints that move a vertex
    are used; open-body loses nothing by either.

    Args:
        folder: The result folder.
        scene: What to write; one person at least.

    Yields:
        The file's path.
    """
    path = folder / FILES
    with atomic(path) as temporary:
        temporary.write_bytes(_glb(*_document(scene)))
    yield path


@dataclass
class _Buffer:
    """The file's binary chunk while it is built, and its table of contents."""

    chunks: list[bytes] = field(default_factory=list)
    views: list[Json] = field(default_factory=list)
    accessors: list[Json] = field(default_factory=list)

    def add(self, array: NDArray[Any], target: int | None = None, bounds: bool = False) -> int:
        """Append an array.

        Args:
            array: (N, ...), of a type and shape that glTF has.
            target: `ARRAY_BUFFER` or `ELEMENT_ARRAY_BUFFER` for a mesh's data, else None.
            bounds: Whether glTF demands the array's minimum and maximum.

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
        self.chunks.append(data)
        self.views.append(view)
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _document(scene: Scene) -> tuple[Json, bytes]:
    """Return the file's JSON and its binary chunk."""
    buffer = _Buffer()
    joints, weights = _skin_weights(scene.body)
    shared = {  # accessors that all people use
        "indices": buffer.add(scene.body.faces.astype(np.uint32).ravel(), ELEMENT_ARRAY_BUFFER),
        "JOINTS_0": buffer.add(joints, ARRAY_BUFFER),
        "WEIGHTS_0": buffer.add(weights, ARRAY_BUFFER),
    }
    document: Json = {
        "asset": {"version": "2.0", "generator": f"staf {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "camera", "camera": 0}],
        "cameras": [_camera(scene.people[0])],
        "materials": [SKIN_MATERIAL],
        "meshes": [],
        "skins": [],
        "animations": [{"name": "motion", "samplers": [], "channels": []}],
    }
    for person in scene.people:
        skeleton = _add_body(document, buffer, shared, person, scene.body)
        _add_motion(document["animations"][0], buffer, skeleton, person, scene.frames)
    document["accessors"] = buffer.accessors
    document["bufferViews"] = buffer.views
    binary = b"".join(buffer.chunks)
    document["buffers"] = [{"byteLength": len(binary)}]
    return document, binary


def _add_body(
    document: Json, buffer: _Buffer, shared: dict[str, int], person: Person, body: Body
) -> int:
    """Append a person's nodes, mesh and skin, and return the number of the pelvis's node."""
    name = f"person_{person.id}"
    vertices, joints = rest_pose(body, mean_betas(person))
    normals = trimesh.Trimesh(vertices, body.faces, process=False).vertex_normals
    attributes = {
        "POSITION": buffer.add(vertices, ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add(normals.astype(np.float32), ARRAY_BUFFER),
        "JOINTS_0": shared["JOINTS_0"],
        "WEIGHTS_0": shared["WEIGHTS_0"],
    }
    primitive = {"attributes": attributes, "indices": shared["indices"], "material": 0}
    document["meshes"].append({"name": name, "primitives": [primitive]})

    root = len(document["nodes"])
    skeleton = root + 1  # the pelvis; the other joints follow in SMPL's order, the mesh is last
    mesh = skeleton + len(JOINT_NAMES)
    number = len(document["skins"])
    document["scenes"][0]["nodes"].append(root)
    document["nodes"].append({"name": name, "children": [skeleton, mesh]})
    document["nodes"] += _joint_nodes(joints, skeleton)
    document["nodes"].append({"name": f"{name}_body", "mesh": number, "skin": number})
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(JOINT_NAMES), 1, 1))
    inverse_bind[:, 3, :3] = -joints  # transposed: glTF stores matrices column by column
    document["skins"].append(
        {
            "name": name,
            "inverseBindMatrices": buffer.add(inverse_bind),
            "joints": list(range(skeleton, mesh)),
            "skeleton": root,
        }
    )
    return skeleton


def _add_motion(
    animation: Json, buffer: _Buffer, skeleton: int, person: Person, frames: range
) -> None:
    """Append the animation of a person whose pelvis is the node `skeleton`."""

    def animate(node: int, path: str, times: int, values: NDArray[np.float32], how: str) -> None:
        sampler = {"input": times, "output": buffer.add(values), "interpolation": how}
        target = {"node": node, "path": path}
        animation["channels"].append({"sampler": len(animation["samplers"]), "target": target})
        animation["samplers"].append(sampler)

    motion = motion_of(person, Y_UP)
    times = buffer.add(motion.time.astype(np.float32), bounds=True)
    animate(skeleton, "translation", times, motion.pelvis.astype(np.float32), "LINEAR")
    for joint in range(len(JOINT_NAMES)):
        quaternions = _quaternions(motion.rotations[:, joint])
        animate(skeleton + joint, "rotation", times, quaternions, "LINEAR")
    changes, visible = _visibility(person, frames)
    if not all(visible):
        scales = np.repeat(np.array(visible, np.float32)[:, None], 3, 1)
        times = buffer.add(np.array(changes, np.float32), bounds=True)
        animate(skeleton, "scale", times, scales, "STEP")


def _joint_nodes(joints: NDArray[np.float32], first: int) -> list[Json]:
    """Return the skeleton's nodes in its T-pose; joints: (24, 3) m, first: the pelvis's number."""
    nodes: list[Json] = []
    for joint, parent in enumerate(SMPL_PARENTS):
        bone = joints[joint] - (joints[parent] if parent >= 0 else 0)
        node: Json = {"name": JOINT_NAMES[joint], "translation": bone.tolist()}
        children = [first + child for child, above in enumerate(SMPL_PARENTS) if above == joint]
        if children:
            node["children"] = children
        nodes.append(node)
    return nodes


def _skin_weights(body: Body) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the joints that move each vertex (V, 4), and their weights, which sum to 1."""
    weights = body.arrays.weights
    strongest = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    chosen = np.take_along_axis(weights, strongest, 1)
    strongest[chosen == 0] = 0
    return strongest.astype(np.uint8), chosen / chosen.sum(1, keepdims=True)


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


def _camera(person: Person) -> Json:
    """Return the camera that filmed the clip: at the origin, along -z, y up, as glTF wants it."""
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
