"""Read a result with numpy alone, and print how far and how fast each person moved.

python examples/read_result.py out/example
"""

import sys
from pathlib import Path

import numpy as np

WRISTS = [20, 21]  # in SMPL's order of 24 joints


def main(folder: Path) -> None:
    for path in sorted(folder.glob("person_*.npz")):
        person = np.load(path)
        time = person["time"]  # (F,) s
        joints = person["joints3d"]  # (F, 24, 3) m; x right, y down, z away from the camera
        steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1)  # (F - 1, 24) m
        following = np.diff(person["frame"]) == 1  # False at gaps, where the person was not seen
        speed = steps[following] / np.diff(time)[following, None]  # m/s
        print(f"{path.stem}: {time[0]:.2f} s to {time[-1]:.2f} s, {len(time)} frames")
        print(f"  pelvis went {steps[following][:, 0].sum():.1f} m")
        print(f"  fastest wrist {speed[:, WRISTS].max():.1f} m/s")
        print(f"  distance to the camera {person['trans'][:, 2].mean():.1f} m on average")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
