"""Record what MediaPipe's own file says of two pictures, for test_network.py.

    pip install ai-edge-litert==2.3.0 numpy     # in an environment of its own
    python -m tests.landmarks.record_original pose_landmark_heavy.tflite

tools/convert_landmarks.py says where the file is from. Mask and heat maps are thinned out.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tests.landmarks.pictures import PICTURES, drawn_person

OUTPUTS = {  # by shape in the file
    (1, 195): "landmarks",
    (1, 1): "score",
    (1, 117): "metres",
    (1, 256, 256, 1): "mask",
    (1, 64, 64, 39): "heat_maps",
}


def main() -> None:
    """Run the file on each picture and write original.npz beside this script."""
    interpreter = Interpreter(sys.argv[1], num_threads=1)  # XNNPACK, float32
    interpreter.allocate_tensors()
    (reads,) = (entry["index"] for entry in interpreter.get_input_details())
    found: dict[str, list[np.ndarray]] = {name: [] for name in OUTPUTS.values()}
    for seed, turn in PICTURES:
        interpreter.set_tensor(reads, drawn_person(seed, turn)[None].astype(np.float32) / 255)
        interpreter.invoke()
        for entry in interpreter.get_output_details():
            name = OUTPUTS[tuple(int(side) for side in entry["shape"])]
            found[name].append(interpreter.get_tensor(entry["index"])[0])
    whole = {name: np.stack(arrays) for name, arrays in found.items()}
    np.savez_compressed(
        Path(__file__).parent / "original.npz",
        landmarks=whole["landmarks"].reshape(-1, 39, 5),
        score=whole["score"][:, 0],
        metres=whole["metres"].reshape(-1, 39, 3),
        mask=whole["mask"][:, ::3, 1::3, 0],
        heat_maps=whole["heat_maps"][:, ::4, 1::3].transpose(0, 3, 1, 2),
    )


if __name__ == "__main__":
    main()
