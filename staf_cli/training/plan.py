"""How much of everything: the plans that lead from prepared data to a checkpoint."""

from dataclasses import dataclass

from staf_cli.errors import UsageError


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
    dropout: float  # the paper's 0.5 only slows a short training
    small_until: float  # the part of stage 1's steps in which crops are small
    temporal_steps: int
    temporal_batch: int  # windows
    temporal_rate: float
    validate_every: int  # steps


PLANS = {
    # Two cores of a laptop, two hours.
    "cpu": Plan(
        poses=5000,
        sequences=260,
        held_out=48,
        encoder="yolo11n",
        frozen=(),
        base_steps=2400,
        base_batch=32,
        base_rate=5e-4,
        dropout=0.1,
        small_until=0.6,
        temporal_steps=600,
        temporal_batch=12,
        temporal_rate=1e-4,
        validate_every=100,
    ),
    # One large GPU, half an hour.
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
        small_until=0.5,
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
