"""From prepared data to a checkpoint: sets of synthetic people, stage 1, stage 2 (paper 4.3)."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from staf_cli.body import Body
from staf_cli.errors import UsageError, WeightsError
from staf_cli.files import sha256
from staf_cli.model.staf import STAF, Architecture
from staf_cli.training import loop
from staf_cli.training.base import (
    BaseTask,
    Source,
    initialise,
    load_encoder,
    set_mean,
)
from staf_cli.training.loop import Say, Schedule
from staf_cli.training.people.motion import read_motions
from staf_cli.training.plan import SEQUENCE, Plan
from staf_cli.training.samples import read_samples
from staf_cli.training.shipping import network_state, ship
from staf_cli.training.studio.rendering import Order, render_set
from staf_cli.training.temporal import EncodedSet, TemporalTask, encode

ARCHITECTURES = {  # the rows of the paper's Table 4, with the plan's encoder
    "base": Architecture(apm=False, tcfm=None, safm=None),
    "apm": Architecture(apm=True, tcfm=None, safm=None),
    "fusion": Architecture(apm=False),
    "full": Architecture(),
}
SHARES = {"photos": 0.4, "poses": 0.2, "synthetic": 0.4}  # of a batch of stage 1
HELD_OUT = ("photos-held-out", "synthetic-held-out")
VIEWS = {"synthetic": 2, "photos": 2}  # of every sample in stage 2
PHOTO_SHARE = 0.25  # of the windows of stage 2
NAME = "staf-open"


@dataclass(frozen=True)
class Options:
    """One call of `staf train run`."""

    data: Path  # the folder of prepared data
    folder: Path  # where runs keep their state
    plan: Plan
    architecture: str  # a key of ARCHITECTURES
    seed: int
    time_limit: float  # s of this call
    device: torch.device

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise UsageError(f"unknown architecture {self.architecture!r}; choose from {names}")

    def build(self, name: str) -> Architecture:
        """A row of ARCHITECTURES with the plan's encoder."""
        return replace(ARCHITECTURES[name], encoder=self.plan.encoder)


def follow(options: Options, body: Body, say: Say) -> Path | None:
    """Do what is next until the checkpoint is written or the time is over: give its path or None.

    Called again, it goes on where it stopped. A set that is being rendered or encoded is finished
    first. Raises DatasetError or WeightsError for data and runs that are missing or do not fit,
    OutputError where something cannot be written.
    """
    end = time.monotonic() + options.time_limit
    plan, folder = options.plan, options.folder
    for order in _missing(options):
        render_set(order, options.data, body.arrays, say)
        if _over(end, say):
            return None
    before = _saved_at(folder / "base")
    if not _train(_base(options, body), _base_schedule(plan), folder / "base", end, options, say):
        return None
    if _saved_at(folder / "base") != before and _over(end, say):
        return None
    run = folder / f"temporal-{options.architecture}"  # one architecture's name is base
    schedule = Schedule(plan.temporal_steps, plan.temporal_rate, plan.validate_every)
    if not _train(_temporal(options, body, say), schedule, run, end, options, say):
        return None
    output = folder / f"{NAME}-{options.architecture}.safetensors"
    ship(folder / "base", run, options.build(options.architecture), body, output, NAME)
    say(f"written: {output}")
    return output


def _over(end: float, say: Say) -> bool:
    if time.monotonic() <= end:
        return False
    say("the time is over; the same command goes on")
    return True


def _saved_at(run: Path) -> int:
    """When a run's state was written, ns; 0 where there is none."""
    state = run / "state.pt"
    return state.stat().st_mtime_ns if state.exists() else 0


def _missing(options: Options) -> list[Order]:
    """The synthetic sets of the plan that are not there yet."""
    plan, seed = options.plan, options.seed
    orders = (
        Order("synthetic-held-out", "held-out", plan.held_out, SEQUENCE, seed),
        Order("synthetic", "training", plan.sequences, SEQUENCE, seed + 1),
        Order("poses", "training", plan.poses, 1, seed + 2),
    )
    return [o for o in orders if not (options.data / o.name / "labels.npz").exists()]


def _base_schedule(plan: Plan) -> Schedule:
    return Schedule(plan.base_steps, plan.base_rate, plan.validate_every)


def _base(options: Options, body: Body) -> BaseTask:
    data, plan = options.data, options.plan
    torch.manual_seed(options.seed)
    network = STAF(options.build("base"), body.sample_points())
    initialise(network)
    load_encoder(network, data / f"{plan.encoder}.safetensors")
    set_mean(network, torch.from_numpy(read_motions(data / "motions.npz").training.rotvec))
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    _set_dropout(network, plan)
    return BaseTask(
        network,
        body,
        [Source(read_samples(data / name), share) for name, share in SHARES.items()],
        {name: read_samples(data / name) for name in HELD_OUT},
        steps=plan.base_steps,
        batch=plan.base_batch,
        phases=plan.phases,
        frozen=plan.frozen,
        seed=options.seed,
        device=options.device,
    )


def _set_dropout(network: STAF, plan: Plan) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = plan.dropout


def _temporal(options: Options, body: Body, say: Say) -> TemporalTask:
    """Stage 2; the encoder's maps are kept beside the stage 1 run that they belong to."""
    base = options.folder / "base"
    network = load_temporal(base, body, options.build(options.architecture), options.seed)
    _set_dropout(network, options.plan)
    network.to(options.device)
    kept = options.folder / f"encoded-{sha256(base / 'state.pt')[:8]}"

    def encoded(name: str, views: int) -> EncodedSet:
        say(f"encoding {name}")
        samples = read_samples(options.data / name)
        path = kept / f"{name}.npy"
        return encode(network, samples, path, views, options.seed, options.device)

    return TemporalTask(
        network,
        body,
        encoded("synthetic", VIEWS["synthetic"]),
        encoded("photos", VIEWS["photos"]),
        {name: encoded(name, 0) for name in HELD_OUT},
        batch=options.plan.temporal_batch,
        photo_share=PHOTO_SHARE,
        seed=options.seed,
        device=options.device,
    )


def _train(
    task: loop.Task, schedule: Schedule, run: Path, end: float, options: Options, say: Say
) -> bool:
    """Go on with a run until `end`; whether it is finished."""
    left = end - time.monotonic()
    progress = loop.run(task, schedule, run, left, options.device, say)
    return progress.step >= schedule.steps


def load_temporal(base: Path, body: Body, architecture: Architecture, seed: int) -> STAF:
    """The whole network with all that stage 1 has learned; TCFM and SAFM are still fresh.

    TCFM starts by adding nothing to the features, so that what is learned is not drowned.
    """
    torch.manual_seed(seed)
    network = STAF(architecture, body.sample_points())
    if network.tcfm is not None:
        torch.nn.init.zeros_(network.tcfm.mask.weight)
    learned = network_state(base)
    fresh = {k: v for k, v in network.state_dict().items() if k not in learned}
    try:
        network.load_state_dict(learned | fresh)
    except RuntimeError as error:
        raise WeightsError(f"{base}: is no run of stage 1; train it first") from error
    return network
