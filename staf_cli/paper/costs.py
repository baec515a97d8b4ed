"""Table 2: a network's parameters, and its multiplications, by module."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from staf_cli.core.geometry import CROP_PIXELS
from staf_cli.model.network import Frames, WindowNetwork, separate_windows
from staf_cli.model.temporal import WINDOW

MODULES = {  # of the networks: what the table calls them
    "encoder": "encoder",
    "pyramid": "deconvolutions",
    "sampler": "point MLPs",
    "tcfm": "TCFM",
    "safm": "SAFM",
    "moca": "MoCA",
    "hafi": "HAFI",
    "regressor": "regressors",
}
SAMPLING = "sampler"  # the multiplications that no module's call contains are on behalf of it


@dataclass(frozen=True)
class Cost:
    """What a module needs; GMACs are 10^9 multiplications with addition."""

    module: str
    parameters: int
    window: float  # GMACs of nine crops alone
    frame: float  # GMACs of one more frame of a video: what windows share is computed once


def costs(network: WindowNetwork) -> list[Cost]:
    """Count a network's parameters and multiplications.

    Convolutions and matrix products count; norms, activations and bilinear sampling do not. Of
    the third level only the pixels that are sampled are computed; these count as point MLPs.

    Args:
        network: In evaluation mode, on the CPU, in float32.

    Returns:
        A row for each module that the network has, then their sum, "all".
    """
    crops = torch.zeros(WINDOW, 3, CROP_PIXELS, CROP_PIXELS)
    with torch.inference_mode():
        maps: Frames = network.frame_maps(network.encoder(crops))
        window = _multiplications(_Frames(network), crops, None)
        frame = _multiplications(_Frames(network), crops[:1], maps)
    rows = []
    for name, title in MODULES.items():
        module = getattr(network, name, None)
        if module is not None:
            parameters = sum(parameter.numel() for parameter in module.parameters())
            rows.append(Cost(title, parameters, window[name] / 1e9, frame[name] / 1e9))
    total = sum(row.parameters for row in rows)
    return [*rows, Cost("all", total, sum(window.values()) / 1e9, sum(frame.values()) / 1e9)]


class _Frames(nn.Module):
    """One call that computes a window, so that the counter sees every module below one root."""

    def __init__(self, network: WindowNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor, maps: Frames | None) -> None:
        """Encode crops, and recover one window: of them, or of maps that are there already."""
        own = self.network.frame_maps(self.network.encoder(crops))
        self.network.recover(own if maps is None else maps, separate_windows(WINDOW))


def _multiplications(frames: _Frames, crops: Tensor, maps: Frames | None) -> dict[str, int]:
    """Multiplications by the name of the network's module."""
    counter = FlopCounterMode(display=False)
    with counter:
        frames(crops, maps)
    found = dict.fromkeys(MODULES, 0)
    for path, operations in counter.get_flop_counts().items():
        parts = path.split(".")[2:]  # _Frames.network.<name>...
        # Of pyramid and of a list of regressors only the parts are called, of the others the
        # module itself.
        lists = isinstance(getattr(frames.network, parts[0], None), nn.ModuleList) if parts else 0
        depth = 3 if parts[:1] == ["pyramid"] else 1 + bool(lists)
        if parts and parts[0] in found and parts[0] != SAMPLING and len(parts) == depth:
            found[parts[0]] += sum(operations.values()) // 2  # the counter counts additions too
    found[SAMPLING] = counter.get_total_flops() // 2 - sum(found.values())
    return found
