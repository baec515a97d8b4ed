"""amass/person_<id>_smplh.npz and _smplx.npz: motion for whatever reads AMASS files.

Both hold the 22 joints that all SMPL bodies share, and zeros for hands, jaw and eyes, which a
video of whole people does not show. AMASS: Mahmood et al. 2019; the keys are those of its files
and of the SMPL-X add-on for Blender.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.body.skinning import Body
from staf_cli.core.files import atomic
from staf_cli.core.records import Person
from staf_cli.export.motion import Z_UP, at_rest, mean_shape, motion_of, steady
from staf_cli.export.scene import Scene

FILES = "amass/person_[0-9]*_smpl[hx].npz"
SHARED = 22  # joints: SMPL's own without its two hands
LENGTHS = {"smplh": 156, "smplx": 165}  # numbers a pose: three for each joint of these bodies
SMPL_VERTICES = 6890  # a body of another size has a shape space that SMPL-H does not know


def count(scene: Scene) -> int:
    """Two files a person."""
    return len(LENGTHS) * len(scene.people)


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write everybody's motion for SMPL-H and for SMPL-X, and yield each file as it is done.

    poses (F, 156 or 165) radians, trans (F, 3) m, betas (10,), time (F,) s, all float64; gender;
    mocap_framerate and mocap_frame_rate, both rounded, and fps_exact. z is up, y points away
    from the video camera, which is the origin. The rate is constant (`steady`).
    """
    for person in scene.people:
        for model, length in LENGTHS.items():
            path = folder / "amass" / f"person_{person.id}_{model}.npz"
            arrays = _arrays(person, scene.body, length, _betas(person, scene.body, model))
            with atomic(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            yield path


def _betas(person: Person, body: Body, model: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The person's shape where the reader's body gives betas the same meaning, else zeros."""
    same = model == "smplh" and len(body.arrays.v_template) == SMPL_VERTICES
    return mean_shape(person) if same else np.zeros(person.betas.shape[1])


def _arrays(
    person: Person, body: Body, length: int, betas: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    motion = steady(motion_of(person, Z_UP), person.fps)
    poses = np.zeros((len(motion.time), length))
    turns = Rotation.from_matrix(motion.rotations[:, :SHARED].reshape(-1, 3, 3)).as_rotvec()
    poses[:, : 3 * SHARED] = turns.reshape(len(poses), -1)
    _, joints = at_rest(body, betas)
    rate = np.float64(round(person.fps))
    return {
        "poses": poses,
        "trans": motion.pelvis - joints[0],  # the root turns about its place at rest
        "betas": betas,
        "gender": np.array(person.gender),
        "mocap_framerate": rate,
        "mocap_frame_rate": rate,
        "fps_exact": np.float64(person.fps),
        "time": motion.time,
    }
