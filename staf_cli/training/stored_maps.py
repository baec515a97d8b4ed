"""Stage 1 with an encoder that knows people already: it stays as it is, its maps are stored.

Two networks that have seen far more people than can be rendered make the maps (model/blazepose.py).
Pyramid, point MLPs and regressors of a checkpoint are the start; those of one for YOLO11's maps
alone pay no attention to the trunk's channels yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import dropout2d

from staf_cli.body.skinning import BodyPoints
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.core.errors import WeightsError
from staf_cli.model import blazepose, yolo
from staf_cli.model.staf import STAF
from staf_cli.training.encoded_sets import EncodedSet, select_frames
from staf_cli.training.losses import GroundTruth, concatenate, ground_truth
from staf_cli.training.stage1 import Draw
from staf_cli.training.store import Store

DROPOUT = 0.1  # of whole channels of phi_0
YOLO, WIDE = "encoder.yolo.", "pyramid.deconv.0.weight"


def start_from(network: STAF, checkpoint: Path) -> None:
    """Give a network with both encoders what another, or one of YOLO11's maps alone, has learned.

    Args:
        network: The base model with encoder blazepose+yolo11n; changed in place. Its encoder no
            longer requires a gradient.
        checkpoint: Of a network with encoder yolo11n or blazepose+yolo11n.

    Raises:
        WeightsError: The checkpoint is of another encoder, or cannot be read.
    """
    own, start = network.state_dict(), load_checkpoint(checkpoint)
    learned, encoder = start.tensors, start.architecture.get("encoder")
    if encoder == "yolo11n":
        learned = {key.replace("encoder.", YOLO, 1): tensor for key, tensor in learned.items()}
        learned[WIDE] = torch.cat([learned[WIDE], torch.zeros_like(own[WIDE][yolo.CHANNELS :])])
    elif encoder != blazepose.NAME:
        raise WeightsError(f"{checkpoint}: is of encoder {encoder}; give one of yolo11n")
    learned = blazepose.with_trunk(learned)
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({k: own[k] if k in counters else learned[k] for k in own})
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{checkpoint}: does not fit ({reason}); give another") from error
    network.encoder.requires_grad_(False)


@dataclass(frozen=True)
class MapSource:
    """A set's stored maps and its share of every batch."""

    encoded: EncodedSet
    share: float  # relative to the other sources'


def draw_stored(
    sources: Sequence[MapSource], points: BodyPoints, size: int, seed: int, device: torch.device
) -> Draw:
    """Make batches of stored maps; that of step k depends on the seed and k alone.

    Args:
        sources: What batches are drawn from.
        points: The 31 labelled points of the body, on the device.
        size: B, frames in a batch.
        seed: Of the run.
        device: Where batches are needed.

    Returns:
        What draws a step's batch.
    """
    stores = [Store(source.encoded.features, device) for source in sources]
    total = sum(source.share for source in sources)

    def draw(step: int) -> tuple[Tensor, GroundTruth]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        torch.manual_seed(seed * 1_000_003 + step)  # dropout's
        maps, truths = [], []
        for source, store in zip(sources, stores, strict=True):
            encoded, count = source.encoded, round(size * source.share / total)
            row = torch.randint(len(encoded), (count,), generator=generator)
            frame = torch.randint(encoded.features.shape[1], (count,), generator=generator)
            maps.append(store.take(row, frame))
            labels = select_frames(encoded.labels, row, frame[:, None])
            truths.append(ground_truth(labels.to(device), points))
        return dropout2d(torch.cat(maps).float(), DROPOUT), concatenate(truths)

    return draw
