"""The loop both stages share: steps, validation, saving, stopping at any moment, going on.

Step k of a run depends on the weights and on the seed and k alone, so a run that was stopped and
resumed is the run that was not.
"""

import json
import math
import time
from collections.abc import Callable
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
LONGEST_STEP = 30.0  # norm of the gradient; longer ones are cut

Say = Callable[[str], None]


class Task(Protocol):
    """What is trained: the modules, the loss of one step, and a look at held-out data."""

    @property
    def modules(self) -> nn.Module:
        """What is trained and saved."""

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is trained, and which part of the schedule's rate is its own."""

    @property
    def about(self) -> str:
        """What a saved state must agree in to be gone on from."""

    def losses(self, step: int) -> dict[str, Tensor]:
        """The weighted terms whose sum step number `step` makes smaller."""

    def validate(self) -> dict[str, float]:
        """Errors on held-out data."""


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, and how often to look."""

    steps: int
    rate: float = 3e-4  # Adam's
    validate_every: int = 100  # steps

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then constant, then linearly to zero.

        The authors drop the rate on a plateau; a run whose length is known ends better this way.
        """
        end = self.steps * COOL_DOWN
        return self.rate * min(1.0, (step + 1) / WARM_UP, (self.steps - step) / max(1.0, end))


@dataclass
class Progress:
    """Where a run is: what is saved with its weights."""

    step: int = 0
    seconds: float = 0.0  # of training, over all calls
    losses: list[dict[str, float]] = field(default_factory=list)  # means between validations
    errors: list[dict[str, float]] = field(default_factory=list)


def run(
    task: Task, schedule: Schedule, folder: Path, time_limit: float, device: torch.device, say: Say
) -> Progress:
    """Train until the schedule's end or for `time_limit` seconds; go on from `folder`'s state.

    Saves and looks at held-out data before the first step, as what it begins with may have been
    long in the making; saves on every exit but a kill, and every five minutes for that. Raises
    WeightsError when the loss is no longer a number, or when the saved state belongs to another
    run.
    """
    started = saved = time.monotonic()
    parameters = [p for group, _ in task.groups for p in group]
    optimizer = torch.optim.Adam(
        [{"params": group, "part": part} for group, part in task.groups],
        lr=schedule.rate,
        fused=device.type != "mps",
    )
    state = folder / "state.pt"
    if state.exists():
        progress = _restore(state, task, optimizer, device)
    else:
        progress = Progress()
        _save(state, task, optimizer, progress)
    if not progress.errors:  # of what it begins with
        progress.errors.append({"step": 0, **task.validate()})
        say(_line(progress, schedule))
        _save(state, task, optimizer, progress)
    if progress.step >= schedule.steps:
        return progress
    before = progress.seconds
    recent: dict[str, list[Tensor]] = {}
    try:
        while progress.step < schedule.steps:
            for group in optimizer.param_groups:
                group["lr"] = group["part"] * schedule.rate_at(progress.step)
            terms = task.losses(progress.step)
            total = torch.stack(list(terms.values())).sum()
            if not math.isfinite(total.item()):
                raise WeightsError(
                    f"the loss of step {progress.step} is not a number; lower the learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, LONGEST_STEP)
            optimizer.step()
            progress.step += 1
            progress.seconds = before + time.monotonic() - started
            for name, term in terms.items():  # kept where they are: a GPU need not be waited for
                recent.setdefault(name, []).append(term.detach())
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
        plot(progress, folder / "curves.png")
    if progress.step < schedule.steps:
        say(f"stopped at step {progress.step} of {schedule.steps}; the same command goes on")
    return progress


def _line(progress: Progress, schedule: Schedule) -> str:
    said = [f"step {progress.step}/{schedule.steps}  {progress.seconds / 60:.0f} min"]
    for what, values in (("loss", progress.losses), ("held out", progress.errors)):
        if values:
            numbers = [
                f"{name} {value:.3g}" for name, value in values[-1].items() if name != "step"
            ]
            said.append(f"{what}: {', '.join(numbers)}")
    return "  ".join(said)


def _save(path: Path, task: Task, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
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
    path: Path, task: Task, optimizer: torch.optim.Optimizer, device: torch.device
) -> Progress:
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        if saved["about"] != task.about:
            raise ValueError(f"it was {saved['about']}")
        task.modules.load_state_dict(saved["modules"])
        optimizer.load_state_dict(saved["optimizer"])
        return Progress(**json.loads(saved["progress"]))
    except (RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path}: belongs to another run or is damaged ({reason}); choose another folder"
        ) from error


def plot(progress: Progress, path: Path) -> None:
    """Losses and held-out errors over the steps, as a picture; nothing where matplotlib is not."""
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
