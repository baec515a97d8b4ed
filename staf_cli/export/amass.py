"""amass/person_<id>_smplh.npz and _smplx.npz: motion for programs that read AMASS files.

Both hold the 22 joints that all SMPL bodies share, and zeros for hands, jaw and eyes, which are
not recovered. AMASS: Mahmood et al. 2019; the keys are those of its files and of the SMPL-X
add-on for Blender.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.body.skinning import Body
from staf_cli.core.files import atomic
from staf_cli.core.records import Person
from staf_cli.export.motion import Z_UP, mean_betas, motion_of, resample, rest_pose
from staf_cli.export.scene import Scene

FILES = "amass/person_[0-9]*_smpl[hx].npz"
SHARED_JOINTS = 22  # SMPL's 24 without its two hands
POSE_LENGTHS = {"smplh": 156, "smplx": 165}  # three numbers for each joint of these bodies
SMPL_VERTICES = 6890  # a body of another size has another shape space than SMPL-H


def names(scene: Scene) -> list[str]:
    """Return the files' names: two for each person."""
    return [_name(person, model) for person in scene.people for model in POSE_LENGTHS]


def _name(person: Person, model: str) -> str:
    return f"amass/person_{person.id}_{model}.npz"


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the motion of all people, for SMPL-H and for SMPL-X.

    Keys: poses (F, 156 or 165) radians, trans (F, 3) m, betas (10,), time (F,) s, all float64;
    gender; mocap_framerate and mocap_frame_rate, both rounded, and fps_exact. z is up, y points
    away from the video camera; the origin is on the ground, or the camera. The frame rate is
    constant (`resample`).

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        Each file's path, once the file is complete.
    """
    for person in scene.placed().people:
        for model, length in POSE_LENGTHS.items():
            path = folder / _name(person, model)
            arrays = _arrays(person, scene.body, length, _betas(person, scene.body, model))
            with atomic(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            yield path


def _betas(person: Person, body: Body, model: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the person's betas where the reader's body has the same shape space, else zeros."""
    same_space = model == "smplh" and len(body.arrays.v_template) == SMPL_VERTICES
    return mean_betas(person) if same_space else np.zeros(person.betas.shape[1])


def _arrays(
    person: Person, body: Body, length: int, betas: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    motion = resample(motion_of(person, Z_UP), person.fps)
    poses = np.zeros((len(motion.time), length))
    rotmats = motion.rotations[:, :SHARED_JOINTS].reshape(-1, 3, 3)
    rotvecs = Rotation.from_matrix(rotmats).as_rotvec()
    poses[:, : 3 * SHARED_JOINTS] = rotvecs.reshape(len(poses), -1)
    _, joints = rest_pose(body, betas)
    rate = np.float64(round(person.fps))
    return {
        "poses": poses,
        "trans": motion.pelvis - joints[0],  # readers rotate the root about its rest position
        "betas": betas,
        "gender": np.array(person.gender),
        "mocap_framerate": rate,
        "mocap_frame_rate": rate,
        "fps_exact": np.float64(person.fps),
        "time": motion.time,
    }
