"""From prepared data to a checkpoint: sets of synthetic people, stage 1, stage 2 (paper 4.3).

Stage 1 first learns to see, then its regressors are solved for, then it learns as in the paper.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.core.errors import UsageError, WeightsError
from staf_cli.core.files import sha256
from staf_cli.model.staf import STAF, Architecture
from staf_cli.training import loop
from staf_cli.training.base import BaseTask, initialise, load_encoder, set_mean
from staf_cli.training.batches import Batches, Source
from staf_cli.training.loop import Say, Schedule
from staf_cli.training.losses import labelled_points
from staf_cli.training.people.motion import read_motions
from staf_cli.training.plan import SEQUENCE, Plan
from staf_cli.training.reading import learn_to_read
from staf_cli.training.samples import SampleSet, read_samples
from staf_cli.training.seeing import SeeingTask
from staf_cli.training.shipping import network_state, ship
from staf_cli.training.studio.rendering import Order, render_set
from staf_cli.training.temporal import EncodedSet, TemporalTask, encode

ARCHITECTURES = {  # the rows of the paper's Table 4, with the plan's encoder
    "base": Architecture(apm=False, tcfm=None, safm=None),
    "apm": Architecture(apm=True, tcfm=None, safm=None),
    "fusion": Architecture(apm=False),
    "full": Architecture(),
}
SHARES = {"photos": 12, "poses": 11, "synthetic": 9}  # of a batch of stage 1
HELD_OUT = ("photos-held-out", "synthetic-held-out")
VIEWS = {"synthetic": 2, "photos": 2}  # of every sample in stage 2
READ_FRAMES = 5000  # of each set, that the regressors are solved for
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
    start: Path | None = None  # a checkpoint whose encoder and pyramid are gone on from

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
    stage1 = (
        ("seeing", _seeing, Schedule(plan.seeing_steps, plan.seeing_rate, plan.validate_every)),
        ("base", _base, Schedule(plan.base_steps, plan.base_rate, plan.validate_every)),
    )
    for name, task, schedule in stage1:
        before = _saved_at(folder / name)
        if not _train(task(options, body, say), schedule, folder / name, end, options, say):
            return None
        if _saved_at(folder / name) != before and _over(end, say):
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


def _seeing(options: Options, body: Body, say: Say) -> SeeingTask:
    data, plan = options.data, options.plan
    torch.manual_seed(options.seed)
    network = STAF(options.build("base"), body.sample_points())
    initialise(network)
    if options.start is None:
        load_encoder(network, data / f"{plan.encoder}.safetensors")
    else:
        _load_start(network, options.start)
    set_mean(network, torch.from_numpy(read_motions(data / "motions.npz").training.rotvec))
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    return SeeingTask(
        network, _batches(options, body), _held_out(data), plan.seeing_steps, plan.seeing_phases
    )


def _load_start(network: STAF, path: Path) -> None:
    """Encoder and pyramid of a checkpoint. Raises WeightsError for one that has others."""
    tensors = load_checkpoint(path).tensors
    seeing = {k: v for k, v in tensors.items() if k.startswith(("encoder.", "pyramid."))}
    try:
        network.load_state_dict(network.state_dict() | seeing)
    except RuntimeError as error:
        raise WeightsError(f"{path}: has another encoder than the plan's; leave it out") from error


def _base(options: Options, body: Body, say: Say) -> BaseTask:
    """The second half goes on from the first; its regressors are solved for where it begins."""
    data, device = options.data, options.device
    seeing = options.folder / "seeing"
    network = STAF(options.build("base"), body.sample_points()).to(device)
    network.load_state_dict(network_state(seeing))
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    _without_dropout(network)
    if not _saved_at(options.folder / "base"):
        sets = [
            _encoded(network, seeing, name, views, options, say, READ_FRAMES)
            for views in (0, 1)
            for name in SHARES
        ]
        say("solving for the regressors")
        learn_to_read(network, labelled_points(body).to(device), sets)
    return BaseTask(network, _batches(options, body), _held_out(data))


def _batches(options: Options, body: Body) -> Batches:
    """What both halves of stage 1 draw from."""
    sources = [Source(read_samples(options.data / name), share) for name, share in SHARES.items()]
    points = labelled_points(body).to(options.device)
    return Batches(sources, points, options.plan.batch, options.seed, options.device)


def _held_out(data: Path) -> dict[str, SampleSet]:
    return {name: read_samples(data / name) for name in HELD_OUT}


def _encoded(
    network: STAF,
    run: Path,
    name: str,
    views: int,
    options: Options,
    say: Say,
    most_frames: int | None = None,
) -> EncodedSet:
    """A set's maps by the encoder of a run, kept beside it; of its first frames alone."""
    kept = options.folder / f"encoded-{sha256(run / 'state.pt')[:8]}"
    say(f"encoding {name}")
    samples = read_samples(options.data / name)
    if most_frames is not None:
        rows = slice(0, max(1, most_frames // samples.images.shape[1]))
        samples = SampleSet(samples.images[rows], samples.labels[rows])
    path = kept / f"{name}-{views}-{len(samples)}.npy"
    return encode(network, samples, path, views, options.seed, options.device)


def _without_dropout(network: STAF) -> None:
    """The paper's half would break what was solved for."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _temporal(options: Options, body: Body, say: Say) -> TemporalTask:
    base = options.folder / "base"
    network = load_temporal(base, body, options.build(options.architecture), options.seed)
    _without_dropout(network)
    network.to(options.device)
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)

    def encoded(name: str, views: int) -> EncodedSet:
        return _encoded(network, base, name, views, options, say)

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

    TCFM starts by adding nothing to the features, SAFM by averaging them, so that what is learned
    is not drowned.
    """
    torch.manual_seed(seed)
    network = STAF(architecture, body.sample_points())
    if network.tcfm is not None:
        torch.nn.init.zeros_(network.tcfm.mask.weight)
    if network.safm is not None:
        last = cast("torch.nn.Linear", network.safm.attend[-2])
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    learned = network_state(base)
    fresh = {k: v for k, v in network.state_dict().items() if k not in learned}
    try:
        network.load_state_dict(learned | fresh)
    except RuntimeError as error:
        raise WeightsError(f"{base}: is no run of stage 1; train it first") from error
    return network
