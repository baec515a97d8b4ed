"""How much of everything: the plans that lead from prepared data to a checkpoint."""

from dataclasses import dataclass

from staf_cli.core.errors import UsageError
from staf_cli.training.batches import Phase


@dataclass(frozen=True)
class Plan:
    """Sizes of the rendered sets and of the two stages."""

    poses: int  # scenes of one frame
    sequences: int  # scenes of SEQUENCE frames
    held_out: int  # the same, of motions, outfits and backgrounds that nothing is trained on
    encoder: str
    batch: int  # crops, in stage 1
    seeing_steps: int  # stage 1, first half
    seeing_rate: float
    seeing_phases: tuple[Phase, ...]
    base_steps: int  # stage 1, second half
    base_rate: float
    temporal_steps: int
    temporal_batch: int  # windows
    temporal_rate: float
    validate_every: int  # steps


PLANS = {
    # Two cores of a laptop, about two hours with rendering; never run in one piece.
    "cpu": Plan(
        poses=5000,
        sequences=300,
        held_out=48,
        encoder="yolo11n",
        batch=32,
        seeing_steps=1500,
        seeing_rate=3e-4,
        seeing_phases=(Phase(0.7, 224, 2), Phase(1.0, 224, 3)),
        base_steps=0,  # the first ones undo more of what was solved for than they gain
        base_rate=1e-4,
        temporal_steps=0,  # the same
        temporal_batch=12,
        temporal_rate=2e-4,
        validate_every=100,
    ),
    # One large GPU, meant for half an hour; not yet run.
    "gpu": Plan(
        poses=60_000,
        sequences=2500,
        held_out=48,
        encoder="resnet50",
        batch=128,
        seeing_steps=8000,
        seeing_rate=3e-4,
        seeing_phases=(Phase(0.5, 160, 3), Phase(1.0, 224, 3)),
        base_steps=8000,
        base_rate=1e-4,
        temporal_steps=6000,
        temporal_batch=64,
        temporal_rate=1e-4,
        validate_every=1000,
    ),
}
SEQUENCE = 16  # frames


def find_plan(name: str) -> Plan:
    """A plan by name. Raises UsageError for another."""
    try:
        return PLANS[name]
    except KeyError:
        raise UsageError(f"unknown plan {name!r}; choose from {', '.join(PLANS)}") from None
