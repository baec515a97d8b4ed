"""The training loop: stopped and resumed it is the run that was not."""

import json

import pytest
import torch
from torch import nn

from staf_cli.core.errors import WeightsError
from staf_cli.training import loop
from staf_cli.training.loop import PlateauSchedule, Schedule

CPU = torch.device("cpu")
FOREVER = 1e9


class Line:
    """Learns a line from random points; dropout makes every step depend on the random state."""

    def __init__(self, about="a line", broken_at=None, last=None):
        torch.manual_seed(0)
        self.modules = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.about = about
        self.broken_at, self.last = broken_at, last

    @property
    def groups(self):
        return [(list(self.modules.parameters()), 1.0)]

    def losses(self, step):
        if step == self.last:
            raise KeyboardInterrupt
        torch.manual_seed(step)
        self.modules.train()
        x = torch.rand(16, 1)
        square = (self.modules(x) - 3 * x + 1).square().mean()
        return {"square": square * (float("nan") if step == self.broken_at else 1)}

    def validate(self):
        self.modules.eval()
        with torch.no_grad():
            return {"off": (self.modules(torch.ones(1, 1)) - 2).abs().item()}


def train(folder, task, steps=60, time_limit=FOREVER):
    lines: list[str] = []
    schedule = Schedule(steps, rate=0.02, validate_every=20)
    progress = loop.train(task, schedule, folder, time_limit, CPU, lines.append)
    return progress, lines


def weights(task):
    return torch.cat([p.detach().flatten() for p in task.modules.parameters()])


def test_interrupted_and_resumed_is_the_same_as_in_one_go(tmp_path):
    whole = Line()
    straight, _ = train(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", Line(last=33))
    parts = Line()
    progress, _ = train(tmp_path / "parts", parts)
    assert progress.step == straight.step == 60
    assert torch.equal(weights(whole), weights(parts))
    assert [e["off"] for e in progress.errors] == [e["off"] for e in straight.errors]


def test_time_limit_stops_saves_and_reports_how_to_go_on(tmp_path):
    progress, lines = train(tmp_path, Line(), time_limit=0)
    assert progress.step == 1
    begun, stopped = lines
    assert begun.startswith("step 0/60  0 min  held out: off")
    assert stopped == "stopped at step 1 of 60; the same command goes on"
    resumed = Line()
    train(tmp_path, resumed)
    whole = Line()
    train(tmp_path / "whole", whole)
    assert torch.equal(weights(whole), weights(resumed))


def test_it_learns_and_shows_it(tmp_path):
    progress, lines = train(tmp_path, Line(), steps=400)
    assert progress.errors[-1]["off"] < 0.3 < progress.errors[0]["off"]
    assert [errors["step"] for errors in progress.errors] == list(range(0, 401, 20))
    assert lines[-1].startswith("step 400/400") and "held out: off" in lines[-1]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_no_steps_at_all_show_what_there_is(tmp_path):
    task = Line()
    before = weights(task)
    progress, lines = train(tmp_path, task, steps=0)
    assert torch.equal(weights(task), before)
    assert progress.losses == [] and progress.errors == [{"step": 0, **task.validate()}]
    assert len(lines) == 1 and lines[0].startswith("step 0/0  0 min  held out: off")


def test_a_finished_run_is_left_as_it_is(tmp_path):
    train(tmp_path, Line())
    before = (tmp_path / "state.pt").read_bytes()
    task = Line()
    progress, lines = train(tmp_path, task)
    assert progress.step == 60 and lines == []
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_weights(tmp_path):
    task = Line(broken_at=30)
    with pytest.raises(WeightsError, match="step 30 is not a number"):
        train(tmp_path, task)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    assert json.loads(saved["progress"])["step"] == 30
    assert weights(task).isfinite().all()


def test_the_state_of_another_run_is_refused(tmp_path):
    train(tmp_path, Line(), steps=3)
    with pytest.raises(WeightsError, match=r"another run.*it was a line"):
        train(tmp_path, Line("a parabola"))
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="another run or is damaged"):
        train(tmp_path, Line())


def test_the_rate_warms_up_holds_and_falls_to_zero():
    schedule = Schedule(1000, rate=1.0)
    rates = [schedule.rate_at(step, []) for step in range(1000)]
    assert rates[0] == 1 / loop.WARM_UP
    assert rates[loop.WARM_UP : 600] == [1.0] * 500
    assert rates[800] == pytest.approx(0.5)
    assert rates[999] == pytest.approx(1 / 400)


def test_the_rate_falls_on_every_plateau():
    schedule = PlateauSchedule(100, 1.0, 1, "off", patience=2, factor=0.1)
    off = [5, 4, 4, 3, 3.5, 3, 3, 3, 2, 2]  # lower at 0, 1, 3, 8
    rates = [schedule.rate_at(0, [{"off": x} for x in off[:n]]) for n in range(len(off) + 1)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])
