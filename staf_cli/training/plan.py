"""The plans from prepared data to a checkpoint: how much is rendered and trained."""

from dataclasses import dataclass

from staf_cli.core.errors import UsageError
from staf_cli.model import blazepose
from staf_cli.training.batches import Phase


@dataclass(frozen=True)
class Plan:
    """Sizes of the rendered sets, and the schedules of both stages."""

    poses: int  # scenes of one frame
    sequences: int  # scenes of SEQUENCE frames
    held_out: int  # the same, of motions, outfits and backgrounds that nothing is trained on
    encoder: str  # blazepose.NAME stays as it is: stage 1 trains on its stored maps
    batch: int  # crops, in stage 1
    pretraining_steps: int  # stage 1, first half
    pretraining_rate: float
    pretraining_phases: tuple[Phase, ...]
    stage1_steps: int  # stage 1, second half
    stage1_rate: float
    stage2_steps: int
    stage2_batch: int  # windows
    stage2_rate: float
    stage2_together: int  # windows of a sequence that follow each other and share their maps
    stage2_only_2d: float  # part of the windows whose pose and 3D points do not count
    stage2_features: bool  # whether stage 2 trains pyramid and point MLPs
    validate_every: int  # steps


PLANS = {
    # Two cores of a laptop, about two hours with rendering; never run in one piece.
    "cpu": Plan(
        poses=5000,
        sequences=300,
        held_out=48,
        encoder="yolo11n",
        batch=32,
        pretraining_steps=1500,
        pretraining_rate=3e-4,
        pretraining_phases=(Phase(0.7, 224, 2), Phase(1.0, 224, 3)),
        stage1_steps=0,  # a few undo more of the solved regressors than they gain
        stage1_rate=1e-4,
        stage2_steps=0,  # the same
        stage2_batch=12,
        stage2_rate=2e-4,
        stage2_together=1,
        stage2_only_2d=0.0,
        stage2_features=True,
        validate_every=100,
    ),
    # Two cores of a laptop, about four hours with rendering, from a checkpoint of the plan `cpu`.
    "frozen": Plan(
        poses=13_000,
        sequences=450,
        held_out=48,
        encoder=blazepose.NAME,
        batch=64,
        pretraining_steps=0,
        pretraining_rate=0.0,
        pretraining_phases=(),
        stage1_steps=4000,
        stage1_rate=3e-4,
        stage2_steps=400,
        stage2_batch=32,
        stage2_rate=1e-4,
        stage2_together=4,
        stage2_only_2d=0.0,  # with the paper's 0.6 PA-MPJPE was 87.5 for 85.8 mm after 200 steps
        stage2_features=False,
        validate_every=200,
    ),
    # One large GPU, meant for half an hour; not yet run.
    "gpu": Plan(
        poses=60_000,
        sequences=2500,
        held_out=48,
        encoder="resnet50",
        batch=128,
        pretraining_steps=8000,
        pretraining_rate=3e-4,
        pretraining_phases=(Phase(0.5, 160, 3), Phase(1.0, 224, 3)),
        stage1_steps=8000,
        stage1_rate=1e-4,
        stage2_steps=6000,
        stage2_batch=64,
        stage2_rate=1e-4,
        stage2_together=1,
        stage2_only_2d=0.0,
        stage2_features=True,
        validate_every=1000,
    ),
}
SEQUENCE = 16  # frames


def find_plan(name: str) -> Plan:
    """Find a plan by name.

    Args:
        name: A key of PLANS.

    Returns:
        The plan.

    Raises:
        UsageError: There is no such plan.
    """
    try:
        return PLANS[name]
    except KeyError:
        raise UsageError(f"unknown plan {name!r}; choose from {', '.join(PLANS)}") from None
