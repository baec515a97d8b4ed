"""people.glb: everybody of a clip as animated skeletons in their skins (glTF 2.0, binary).

One node a person, person_<id>, holds the skeleton and the mesh. While the person is not in the
picture the pelvis's scale is 0, and so the whole body's: glTF has no other way to hide somebody
that all programs know.
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
from staf_cli.export.motion import JOINT_NAMES, Y_UP, at_rest, mean_shape, motion_of
from staf_cli.export.scene import Scene

FILES = "people.glb"
INFLUENCES = 4  # joints that may move a vertex; SMPL's vertices have no more
VERTEX_DATA, INDICES = 34962, 34963  # what a part of the buffer is for, in glTF's numbers
COMPONENTS = {"uint8": 5121, "uint32": 5125, "float32": 5126}
KINDS = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
SKIN_COLOUR = [0.75, 0.66, 0.6, 1.0]

Json = dict[str, Any]


def count(scene: Scene) -> int:
    """One file a clip."""
    return 1


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write everybody into one file, and yield it.

    Metres, y up, the video camera at the origin and in the file; times are the clip's own, in
    float32. Each person has one shape, `mean_shape`. SMPL's pose-dependent corrections of the
    surface (posedirs) are left out, and of the joints that move a vertex the strongest four
    count: neither changes open-body.
    """
    path = folder / FILES
    with atomic(path) as temporary:
        temporary.write_bytes(_glb(*_document(scene)))
    yield path


@dataclass
class _Parts:
    """The binary half of the file while it is put together, and its table of contents."""

    chunks: list[bytes] = field(default_factory=list)
    views: list[Json] = field(default_factory=list)
    accessors: list[Json] = field(default_factory=list)

    def add(self, array: NDArray[Any], target: int | None = None, bounds: bool = False) -> int:
        """Append an array (N, ...) and give the number of its accessor."""
        start = sum(view["byteLength"] for view in self.views)
        data = np.ascontiguousarray(array).tobytes()
        view: Json = {"buffer": 0, "byteOffset": start, "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        accessor: Json = {
            "bufferView": len(self.views),
            "componentType": COMPONENTS[array.dtype.name],
            "count": len(array),
            "type": KINDS[array.shape[1:]],
        }
        if bounds:
            rows = array.reshape(len(array), -1)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.chunks.append(data)
        self.views.append(view)
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _document(scene: Scene) -> tuple[Json, bytes]:
    """The file's JSON and its binary half."""
    parts = _Parts()
    joint, weight = _influences(scene.body)
    surface = {
        "indices": parts.add(scene.body.faces.astype(np.uint32).ravel(), INDICES),
        "JOINTS_0": parts.add(joint, VERTEX_DATA),
        "WEIGHTS_0": parts.add(weight, VERTEX_DATA),
    }  # the same for everybody
    document: Json = {
        "asset": {"version": "2.0", "generator": f"staf {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "camera", "camera": 0}],
        "cameras": [_camera(scene.people[0])],
        "materials": [
            {
                "name": "skin",
                "pbrMetallicRoughness": {
                    "baseColorFactor": SKIN_COLOUR,
                    "metallicFactor": 0,
                    "roughnessFactor": 0.8,
                },
            }
        ],
        "meshes": [],
        "skins": [],
        "animations": [{"name": "motion", "samplers": [], "channels": []}],
    }
    for person in scene.people:
        _add_person(document, parts, surface, person, scene)
    document["accessors"] = parts.accessors
    document["bufferViews"] = parts.views
    binary = b"".join(parts.chunks)
    document["buffers"] = [{"byteLength": len(binary)}]
    return document, binary


def _add_person(
    document: Json, parts: _Parts, surface: dict[str, int], person: Person, scene: Scene
) -> None:
    """Append one person's nodes, mesh, skin and motion."""
    name = f"person_{person.id}"
    vertices, joints = at_rest(scene.body, mean_shape(person))
    normals = trimesh.Trimesh(vertices, scene.body.faces, process=False).vertex_normals
    attributes = {
        "POSITION": parts.add(vertices, VERTEX_DATA, bounds=True),
        "NORMAL": parts.add(normals.astype(np.float32), VERTEX_DATA),
        "JOINTS_0": surface["JOINTS_0"],
        "WEIGHTS_0": surface["WEIGHTS_0"],
    }
    primitive = {"attributes": attributes, "indices": surface["indices"], "material": 0}
    document["meshes"].append({"name": name, "primitives": [primitive]})

    root = len(document["nodes"])
    skeleton = root + 1  # the pelvis; the others follow in SMPL's order, the mesh comes last
    mesh = skeleton + len(JOINT_NAMES)
    number = len(document["skins"])
    document["scenes"][0]["nodes"].append(root)
    document["nodes"].append({"name": name, "children": [skeleton, mesh]})
    document["nodes"] += _joint_nodes(joints, skeleton)
    document["nodes"].append({"name": f"{name}_body", "mesh": number, "skin": number})
    from_joints = np.tile(np.eye(4, dtype=np.float32), (len(JOINT_NAMES), 1, 1))
    from_joints[:, 3, :3] = -joints  # transposed: glTF's matrices go column by column
    document["skins"].append(
        {
            "name": name,
            "inverseBindMatrices": parts.add(from_joints),
            "joints": list(range(skeleton, mesh)),
            "skeleton": root,
        }
    )

    animation = document["animations"][0]

    def animate(node: int, path: str, times: int, values: NDArray[np.float32], how: str) -> None:
        sampler = {"input": times, "output": parts.add(values), "interpolation": how}
        target = {"node": node, "path": path}
        animation["channels"].append({"sampler": len(animation["samplers"]), "target": target})
        animation["samplers"].append(sampler)

    motion = motion_of(person, Y_UP)
    times = parts.add(motion.time.astype(np.float32), bounds=True)
    animate(skeleton, "translation", times, motion.pelvis.astype(np.float32), "LINEAR")
    for joint in range(len(JOINT_NAMES)):
        turns = _quaternions(motion.rotations[:, joint])
        animate(skeleton + joint, "rotation", times, turns, "LINEAR")
    moments, visible = _presence(person, scene.frames)
    if not all(visible):
        scales = np.repeat(np.array(visible, np.float32)[:, None], 3, 1)
        changes = parts.add(np.array(moments, np.float32), bounds=True)
        animate(skeleton, "scale", changes, scales, "STEP")


def _joint_nodes(joints: NDArray[np.float32], first: int) -> list[Json]:
    """The skeleton's nodes in its T-pose; joints (24, 3) m, `first` is the pelvis's number."""
    nodes: list[Json] = []
    for joint, parent in enumerate(SMPL_PARENTS):
        bone = joints[joint] - (joints[parent] if parent >= 0 else 0)
        node: Json = {"name": JOINT_NAMES[joint], "translation": bone.tolist()}
        below = [first + child for child, above in enumerate(SMPL_PARENTS) if above == joint]
        if below:
            node["children"] = below
        nodes.append(node)
    return nodes


def _influences(body: Body) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The joints that move each vertex (V, 4), and how much, each row summing to 1."""
    weights = body.arrays.weights
    joint = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
    weight = np.take_along_axis(weights, joint, 1)
    joint[weight == 0] = 0
    return joint.astype(np.uint8), weight / weight.sum(1, keepdims=True)


def _quaternions(rotmats: Float) -> NDArray[np.float32]:
    """Rotations (F, 3, 3) as unit quaternions (F, 4) x, y, z, w that never jump to -q."""
    turns = Rotation.from_matrix(rotmats).as_quat()
    towards = (turns[1:] * turns[:-1]).sum(1)
    turns[1:] *= np.cumprod(np.where(towards < 0, -1, 1))[:, None]
    return np.asarray(turns, np.float32)


def _presence(person: Person, frames: range) -> tuple[list[float], list[bool]]:
    """The moments (s) at which the person comes or goes, and whether it is there from then on.

    Nobody's frame is known between two of the person's; it is taken to lie evenly between.
    """
    frame, time = person.frame.tolist(), person.time.tolist()
    moments, visible = [time[0]], [True]
    if frame[0] > frames.start:
        moments, visible = [0.0, *moments], [False, *visible]
    for (left, at), (back, then) in pairwise(zip(frame, time, strict=True)):
        if back > left + 1:
            moments += [at + (then - at) / (back - left), then]
            visible += [False, True]
    if frame[-1] + 1 < frames.stop:
        moments.append(time[-1] + 1 / person.fps)
        visible.append(False)
    return moments, visible


def _camera(person: Person) -> Json:
    """The camera that filmed the clip; glTF's, too, looks along -z with y up."""
    width, height = person.image_size
    perspective = {
        "yfov": 2 * float(np.arctan(height / (2 * person.focal_length))),
        "aspectRatio": width / height,
        "znear": 0.1,
    }
    return {"type": "perspective", "perspective": perspective}


def _glb(document: Json, binary: bytes) -> bytes:
    """Header and the two chunks, each of a length that four divides (glTF 2.0, section 4.4)."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<4sII", b"glTF", 2, size)
    text_head = struct.pack("<I4s", len(text), b"JSON")
    binary_head = struct.pack("<I4s", len(binary), b"BIN\0")
    return b"".join([head, text_head, text, binary_head, binary])
