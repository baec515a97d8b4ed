"""How much of everything: the plans that lead from prepared data to a checkpoint."""

from dataclasses import dataclass

from staf_cli.errors import UsageError
from staf_cli.training.base import Phase


@dataclass(frozen=True)
class Plan:
    """Sizes of the rendered sets and of the two stages."""

    poses: int  # scenes of one frame
    sequences: int  # scenes of SEQUENCE frames
    held_out: int  # the same, of motions, outfits and backgrounds that nothing is trained on
    encoder: str
    frozen: tuple[str, ...]  # of the encoder's parts, in stage 1: what photos have taught already
    base_steps: int
    base_batch: int  # crops
    base_rate: float
    dropout: float  # the paper's is 0.5; a short training was given none
    phases: tuple[Phase, ...]
    temporal_steps: int
    temporal_batch: int  # windows
    temporal_rate: float
    validate_every: int  # steps


PLANS = {
    # Two cores of a laptop, about four hours with rendering; never run in one piece.
    "cpu": Plan(
        poses=5000,
        sequences=660,
        held_out=48,
        encoder="yolo11n",
        frozen=(),
        base_steps=5600,
        base_batch=32,
        base_rate=3e-4,
        dropout=0.0,
        phases=(
            Phase(0.04, 160, 2, regresses=False),
            Phase(0.24, 160, 2, regresses=True),
            Phase(0.88, 224, 2, regresses=True),
            Phase(1.0, 224, 3, regresses=True),
        ),
        temporal_steps=300,
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
        frozen=(),
        base_steps=16_000,
        base_batch=128,
        base_rate=3e-4,
        dropout=0.5,
        phases=(
            Phase(0.05, 160, 3, regresses=False),
            Phase(0.5, 160, 3, regresses=True),
            Phase(1.0, 224, 3, regresses=True),
        ),
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
