"""Build weights/pose_landmarks.safetensors from MediaPipe's pose_landmark_heavy.tflite.

    npm pack @mediapipe/pose@0.5.1675469404               # mediapipe-pose-0.5.1675469404.tgz
    pip install --no-deps tflite==2.18.0 flatbuffers==25.12.19
    python -m tools.convert_landmarks mediapipe-pose-0.5.1675469404.tgz

The archive is not unpacked, and nothing in it is run: the network file is read as a flatbuffer.
Its weights are float16 and stay so. The layers' names in the file end with the numbers that Keras
gave them in the order of their definition, which is the order of the modules in
staf_cli/landmarks/network.py. The same archive yields the same bytes.
"""

import argparse
import hashlib
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from staf_cli.core.files import atomic
from staf_cli.landmarks.network import Depthwise, PoseLandmarkNetwork

ARCHIVE = "8bb349a7b3a3ba699df23be804ddd3b3eab810b50b15406894be257859388a84"  # SHA-256
MEMBER = "package/pose_landmark_heavy.tflite"
NETWORK = "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe"  # SHA-256
OUT = Path(__file__).parent.parent / "weights" / "pose_landmarks.safetensors"
ABOUT = {
    "format": "staf-landmarks-1",
    "name": "BlazePose GHUM heavy",
    "licence": "Apache-2.0; Copyright The MediaPipe Authors",
    "source": f"npm @mediapipe/pose@0.5.1675469404, {MEMBER}, SHA-256 {NETWORK}",
    "changes": "layers renamed and their dimensions put in torch's order; no number is changed",
}
OUTPUTS = {  # layers that have a name instead of a number
    "output_segmentation": "to_mask",
    "output_heatmap": "to_heat_maps",
    "convld_3d": "to_landmarks",
    "convworld_3d": "to_metres",
    "conv_poseflag": "to_score",
}
NUMBERED = re.compile(r"/(depthwise_conv2d|conv2d)(?:_(\d+))?/")


def read_network(archive: Path) -> bytes:
    """Read the network's file out of the archive; refuse any other than the known one."""
    content = archive.read_bytes()
    with tarfile.open(archive, "r:gz") as tar:
        extracted = tar.extractfile(MEMBER)
        assert extracted is not None
        network = extracted.read()
    for name, data, known in ((archive, content, ARCHIVE), (MEMBER, network, NETWORK)):
        if hashlib.sha256(data).hexdigest() != known:
            raise SystemExit(f"{name} has another SHA-256 than {known}")
    return network


def read_layers(network: bytes) -> dict[str, tuple[Tensor, Tensor]]:
    """Read every convolution: name of its weights in the file -> weights and biases, float16.

    Weights are in torch's order: (outputs, inputs or 1, height, width).
    """
    import tflite

    model = tflite.Model.GetRootAsModel(network, 0)
    graph = model.Subgraphs(0)
    stored = {}  # a float32 tensor -> the float16 one that it is made from
    layers = {}
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = operator.InputsAsNumpy()
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            stored[operator.OutputsAsNumpy()[0]] = inputs[0]
        elif kind in (
            tflite.BuiltinOperator.CONV_2D,
            tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
        ):
            _, weight, bias = (half_tensor(model, stored.get(i, -1)) for i in inputs)
            # TensorFlow: (outputs, height, width, inputs), depthwise (1, height, width, channels).
            depthwise = kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D
            order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
            layers[graph.Tensors(inputs[1]).Name().decode()] = weight.permute(order), bias
    return layers


def half_tensor(model, index: int) -> Tensor:
    """Copy a float16 tensor out of the file; an empty one for index -1, which no layer stores."""
    import tflite

    if index < 0:
        return torch.empty(0)
    tensor = model.Subgraphs(0).Tensors(index)
    assert tensor.Type() == tflite.TensorType.FLOAT16
    data = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
    return torch.from_numpy(np.frombuffer(data, np.float16).reshape(tensor.ShapeAsNumpy()).copy())


def name_layers(layers: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Give every layer the name of its module in our network."""
    numbered: dict[str, list[tuple[int, str]]] = {"conv2d": [], "depthwise_conv2d": []}
    names = {}
    for key in layers:
        found = NUMBERED.search(key)
        if found:
            numbered[found[1]].append((int(found[2] or 0), key))
        else:
            names[key] = OUTPUTS[key.split("/")[2]]
    with torch.device("meta"):
        network = PoseLandmarkNetwork()
    modules = {"conv2d": [], "depthwise_conv2d": []}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and name not in OUTPUTS.values():
            kind = "depthwise_conv2d" if isinstance(module, Depthwise) else "conv2d"
            modules[kind].append(name)
    for kind, ours in modules.items():
        theirs = sorted(numbered[kind])
        assert [number for number, _ in theirs] == list(range(len(ours))), kind
        names |= {key: name for (_, key), name in zip(theirs, ours, strict=True)}
    tensors = {}
    for key, (weight, bias) in layers.items():
        tensors[f"{names[key]}.weight"] = weight.contiguous()
        tensors[f"{names[key]}.bias"] = bias
    network.load_state_dict(tensors, assign=True)  # all names and shapes fit
    return tensors


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description="Convert MediaPipe's pose landmark network.")
    parser.add_argument("archive", type=Path, help="mediapipe-pose-0.5.1675469404.tgz")
    parser.add_argument("--output", type=Path, default=OUT, help="the safetensors file to write")
    options = parser.parse_args()
    tensors = name_layers(read_layers(read_network(options.archive)))
    with atomic(options.output) as temporary:  # one document: the order of several is random
        save_file(tensors, temporary, metadata={"staf": json.dumps(ABOUT, sort_keys=True)})
    content = options.output.read_bytes()
    print(f"{options.output}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
