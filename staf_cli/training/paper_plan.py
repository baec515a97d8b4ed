"""The plan `paper`: the stages, ratios and rates of the paper's section 4."""

from dataclasses import dataclass

from staf_cli.model.temporal import WINDOW


@dataclass(frozen=True)
class PaperStage:
    """A run: what it draws from, and for how long."""

    name: str  # of the run's folder
    groups: tuple[tuple[float, tuple[str, ...]], ...]  # share of a batch, and its datasets
    batch: int  # windows
    length: int  # frames of a window
    epochs: int
    epoch: int | None  # steps; None: as many samples as the largest dataset has


@dataclass(frozen=True)
class PaperPlan:
    """Stages 1 and 2, and how Adam's rate falls."""

    single: tuple[PaperStage, ...]  # stage 1; runs whose datasets are not there are left out
    temporal: PaperStage  # stage 2
    rate: float = 5e-5
    patience: int = 5  # epochs without a lower PA-MPJPE, after which the rate falls
    factor: float = 0.1
    held_out: int = 1000  # people or windows on whom that is measured, at most


PHOTOS = ("coco", "lsp", "lspet", "mpii")
PAPER = PaperPlan(
    single=(
        PaperStage("coco", ((1.0, ("coco",)),), 64, 1, 175, None),
        PaperStage("base", ((0.5, ("h36m",)), (0.2, ("3dhp",)), (0.3, PHOTOS)), 64, 1, 60, None),
    ),
    temporal=PaperStage(
        "temporal",
        ((0.6, ("insta", "posetrack")), (0.4, ("h36m", "3dhp", "3dpw"))),
        32,
        WINDOW,
        45,
        500,  # as in the authors' code and in VIBE, TCMR and MPS-Net
    ),
)
