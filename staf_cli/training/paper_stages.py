"""`staf train run --plan paper`: both stages of the paper's section 4.3 on published datasets.

Stage 1 trains the base model with its encoder on single frames, first on COCO, then on a mix;
stage 2 the whole network on windows of nine, the encoder frozen. No augmentation (4.3.2).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from staf_cli.body.format import SAMPLES
from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.checkpoints.format import load_checkpoint, save_checkpoint
from staf_cli.core import metrics
from staf_cli.core.errors import DatasetError, UsageError, WeightsError
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.evaluation.datasets.people import Floats, Ints, People
from staf_cli.model.network import WindowNetwork, separate_windows
from staf_cli.model.normalisation import normalise
from staf_cli.model.regressor import Theta
from staf_cli.model.staf import STAF, build_network
from staf_cli.model.temporal import TARGET, WINDOW
from staf_cli.training import loop
from staf_cli.training.checkpoint import load_network_state, sampled_vertices, trained_tensors
from staf_cli.training.loop import PlateauSchedule, Say
from staf_cli.training.losses import LOSSES, from_hips, labelled_points, theta_loss
from staf_cli.training.mix import Mix, Rows, begin_reading, make_group, truth_of
from staf_cli.training.paper_plan import PAPER, PaperPlan, PaperStage
from staf_cli.training.published_sets import choose_sets, open_set, split_held_out
from staf_cli.training.stage1 import initialise_samplers, load_encoder, set_mean_pose
from staf_cli.training.stages import ARCHITECTURES, base_of, load_start, network_for_stage2

ENCODER = "resnet50"
NAME = "staf-paper"
ERROR = "PA-MPJPE"
VALIDATION_BATCH = 32
MOST_POSES = 10_000  # for the mean pose
LICENCE = (
    "trained by its user on {sets} and for SMPL, whose own licences (research only, for most of "
    "them) hold for the weights too"
)

Recover = Callable[[Tensor], Sequence[Theta]]  # normalised crops (B T, 3, 224, 224) -> Theta_1...


@dataclass(frozen=True)
class PaperOptions:
    """One call of `staf train run --plan paper`.

    Raises:
        UsageError: The architecture or the loss is unknown.
    """

    data: Path  # has resnet50.safetensors, and the sets that are named without a place
    folder: Path  # RUNS, where runs keep their state
    sets: tuple[str, ...]  # NAME or NAME=PATH; none: all
    architecture: str  # a key of ARCHITECTURES
    seed: int
    time_limit: float  # s of this call
    device: torch.device
    start: Path | None  # a checkpoint whose encoder and pyramid to start from
    loss: str  # a key of LOSSES
    encoder: str = ENCODER
    plan: PaperPlan = PAPER

    def __post_init__(self) -> None:
        """Check the names."""
        for what, name, known in (
            ("loss", self.loss, LOSSES),
            ("architecture", self.architecture, ARCHITECTURES),
        ):
            if name not in known:
                raise UsageError(f"unknown {what} {name!r}; choose from {', '.join(known)}")


def run_paper(options: PaperOptions, body: Body, say: Say) -> Path | None:
    """Train what is missing until the checkpoint is written or the time is over.

    Called again, it resumes.

    Args:
        options: What to train.
        body: SMPL's neutral body.
        say: Called with a line for the user now and then.

    Returns:
        The checkpoint's path; None if the time was over before.

    Raises:
        DatasetError: Sets are missing, damaged or not enough for a stage.
        WeightsError: A run, the encoder or the start checkpoint is missing or does not fit.
        OutputError: Something cannot be written.
    """
    end = time.monotonic() + options.time_limit
    places = choose_sets(options.data, options.sets)
    single = _stages_with_data(options.plan, places)
    say(_shares([*single, options.plan.temporal], places))
    sets = {}
    for name, place in places.items():
        say(f"reading {name}")
        sets[name] = open_set(name, place)
    sets, held_out = split_held_out(sets, places)
    body = with_samples(body, options.start)
    work = _Work(options, body, labelled_points(body).to(options.device), sets, held_out, end, say)
    before = None
    base = base_of(options.architecture)
    for stage in single:
        network = _base_network(work, base, before)
        run = options.folder / (stage.name if base == "base" else f"{base}-{stage.name}")
        if not _train(work, stage, run, network, network, single_frames(network)):
            return None
        before = run
    assert before is not None
    run = options.folder / f"temporal-{options.architecture}"
    architecture = replace(ARCHITECTURES[options.architecture], encoder=options.encoder)
    network = network_for_stage2(before, body, architecture, options.seed).to(options.device)
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    trained = {name: part for name, part in network.named_children() if name != "encoder"}
    recover = whole_windows(network)
    if not _train(work, options.plan.temporal, run, network, nn.ModuleDict(trained), recover):
        return None
    output = options.folder / f"{NAME}-{options.architecture}.safetensors"
    save_checkpoint(
        output,
        trained_tensors(before, run) | sampled_vertices(body),
        name=f"{NAME}-{options.architecture}",
        architecture=asdict(architecture),
        body=body.identity,
        crop_scale=CROP_SCALE,
        licence=LICENCE.format(sets=", ".join(sets)),
    )
    say(f"written: {output}")
    return output


def with_samples(body: Body, start: Path | None) -> Body:
    """Give a body the 431 points that the network samples, if it has none.

    Args:
        body: SMPL, whose file does not tell them.
        start: A checkpoint whose points to take; None: points far from each other are chosen.

    Returns:
        The body with points.

    Raises:
        WeightsError: The checkpoint cannot be read or is for another body.
    """
    if start is not None:
        checkpoint = load_checkpoint(start)
        if checkpoint.body != body.identity:
            raise WeightsError(f"{start}: is for {checkpoint.body}, not for {body.identity}")
        index, weight = (
            checkpoint.tensors[f"samples.{name}"].numpy() for name in ("index", "weight")
        )
    elif body.arrays.sample_index is not None:
        return body
    else:
        index = spread_vertices(body.arrays.v_template, SAMPLES)[:, None]
        weight = np.ones((SAMPLES, 1), np.float32)
    arrays = replace(body.arrays, sample_index=index, sample_weight=weight)
    return Body(body.name, arrays, body.gender)


def spread_vertices(vertices: Floats, count: int) -> Ints:
    """Choose vertices far from each other: each next one is the farthest from those chosen.

    Args:
        vertices: (V, 3)
        count: How many; V may be smaller, then some are chosen again.

    Returns:
        (count,) indices.
    """
    chosen = [0]
    distance = np.full(len(vertices), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(vertices - vertices[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def single_frames(network: WindowNetwork) -> Recover:
    """The base model on single frames; its encoder is trained with the rest."""

    def recover(crops: Tensor) -> Sequence[Theta]:
        with torch.autocast(crops.device.type, torch.bfloat16):
            phi_0 = network.encoder(crops)
        return network.base_model(phi_0.float())[0]

    return recover


def whole_windows(network: WindowNetwork) -> Recover:
    """The whole network on windows of nine; its encoder stays as it is."""

    def recover(crops: Tensor) -> Sequence[Theta]:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # raw and averaged maps share its statistics,
                module.eval()  # which stage 1 has measured
        with torch.no_grad(), torch.autocast(crops.device.type, torch.bfloat16):
            phi_0 = network.encoder(crops)
        return network.recover(network.frame_maps(phi_0.float()), separate_windows(len(phi_0)))

    return recover


class MixTask:
    """A network on a mix of datasets, with Eq. 11."""

    def __init__(
        self,
        network: WindowNetwork,
        trained: nn.Module,
        recover: Recover,
        mix: Mix,
        held_out: Rows,
        loss: str,
        about: str,
    ) -> None:
        """Choose what is trained.

        Args:
            network: On the device.
            trained: What of it is trained and saved.
            recover: Of single frames or of windows.
            mix: The batches, on the device.
            held_out: Windows to validate on.
            loss: A key of LOSSES.
            about: What a saved state must agree in.
        """
        self.network, self.recover = network, recover
        self.modules = nn.ModuleDict({"network": trained})
        self.mix, self.held_out = mix, held_out
        self.loss = LOSSES[loss]
        self.about = about

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """All with the same rate, as in the paper."""
        return [(list(self.modules.parameters()), 1.0)]

    def losses(self, step: int) -> dict[str, Tensor]:
        """Compute the terms of Eq. 11, each the mean over the regressors that have a loss.

        Args:
            step: Of the run.

        Returns:
            Scalars by name, each times its weight.
        """
        self.network.train()
        crops, truth = self.mix.draw(step)
        thetas = self.recover(crops)[self.loss.regressors]
        terms: dict[str, Tensor] = {}
        for theta in thetas:
            all_frames = len(theta.betas) == len(truth.betas)
            own = truth if all_frames else truth.rows(slice(TARGET, None, WINDOW))
            for name, term in theta_loss(theta, own, self.mix.points, self.loss).items():
                terms[name] = terms.get(name, 0) + term / len(thetas)
        return terms

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Measure MPJPE and PA-MPJPE, mm, of the LSP joints that all held-out people have."""
        self.network.eval()
        parts = []
        for first in range(0, len(self.held_out), VALIDATION_BATCH):
            rows = self.held_out[first : first + VALIDATION_BATCH]
            crops = [crop.result() for crop in begin_reading(self.mix.readers, rows)]
            images = torch.from_numpy(np.stack(crops)).to(self.mix.points.mix.device)
            theta = self.recover(normalise(images))[-1]
            targets = [(people, some[[len(some) // 2]]) for people, some in rows]
            truth = truth_of(targets, self.mix.points)
            kp3d, _ = self.mix.points(theta.rotmats, theta.betas)
            known = truth.kp3d_weight[..., None]
            parts.append(torch.cat([from_hips(kp3d), truth.kp3d, known], -1)[:, :14])
        joints, true_joints, known = torch.split(torch.cat(parts).double(), [3, 3, 1], -1)
        common = (known[..., 0] > 0).all(0)
        joints, true_joints = joints[:, common], true_joints[:, common]
        aligned = metrics.pa_mpjpe(joints.numpy(force=True), true_joints.numpy(force=True))
        off = (joints - true_joints).norm(dim=-1)
        return {"MPJPE": metrics.MM * off.mean().item(), ERROR: float(aligned.mean())}


@dataclass(frozen=True)
class _Work:
    """What all runs of a call share."""

    options: PaperOptions
    body: Body
    points: BodyPoints  # on the device
    sets: dict[str, People]
    held_out: list[People]
    end: float  # of time.monotonic
    say: Say


def _train(
    work: _Work,
    stage: PaperStage,
    run: Path,
    network: WindowNetwork,
    trained: nn.Module,
    recover: Recover,
) -> bool:
    """Start or resume a run until the time is over; return whether it is finished."""
    options, plan = work.options, work.options.plan
    groups = [
        make_group(
            share, {name: work.sets[name] for name in names if name in work.sets}, stage.length
        )
        for share, names in _present(stage, work.sets)
    ]
    mix = Mix(groups, work.points, stage.batch, stage.length, options.seed)
    sizes = ", ".join(f"{name} {len(people)}" for name, people in work.sets.items())
    about = f"{stage.name} on {sizes}, seed {options.seed}, loss {options.loss}, {stage.groups}"
    held_out = _spread_windows(work.held_out, stage.length, plan.held_out)
    task = MixTask(network, trained, recover, mix, held_out, options.loss, about)
    epoch = stage.epoch or math.ceil(max(len(group) for group in groups) / stage.batch)
    schedule = PlateauSchedule(
        stage.epochs * epoch, plan.rate, epoch, ERROR, plan.patience, plan.factor
    )
    left = work.end - time.monotonic()
    progress = loop.train(task, schedule, run, left, options.device, work.say)
    return progress.step >= schedule.steps


def _base_network(work: _Work, base: str, before: Path | None) -> WindowNetwork:
    """The base model as a run of stage 1 starts: after another run, or from ImageNet."""
    options = work.options
    torch.manual_seed(options.seed)
    architecture = replace(ARCHITECTURES[base], encoder=options.encoder)
    network = build_network(architecture, work.body.sample_points())
    if before is not None:
        network.load_state_dict(load_network_state(before))
    else:
        if isinstance(network, STAF):
            initialise_samplers(network)
        if options.start is None:
            load_encoder(network, options.data / f"{options.encoder}.safetensors")
        else:
            load_start(network, options.start)
        poses = [people.poses[people.smpl_weight > 0] for people in work.sets.values()]
        known = np.concatenate(poses)
        if len(known):
            some = known[np.linspace(0, len(known) - 1, min(len(known), MOST_POSES)).astype(int)]
            set_mean_pose(network, torch.from_numpy(some).reshape(-1, 24, 3))
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    return network.to(options.device)


def _spread_windows(people: Sequence[People], length: int, most: int) -> Rows:
    """Windows to validate on, at most so many, spread evenly."""
    all_starts = [(one, int(start)) for one in people for start in one.windows(length)]
    if not all_starts:
        raise DatasetError(
            "of the held-out people no nine frames follow each other; name 3dpw, whose validation "
            "split is measured"
        )
    count = min(most, len(all_starts))
    chosen = np.linspace(0, len(all_starts) - 1, count).astype(int).tolist()
    return [
        (one, np.arange(start, start + length)) for one, start in (all_starts[n] for n in chosen)
    ]


def _stages_with_data(plan: PaperPlan, places: Mapping[str, Path]) -> list[PaperStage]:
    """The runs of stage 1 that any set is for."""
    single = [stage for stage in plan.single if _present(stage, places)]
    for what, found, stages in (
        ("1, single frames,", single, plan.single),
        ("2, windows of nine frames,", _present(plan.temporal, places), (plan.temporal,)),
    ):
        if not found:
            names = dict.fromkeys(n for s in stages for _, group in s.groups for n in group)
            raise DatasetError(
                f"no set for stage {what} is named; name with --set one of {', '.join(names)}"
            )
    return single


def _present(stage: PaperStage, named: Mapping[str, object]) -> list[tuple[float, tuple[str, ...]]]:
    """The groups of a stage as far as their sets are named."""
    groups = [(share, tuple(n for n in names if n in named)) for share, names in stage.groups]
    return [(share, names) for share, names in groups if names]


def _shares(stages: Sequence[PaperStage], named: Mapping[str, object]) -> str:
    """What batches consist of, for the user."""
    parts = []
    for stage in stages:
        groups = _present(stage, named)
        total = sum(share for share, _ in groups)
        shares = (f"{'+'.join(names)} {100 * share / total:.0f} %" for share, names in groups)
        parts.append(f"{stage.name}: {', '.join(shares)}")
    return "; ".join(parts)
