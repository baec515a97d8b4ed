"""The training loop of all stages: steps, validation, saving, stopping at any moment, resuming.

What step k changes depends on the weights, the seed and k alone, so a run that was stopped and
resumed ends exactly like one that was not.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import torch
from torch import Tensor, nn

from staf_cli.core.errors import WeightsError
from staf_cli.core.files import atomic

SAVE_SECONDS = 300
WARM_UP = 100  # steps
COOL_DOWN = 0.4  # the last part of the steps, in which the learning rate falls to zero
MAX_GRADIENT_NORM = 30.0  # longer gradients are scaled down to it

Say = Callable[[str], None]  # called with a line for the user now and then


class TrainingTask(Protocol):
    """What the loop trains: modules, the loss of a step, and errors on held-out data."""

    @property
    def modules(self) -> nn.Module:
        """What is trained and saved."""

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Groups of parameters, each with its part of the schedule's rate."""

    @property
    def about(self) -> str:
        """What a saved state must agree in to be resumed."""

    def losses(self, step: int) -> dict[str, Tensor]:
        """Compute the loss of a step: scalars by name, each times its weight, to be added up."""

    def validate(self) -> dict[str, float]:
        """Compute errors on held-out data, by name."""


Errors = Sequence[dict[str, float]]  # of the validations so far, by name


class Rates(Protocol):
    """How many steps, at which learning rates, and how often to validate."""

    @property
    def steps(self) -> int:
        """Of the whole run."""

    @property
    def rate(self) -> float:
        """Adam's, the largest."""

    @property
    def validate_every(self) -> int:
        """Steps."""

    def rate_at(self, step: int, errors: Errors) -> float:
        """Compute the rate of a step, 0 to steps - 1, for groups whose part is 1."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then constant, then linearly to zero.

    The authors drop the rate on a plateau; where the number of steps is known, this ends better.
    """

    steps: int
    rate: float = 3e-4  # Adam's
    validate_every: int = 100  # steps

    def rate_at(self, step: int, _: Errors) -> float:
        """Compute the rate of a step, 0 to steps - 1, for groups whose part is 1."""
        end = self.steps * COOL_DOWN
        return self.rate * min(1.0, (step + 1) / WARM_UP, (self.steps - step) / max(1.0, end))


@dataclass(frozen=True)
class PlateauSchedule:
    """A rate that falls to a part of itself whenever an error has not been lower for a while."""

    steps: int
    rate: float
    validate_every: int  # steps
    error: str  # of the validations
    patience: int  # validations without a lower error
    factor: float

    def rate_at(self, _: int, errors: Errors) -> float:
        """Compute the rate of the step after these validations, for groups whose part is 1."""
        rate, best, since = self.rate, math.inf, 0
        for found in errors:
            since = 0 if found[self.error] < best else since + 1
            best = min(best, found[self.error])
            if since == self.patience:
                rate, since = self.factor * rate, 0
        return rate


@dataclass
class RunProgress:
    """How far a run is, saved with its weights."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of training, over all calls
    losses: list[dict[str, float]] = field(default_factory=list)  # means between validations
    errors: list[dict[str, float]] = field(default_factory=list)  # of validations


def train(
    task: TrainingTask,
    schedule: Rates,
    folder: Path,
    time_limit: float,
    device: torch.device,
    say: Say,
) -> RunProgress:
    """Train until the schedule's end or the time limit; resume the folder's state if there is one.

    Saves and validates before the first step, since making the initial weights may have taken
    long. Saves on every exit, and every five minutes in case the process is killed.

    Args:
        task: What to train.
        schedule: How long and how fast.
        folder: For `state.pt` and `curves.png`.
        time_limit: s of this call.
        device: The task's.
        say: Called with a line for every validation, and where the time limit stops it.

    Returns:
        How far the run is.

    Raises:
        WeightsError: The loss is not a number, or the saved state belongs to another run.
    """
    started = saved = time.monotonic()
    optimizer = torch.optim.Adam(
        [{"params": group, "part": part} for group, part in task.groups],
        lr=schedule.rate,
        fused=device.type != "mps",
    )
    state = folder / "state.pt"
    if state.exists():
        progress = _restore(state, task, optimizer, device)
    else:
        progress = RunProgress()
        _save(state, task, optimizer, progress)
    if not progress.errors:
        progress.errors.append({"step": 0, **task.validate()})
        say(_line(progress, schedule))
        _save(state, task, optimizer, progress)
    if progress.step >= schedule.steps:
        return progress
    before = progress.seconds
    recent: dict[str, list[Tensor]] = {}
    try:
        while progress.step < schedule.steps:
            rate = schedule.rate_at(progress.step, progress.errors)
            terms = _step(task, rate, optimizer, progress.step)
            progress.step += 1
            progress.seconds = before + time.monotonic() - started
            for name, term in terms.items():
                recent.setdefault(name, []).append(term)
            last = progress.step == schedule.steps
            if progress.step % schedule.validate_every == 0 or last:
                losses = {n: torch.stack(v).cpu().double().mean().item() for n, v in recent.items()}
                recent = {}
                progress.losses.append({"step": progress.step, **losses})
                progress.errors.append({"step": progress.step, **task.validate()})
                say(_line(progress, schedule))
            now = time.monotonic()
            if now - started > time_limit:
                break
            if now - saved > SAVE_SECONDS:
                _save(state, task, optimizer, progress)
                saved = now
    finally:
        _save(state, task, optimizer, progress)
        plot_curves(progress, folder / "curves.png")
    if progress.step < schedule.steps:
        say(f"stopped at step {progress.step} of {schedule.steps}; the same command goes on")
    return progress


def _step(
    task: TrainingTask, rate: float, optimizer: torch.optim.Adam, step: int
) -> dict[str, Tensor]:
    """Do one step of Adam; return its loss terms, still on the device to not wait for a GPU."""
    for group in optimizer.param_groups:
        group["lr"] = group["part"] * rate
    terms = task.losses(step)
    total = torch.stack(list(terms.values())).sum()
    if not math.isfinite(total.item()):
        raise WeightsError(f"the loss of step {step} is not a number; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
    optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def _line(progress: RunProgress, schedule: Rates) -> str:
    parts = [f"step {progress.step}/{schedule.steps}  {progress.seconds / 60:.0f} min"]
    for what, values in (("loss", progress.losses), ("held out", progress.errors)):
        if values:
            numbers = [
                f"{name} {value:.3g}" for name, value in values[-1].items() if name != "step"
            ]
            parts.append(f"{what}: {', '.join(numbers)}")
    return "  ".join(parts)


def _save(
    path: Path, task: TrainingTask, optimizer: torch.optim.Optimizer, progress: RunProgress
) -> None:
    with atomic(path) as temporary:
        torch.save(
            {
                "about": task.about,
                "modules": task.modules.state_dict(),
                "optimizer": optimizer.state_dict(),
                "progress": json.dumps(vars(progress)),
            },
            temporary,
        )


def _restore(
    path: Path, task: TrainingTask, optimizer: torch.optim.Optimizer, device: torch.device
) -> RunProgress:
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        if saved["about"] != task.about:
            raise ValueError(f"it was {saved['about']}")
        task.modules.load_state_dict(saved["modules"])
        optimizer.load_state_dict(saved["optimizer"])
        return RunProgress(**json.loads(saved["progress"]))
    except (RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path}: belongs to another run or is damaged ({reason}); choose another folder"
        ) from error


def plot_curves(progress: RunProgress, path: Path) -> None:
    """Draw losses and held-out errors over the steps; does nothing without matplotlib.

    Args:
        progress: Of the run.
        path: The PNG file to write.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    series = [values for values in (progress.losses, progress.errors) if values]
    if not series:
        return
    figure, axes = pyplot.subplots(len(series), 1, figsize=(8, 4 * len(series)), squeeze=False)
    for axis, values in zip(axes[:, 0], series, strict=True):
        for name in list(values[0])[1:]:
            axis.plot([v["step"] for v in values], [v[name] for v in values], label=name)
        axis.set(xlabel="step")
        axis.set_yscale("symlog", linthresh=0.1)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
