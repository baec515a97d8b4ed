"""The chain of recovery against its steps done one after the other, in memory and on disk."""

from dataclasses import fields, replace

import numpy as np
import pytest

from staf_cli.core.errors import UsageError
from staf_cli.core.progress import silent
from staf_cli.core.records import select_rows
from staf_cli.fitting import refine
from staf_cli.fitting.smoothing import common_shape, effect, mean_effect, smooth, with_shape
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.recover import fit_people, should_refine
from staf_cli.recovery.spool import DiskSpool, MemorySpool
from staf_cli.result import person_npz
from tests.support.simple_walk import detected, perturbed, small_body, walk

STRETCH = 20  # frames; the walks below have two and a half, and one

WAYS = [
    RecoveryOptions(refine=True),
    RecoveryOptions(refine=False, smooth=0.1),
    RecoveryOptions(refine=True, smooth=0.1),
    RecoveryOptions(refine=False, constant_shape=True),
    RecoveryOptions(refine=True, smooth=0.1, constant_shape=True),
]


@pytest.fixture(scope="module")
def people():
    """Two people whose shape trembles, as a network says it, and their tracks."""
    made = []
    for number, frames in enumerate((50, 18)):
        truth = walk(np.full(frames, 0.4 + number))
        person = perturbed(truth, number)
        betas = person.betas + np.random.default_rng(number).normal(0, 0.3, person.betas.shape)
        made.append((replace(person, betas=betas, id=number + 1), detected(truth, number)))
    return made


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch):
    monkeypatch.setattr(refine, "STEPS", 8)
    monkeypatch.setattr(refine, "STRETCH_FRAMES", STRETCH)
    monkeypatch.setattr("staf_cli.recovery.spool.STRETCH_FRAMES", STRETCH)
    monkeypatch.setattr("staf_cli.fitting.smoothing.STRETCH_FRAMES", STRETCH)


def step_by_step(person, track, options):
    """Refine, then one shape, then smooth: each over the whole person."""
    if options.refine:
        person = refine.refine(person, track, small_body())
    before = person
    if options.constant_shape:
        shape = common_shape(person.betas, person.score, person.interpolated)
        person = with_shape(person, small_body(), shape)
    return before, smooth(person, small_body(), options.smooth)


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(a, b), field.name


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_the_chain_is_its_steps_one_after_the_other(people, options, where, tmp_path):
    persons, tracks = zip(*people, strict=True)
    spool = MemorySpool.of(persons) if where == "memory" else DiskSpool(2, tmp_path)
    if isinstance(spool, DiskSpool):
        for number, person in enumerate(persons):
            for first in range(0, len(person.frame), STRETCH):
                spool.add(number, select_rows(person, slice(first, first + STRETCH)))
    assert spool.count() == 4
    recovered = fit_people(tracks, None, small_body(), options, spool, silent)
    effects = []
    for number, (person, track) in enumerate(people):
        before, want = step_by_step(person, track, options)
        if isinstance(spool, DiskSpool):
            spool.write(number, tmp_path / "person.npz")
            same(person_npz.load(tmp_path / "person.npz"), want)
        else:
            same(spool.people()[number], want)
        for first in range(0, len(person.frame), STRETCH):
            rows = slice(first, first + STRETCH)
            effects.append(effect(select_rows(before, rows), select_rows(want, rows)))
    stages = ["refine"] * bool(options.refine)
    stages += ["smooth"] * bool(options.smooth or options.constant_shape)
    assert list(recovered.seconds) == stages
    assert all(seconds >= 0 for seconds in recovered.seconds.values())
    smoothing = mean_effect(effects) if "smooth" in stages else None
    assert recovered.smoothing == smoothing


def test_nothing_asked_for_changes_nothing(people):
    persons, tracks = zip(*people, strict=True)
    spool = MemorySpool.of(persons)
    recovered = fit_people(tracks, None, small_body(), RecoveryOptions(refine=False), spool, silent)
    assert (recovered.smoothing, recovered.seconds) == (None, {})
    for person, kept in zip(persons, spool.people(), strict=True):
        same(kept, person)


def test_each_stretch_is_written_once_after_the_network(people, tmp_path, monkeypatch):
    """From refining to smoothing no stretch takes the way over the disk."""
    persons, tracks = zip(*people, strict=True)
    spool = DiskSpool(2, tmp_path)
    for number, person in enumerate(persons):
        spool.add(number, person)
    written, save = [], person_npz.save

    def counted(*arguments):
        written.append(arguments)
        save(*arguments)

    monkeypatch.setattr(person_npz, "save", counted)
    options = RecoveryOptions(refine=True, smooth=0.1)
    fit_people(tracks, None, small_body(), options, spool, silent)
    assert len(written) == spool.count()


@pytest.mark.parametrize(
    ("refine", "keypoints", "weights", "want"),
    [
        (None, True, "staf-open 0123", True),
        (None, False, "staf-open 0123", False),
        (None, True, "staf-3dpw 0123", False),
        (True, True, "staf-3dpw 0123", True),
        (False, True, "staf-open 0123", False),
        (False, False, "untrained", False),
    ],
)
def test_whether_to_refine_is_decided_once(people, refine, keypoints, weights, want):
    tracks = [track for _, track in people]
    if not keypoints:
        tracks = [replace(track, kp2d=np.zeros_like(track.kp2d)) for track in tracks]
    assert should_refine(RecoveryOptions(refine=refine), tracks, weights) is want


def test_refining_without_keypoints_is_refused(people):
    tracks = [replace(track, kp2d=np.zeros_like(track.kp2d)) for _, track in people]
    with pytest.raises(UsageError, match="needs keypoints"):
        should_refine(RecoveryOptions(refine=True), tracks, "staf-open 0123")
