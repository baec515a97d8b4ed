"""Measure the network's speed on this machine: backbone, head and both, in ms per frame.

    python -m tools.benchmark [FRAMES [THREADS]]

All are measured on the same input in one run.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import locate
from staf_cli.core.devices import choose_device, choose_dtype
from staf_cli.model.staf import mean_pose_network, stack_frames
from staf_cli.recovery.engine import Settings, prepare

ROUNDS = 7


def milliseconds(compute: Callable[[], object], frames: int, device: torch.device) -> float:
    """Measure a call, after one that is not counted.

    Args:
        compute: The call.
        frames: Frames that it processes.
        device: Where it computes.

    Returns:
        The median of ROUNDS calls, ms per frame.
    """
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / frames * 1e3


def main(frames: int = 16, threads: int = 2) -> None:
    """Measure on random crops and print the results.

    Args:
        frames: Frames in a batch.
        threads: Threads of the CPU.
    """
    device = choose_device("auto")
    torch.set_num_threads(threads)
    settings = Settings(device, choose_dtype(device, "auto"), batch=frames)
    network = prepare(
        mean_pose_network(Body("open-body", load_body(locate("open-body")))), settings
    )
    crops = torch.randn(frames, 3, 224, 224, device=device)
    crops = crops.to(settings.dtype)
    with torch.inference_mode():
        features = network.encoder(crops)
        maps = network.frame_maps(features)
        rows = (torch.arange(frames)[:, None] + torch.arange(9)) % frames
        singles = [maps[n : n + 1] for n in range(frames)]

        def head() -> None:
            network.frame_maps(features)
            network.recover(stack_frames(singles), rows)

        def whole() -> None:
            network.encoder(crops)
            head()

        backbone_ms = milliseconds(lambda: network.encoder(crops), frames, device)
        head_ms = milliseconds(head, frames, device)
        whole_ms = milliseconds(whole, frames, device)
    print(f"{device}, {torch.get_num_threads()} threads, {frames} frames, median of {ROUNDS}")
    print(f"backbone  {backbone_ms:7.1f} ms a frame")
    print(f"head      {head_ms:7.1f} ms a frame")
    print(f"whole     {whole_ms:7.1f} ms a frame = {whole_ms / backbone_ms:.2f} x the backbone")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
