"""From prepared data to a checkpoint: render, stage 1, stage 2 (paper 4.3).

Stage 1 has two halves, with a closed-form solution between them: the point features are
pretrained, the regressors are solved for, then the base model is trained as in the paper.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.core.errors import UsageError, WeightsError
from staf_cli.core.files import sha256
from staf_cli.model import blazepose
from staf_cli.model.hmr import HMR, PooledArchitecture
from staf_cli.model.staf import STAF, Architecture, build_network
from staf_cli.training import loop
from staf_cli.training.batches import Batches, SampleSource
from staf_cli.training.checkpoint import load_network_state, write_checkpoint
from staf_cli.training.encoded_sets import EncodedSet, encode
from staf_cli.training.least_squares import solve_regressors
from staf_cli.training.loop import Say, Schedule
from staf_cli.training.losses import LOSSES, labelled_points
from staf_cli.training.people.motion import read_motions
from staf_cli.training.plan import SEQUENCE, Plan
from staf_cli.training.pretraining import PretrainingTask
from staf_cli.training.samples import SampleSet, read_samples
from staf_cli.training.stage1 import (
    Stage1Task,
    draw_encoded,
    initialise_samplers,
    load_encoder,
    set_mean_pose,
)
from staf_cli.training.stage2 import Stage2Task, WindowMix
from staf_cli.training.stored_maps import MapSource, draw_stored, start_from
from staf_cli.training.studio.rendering import RenderJob, render_set

AnyArchitecture = Architecture | PooledArchitecture
ARCHITECTURES: dict[str, AnyArchitecture] = {  # rows of Tables 4 and 5, with the plan's encoder
    "base": Architecture(apm=False, tcfm=None, safm=None),
    "apm": Architecture(apm=True, tcfm=None, safm=None),
    "fusion": Architecture(apm=False),
    "full": Architecture(),
    "hmr": PooledArchitecture(),
    "hmr-hafi": PooledArchitecture(integration="hafi"),
    "hmr-apm": PooledArchitecture(integration="apm"),
    "mps-net": PooledArchitecture(network="mps-net"),
    "mps-net-hafi": PooledArchitecture(network="mps-net", integration="hafi"),
    "mps-net-apm": PooledArchitecture(network="mps-net", integration="apm"),
}
PRETRAINING = "seeing"  # its run's folder; of stage 1: base or hmr, of stage 2: temporal-*
SHARES = {"photos": 12, "poses": 11, "synthetic": 9}  # of a batch of stage 1
HELD_OUT = ("photos-held-out", "synthetic-held-out")
VIEWS = {"synthetic": 2, "photos": 2}  # of every sample in stage 2
VIEWS_STORED = 2  # of every sample in stage 1 with an encoder that is not trained
SOLVED_FRAMES = 5000  # of each set, for the least squares
PHOTO_SHARE = 0.25  # of the windows of stage 2
NAME = "staf-open"


@dataclass(frozen=True)
class TrainingOptions:
    """One call of `staf train run`.

    Raises:
        UsageError: The architecture or the loss is unknown, or the plan needs a start.
    """

    data: Path  # the folder of prepared data
    folder: Path  # RUNS, where runs keep their state
    plan: Plan
    architecture: str  # a key of ARCHITECTURES
    seed: int
    time_limit: float  # s of this call
    device: torch.device
    start: Path | None = None  # a checkpoint whose encoder and pyramid to start from
    loss: str = "soft"  # a key of LOSSES

    def __post_init__(self) -> None:
        """Check the names."""
        if self.loss not in LOSSES:
            raise UsageError(f"unknown loss {self.loss!r}; choose from {', '.join(LOSSES)}")
        if self.plan.encoder == blazepose.NAME and self.start is None:
            raise UsageError(
                "this plan begins with what a checkpoint has learned: give it with --start"
            )
        if self.architecture not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise UsageError(f"unknown architecture {self.architecture!r}; choose from {names}")

        steps = min(self.plan.stage1_steps, self.plan.stage2_steps)
        if isinstance(ARCHITECTURES[self.architecture], PooledArchitecture) and not steps:
            raise UsageError(
                f"{self.architecture} needs steps of both stages, which this plan does not take: "
                "choose --plan frozen, gpu or paper"
            )

    def make_architecture(self, name: str) -> AnyArchitecture:
        """Return a row of ARCHITECTURES with the plan's encoder."""
        return replace(ARCHITECTURES[name], encoder=self.plan.encoder)

    @property
    def base(self) -> str:
        """The row that stage 1 trains, and the name of its run."""
        return base_of(self.architecture)


_Half = tuple[str, Callable[[TrainingOptions, Body, Say], loop.TrainingTask], Schedule]


def run_stages(options: TrainingOptions, body: Body, say: Say) -> Path | None:
    """Render and train what is missing until the checkpoint is written or the time is over.

    Called again, it resumes. A set that is being rendered or encoded is always finished first.

    Args:
        options: What to train.
        body: The body to train for.
        say: Called with a line for the user now and then.

    Returns:
        The checkpoint's path; None if the time was over before.

    Raises:
        DatasetError: Prepared data are missing or do not fit.
        WeightsError: A run, its encoder or the start checkpoint is missing or does not fit.
        OutputError: Something cannot be written.
    """
    end = time.monotonic() + options.time_limit
    plan, folder = options.plan, options.folder
    for job in _missing_sets(options):
        render_set(job, options.data, body.arrays, say)
        if _over(end, say):
            return None
    seeing = Schedule(plan.pretraining_steps, plan.pretraining_rate, plan.validate_every)
    base = Schedule(plan.stage1_steps, plan.stage1_rate, plan.validate_every)
    frozen = plan.encoder == blazepose.NAME
    before = () if frozen else ((PRETRAINING, _pretraining_task, seeing),)
    task = _frozen_task if frozen else _stage1_task
    stage1: tuple[_Half, ...] = (*before, (options.base, task, base))
    for name, make_task, schedule in stage1:
        saved = _saved_at(folder / name)
        if not _train(make_task(options, body, say), schedule, folder / name, end, options, say):
            return None
        if _saved_at(folder / name) != saved and _over(end, say):
            return None
    run = folder / f"temporal-{options.architecture}"
    schedule = Schedule(plan.stage2_steps, plan.stage2_rate, plan.validate_every)
    if not _train(_stage2_task(options, body, say), schedule, run, end, options, say):
        return None
    architecture = options.make_architecture(options.architecture)
    output = folder / f"{NAME}-{options.architecture}.safetensors"
    write_checkpoint(folder / options.base, run, architecture, body, output, NAME)
    say(f"written: {output}")
    return output


def base_of(architecture: str) -> str:
    """The row of ARCHITECTURES that sees single frames: what stage 1 trains for another row."""
    return "hmr" if isinstance(ARCHITECTURES[architecture], PooledArchitecture) else "base"


def _over(end: float, say: Say) -> bool:
    if time.monotonic() <= end:
        return False
    say("the time is over; the same command goes on")
    return True


def _saved_at(run: Path) -> int:
    """When a run's state was written, ns; 0 where there is none."""
    state = run / "state.pt"
    return state.stat().st_mtime_ns if state.exists() else 0


def _missing_sets(options: TrainingOptions) -> list[RenderJob]:
    """The plan's synthetic sets that are not rendered yet."""
    plan, seed = options.plan, options.seed
    jobs = (
        RenderJob("synthetic-held-out", "held-out", plan.held_out, SEQUENCE, seed),
        RenderJob("synthetic", "training", plan.sequences, SEQUENCE, seed + 1),
        RenderJob("poses", "training", plan.poses, 1, seed + 2),
    )
    return [job for job in jobs if not (options.data / job.name / "labels.npz").exists()]


def _pretraining_task(options: TrainingOptions, body: Body, say: Say) -> PretrainingTask:
    data, plan = options.data, options.plan
    torch.manual_seed(options.seed)
    network = _base_model(options, body)
    initialise_samplers(network)
    if options.start is None:
        load_encoder(network, data / f"{plan.encoder}.safetensors")
    else:
        load_start(network, options.start)
    set_mean_pose(network, torch.from_numpy(read_motions(data / "motions.npz").training.rotvec))
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    batches, steps = _batches(options, body), plan.pretraining_steps
    return PretrainingTask(network, batches, _held_out(data), steps, plan.pretraining_phases)


def load_start(network: STAF | HMR, path: Path) -> None:
    """Load encoder and pyramid of a checkpoint.

    Args:
        network: It is changed in place.
        path: The checkpoint.

    Raises:
        WeightsError: They do not fit.
    """
    tensors = load_checkpoint(path).tensors
    parts = ("encoder.", "pyramid.") if isinstance(network, STAF) else ("encoder.",)
    shared = {k: v for k, v in tensors.items() if k.startswith(parts)}
    try:
        network.load_state_dict(network.state_dict() | shared)
    except RuntimeError as error:
        raise WeightsError(f"{path}: has another encoder than the plan's; leave it out") from error


def _stage1_task(options: TrainingOptions, body: Body, say: Say) -> Stage1Task:
    """The base model with pretrained features; a run that starts here gets solved regressors."""
    data, device = options.data, options.device
    pretraining = options.folder / PRETRAINING
    network = _base_model(options, body).to(device)
    network.load_state_dict(load_network_state(pretraining))
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    _disable_dropout(network)
    if options.base == "base" and not _saved_at(options.folder / options.base):
        state = pretraining / "state.pt"
        sets = [
            _encoded(network, sha256(state)[:8], name, views, options, say, SOLVED_FRAMES)
            for views in (0, 1)
            for name in SHARES
        ]
        say("solving for the regressors")
        solve_regressors(network, labelled_points(body).to(device), sets)
    batches = _batches(options, body)
    base = _with_head(network, options)
    return Stage1Task(
        base,
        draw_encoded(base, batches),
        batches.points,
        _held_out(data),
        _about_batches(options),
        options.loss,
    )


def _frozen_task(options: TrainingOptions, body: Body, say: Say) -> Stage1Task:
    """The base model on stored maps of encoders that stay as they are."""
    assert options.start is not None
    points = labelled_points(body).to(options.device)
    network = _base_model(options, body)
    start_from(network, options.start)
    network.to(options.device)
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    _disable_dropout(network)
    kept = _stored_key(options)
    sources = [
        MapSource(_encoded(network, kept, name, VIEWS_STORED, options, say), share)
        for name, share in SHARES.items()
    ]
    size, seed = options.plan.batch, options.seed
    return Stage1Task(
        _with_head(network, options),
        draw_stored(sources, points, size, seed, options.device),
        points,
        _held_out(options.data),
        f"{_about_batches(options)}, stored maps of {kept}",
        options.loss,
    )


def _stored_key(options: TrainingOptions) -> str:
    """The key of maps by the start's encoder."""
    assert options.start is not None
    return sha256(options.start)[:8]


def _base_model(options: TrainingOptions, body: Body) -> STAF:
    """STAF's base model, with random weights."""
    architecture = options.make_architecture("base")
    assert isinstance(architecture, Architecture)
    return STAF(architecture, body.sample_points())


def _with_head(network: STAF, options: TrainingOptions) -> STAF | HMR:
    """The network that stage 1 trains: STAF's, or for Table 5 HMR with its encoder and Theta_0."""
    architecture = options.make_architecture(options.base)
    if isinstance(architecture, Architecture):
        return network
    torch.manual_seed(options.seed)
    hmr = HMR(architecture)
    hmr.encoder, hmr.mean = network.encoder, network.mean
    return hmr.to(options.device)


def _about_batches(options: TrainingOptions) -> str:
    return f"seed {options.seed}, batches of {options.plan.batch}"


def _batches(options: TrainingOptions, body: Body) -> Batches:
    """The batches of both halves of stage 1."""
    sources = [
        SampleSource(read_samples(options.data / name), share) for name, share in SHARES.items()
    ]
    points = labelled_points(body).to(options.device)
    return Batches(sources, points, options.plan.batch, options.seed, options.device)


def _held_out(data: Path) -> dict[str, SampleSet]:
    return {name: read_samples(data / name) for name in HELD_OUT}


def _encoded(
    network: STAF | HMR,
    key: str,
    name: str,
    views: int,
    options: TrainingOptions,
    say: Say,
    most_frames: int | None = None,
) -> EncodedSet:
    """A set's maps by an encoder with this key, kept in RUNS; at most of its first frames."""
    kept = options.folder / f"encoded-{key}"
    say(f"encoding {name}")
    samples = read_samples(options.data / name)
    if most_frames is not None:
        rows = slice(0, max(1, most_frames // samples.images.shape[1]))
        samples = SampleSet(samples.images[rows], samples.labels[rows])
    path = kept / f"{name}-{views}-{len(samples)}.npy"
    return encode(network, samples, path, views, options.seed, options.device)


def _disable_dropout(network: STAF) -> None:
    """Set dropout to 0: the paper's 0.5 would break the solved regressors."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _stage2_task(options: TrainingOptions, body: Body, say: Say) -> Stage2Task:
    base = options.folder / options.base
    architecture = options.make_architecture(options.architecture)
    network = network_for_stage2(base, body, architecture, options.seed)
    if isinstance(network, STAF):
        _disable_dropout(network)
    network.to(options.device)
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)

    frozen = options.plan.encoder == blazepose.NAME  # its maps are those that stage 1 has stored
    key = _stored_key(options) if frozen else sha256(base / "state.pt")[:8]

    def encoded(name: str, views: int) -> EncodedSet:
        return _encoded(network, key, name, views, options, say)

    return Stage2Task(
        network,
        body,
        encoded("synthetic", VIEWS["synthetic"]),
        encoded("photos", VIEWS["photos"]),
        {name: encoded(name, 0) for name in HELD_OUT},
        mix=WindowMix(
            options.plan.stage2_batch,
            PHOTO_SHARE,
            options.plan.stage2_together,
            options.plan.stage2_only_2d,
            options.plan.stage2_features,
        ),
        seed=options.seed,
        device=options.device,
        loss=options.loss,
    )


def _train(
    task: loop.TrainingTask,
    schedule: Schedule,
    run: Path,
    end: float,
    options: TrainingOptions,
    say: Say,
) -> bool:
    """Start or resume a run until `end`; return whether it is finished."""
    left = end - time.monotonic()
    progress = loop.train(task, schedule, run, left, options.device, say)
    return progress.step >= schedule.steps


def network_for_stage2(
    base: Path, body: Body, architecture: AnyArchitecture, seed: int
) -> STAF | HMR:
    """Build the network of stage 2 from a run of stage 1, with fresh TCFM and SAFM, MoCA or HAFI.

    TCFM and MoCA start by adding nothing to the features and SAFM by averaging them, so that they
    do not disturb the base model. HAFI starts at random: where its attention ends is the question.

    Args:
        base: Folder of the run of stage 1.
        body: The body to train for.
        architecture: Of stage 2.
        seed: For the fresh weights.

    Returns:
        The network, on the CPU.

    Raises:
        WeightsError: The run is missing or does not fit.
    """
    torch.manual_seed(seed)
    network = build_network(architecture, body.sample_points())
    if network.coherence is not None:
        torch.nn.init.zeros_(network.coherence.mask.weight)
    if isinstance(network, STAF) and network.safm is not None:
        last = cast("torch.nn.Linear", network.safm.attend[-2])
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    learned = load_network_state(base)
    fresh = {k: v for k, v in network.state_dict().items() if k not in learned}
    try:
        network.load_state_dict(learned | fresh)
    except RuntimeError as error:
        raise WeightsError(f"{base}: is no run of stage 1; train it first") from error
    return network
