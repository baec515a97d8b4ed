"""How good networks are: a dataset and checkpoints in, a table of the field's metrics out.

As usual in the field, people are cropped by the truth's boxes, so that people whom a detector
misses do not count. core/metrics.py defines what is measured, truth.py what a dataset is.

There are five methods:

    network           the network's answer
    mean              the checkpoint's mean parameters, whatever the picture shows
    refine            the fit to detected 2D keypoints alone, started from the mean
    network+refine    the same fit, started from the network's answer
    network+landmarks the fit to landmarks as well: what `staf run` does with the open weights

3D metrics count where 3D truth is, 2D ones where 2D truth is, both on the 14 LSP joints, and of
MPI-INF-3DHP on its 17 where joints.py can tell where a network's are. A
figure over several clips is the mean over all their frames (2D: all their labelled joints).
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from staf_cli.body.format import Floats
from staf_cli.body.posing import rotation_matrices
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import Checkpoint
from staf_cli.core import metrics
from staf_cli.core.crop import square_box
from staf_cli.core.devices import choose_device, choose_dtype
from staf_cli.core.errors import BodyError, UsageError, WeightsError
from staf_cli.core.files import printable, sha256
from staf_cli.core.geometry import CROP_SCALE, project
from staf_cli.core.progress import Watch
from staf_cli.core.records import Float, Frame, Ints, LandmarkTrack, Person, Track, rows_by_frame
from staf_cli.core.version import __version__
from staf_cli.evaluation import measured
from staf_cli.evaluation.joints import EXTRA, mixed, weights_of, with_extra
from staf_cli.evaluation.measured import MEASURES, Errors
from staf_cli.evaluation.options import METHODS, EvaluationOptions
from staf_cli.evaluation.table import OVERALL, Curve, Row, Table
from staf_cli.evaluation.truth import LSP, Footage, Pose, Truth
from staf_cli.landmarks.following import follow
from staf_cli.landmarks.reader import CropReader, load_reader
from staf_cli.model.hmr import HMR
from staf_cli.model.staf import STAF, load_network, mean_pose_network
from staf_cli.recovery import engine
from staf_cli.recovery.cadence import choose_cadence
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.placement import Estimate, place
from staf_cli.recovery.recover import Recovery, fit_people, place_people
from staf_cli.recovery.spool import MemorySpool
from staf_cli.result.journal import key_of
from staf_cli.tracking.detection import closest_keypoints, find_people
from staf_cli.tracking.loading import load_detector
from staf_cli.video import Damage

_Theta = tuple[Tensor, Tensor]  # rotmats (F, 24, 3, 3), betas (F, 10)

CONF = 0.25  # score from which the detector believes in a person
CHUNK = 64  # frames whose vertices are in memory at a time


@dataclass(frozen=True)
class _Setup:
    """What all clips are measured with."""

    options: EvaluationOptions
    settings: engine.Settings
    detector: Path | None
    landmark_reader: CropReader | None
    regressor: Floats | None
    watch: Watch


@dataclass(frozen=True)
class Contender:
    """A network that is evaluated."""

    name: str  # as the user calls it
    identity: str  # name and hash of its checkpoint
    network: STAF | HMR
    body: Body
    crop_scale: float
    regressor: Floats | None = None  # (17, 24 + V): MPI-INF-3DHP's joints, if it brings them


def contender(name: str, checkpoint: Checkpoint, body: Body) -> Contender:
    """Build a checkpoint's network.

    Args:
        name: as the user calls it.
        checkpoint: the weights.
        body: that they were trained for.

    Returns:
        The network, ready to be evaluated.

    Raises:
        WeightsError: the checkpoint does not fit the body.
    """
    network = load_network(checkpoint, body)
    extra = checkpoint.tensors.get("joints.extra_regressor")
    if extra is not None and extra.shape != (EXTRA, len(body.arrays.v_template)):
        raise WeightsError(
            f"checkpoint {checkpoint.name} has joints.extra_regressor of another body; import it "
            "again"
        )
    regressor = None if extra is None else with_extra(extra.float().numpy())
    return Contender(name, checkpoint.identity, network, body, checkpoint.crop_scale, regressor)


def untrained(body: Body) -> Contender:
    """Build the network that answers with the mean pose.

    Args:
        body: any.

    Returns:
        The network, ready to be evaluated.
    """
    return Contender("untrained", "untrained", mean_pose_network(body), body, CROP_SCALE)


def evaluate(
    dataset: Sequence[Footage],
    contenders: Sequence[Contender],
    options: EvaluationOptions,
    detector: Path | None,
    watch: Watch,
    regressor: Floats | None = None,
    kept: Path | None = None,
) -> Table:
    """Measure every method of the options with every network on the whole dataset.

    Args:
        dataset: videos and photos with their truth.
        contenders: the networks.
        options: methods, device, batch size.
        detector: the file of a pose detector, where `needs_detector`.
        watch: the progress callback.
        regressor: (17, 24 + V) of joints.py: the joints of all bodies; None: their own, of
            MPI-INF-3DHP those that a checkpoint brings.
        kept: a folder of errors: what was measured before is read, what is new is written there.

    Returns:
        The metrics of each network, method and clip.

    Raises:
        BodyError: the truth is of another body than a network's, or the body has no LSP joints.
        UsageError: a detector is needed and not given, or a regressor is of another body.
        OutOfMemory: not even one crop or window fits into the device's memory.
        OutputError: errors cannot be written.
    """
    for one in contenders:
        _check_body(dataset, one.body, regressor)
    if detector is None and needs_detector(dataset, options):
        raise UsageError("refining needs a detector where the truth holds no detected keypoints")
    device = choose_device(options.device)
    settings = engine.Settings(device, choose_dtype(device, "auto"), options.batch)
    for one in contenders:
        engine.prepare(one.network, settings)
    landmark_reader = load_reader(device) if options.reads_landmarks else None
    setup = _Setup(options, settings, detector, landmark_reader, regressor, watch)
    found: dict[tuple[int, str], list[list[Errors]]] = {}  # contender, method: clips, people
    pairs = [(number, name) for number in range(len(contenders)) for name in options.methods]
    read = 0
    for footage in dataset:
        files: dict[tuple[int, str], Path] = {}
        if kept is not None:
            keys = _keys(footage, contenders, setup)
            files = {pair: kept / f"{key}.npz" for pair, key in keys.items()}
        errors = _read(files, footage)
        read += len(errors)
        missing = [pair for pair in pairs if pair not in errors]
        for pair, people in _people(footage, contenders, missing, setup):
            one = contenders[pair[0]]
            both = zip(people, footage.people, strict=True)
            errors[pair] = [_errors(person, truth, one, regressor) for person, truth in both]
            if pair in files:
                measured.save(files[pair], errors[pair])
        for pair in pairs:
            found.setdefault(pair, []).append(errors[pair])
    return replace(_table(dataset, contenders, found), kept=read)


def _table(
    dataset: Sequence[Footage],
    contenders: Sequence[Contender],
    found: dict[tuple[int, str], list[list[Errors]]],
) -> Table:
    """The rows and curves of all errors, by contender and method: of clips, of people."""
    rows, curves = [], []
    for (number, method), clips in found.items():
        one = contenders[number]
        for footage, errors in zip(dataset, clips, strict=True):
            rows.append(_row(one, method, footage.name, footage.people, errors))
            curves += [
                Curve(one.name, method, footage.name, truth.frame, own["accel"])
                for truth, own in zip(footage.people, errors, strict=True)
                if "accel" in own
            ]
        everybody = [truth for footage in dataset for truth in footage.people]
        of_all = [own for errors in clips for own in errors]
        rows.append(_row(one, method, OVERALL, everybody, of_all))
    return Table(tuple(rows), tuple(curves))


def _keys(
    footage: Footage, contenders: Sequence[Contender], setup: _Setup
) -> dict[tuple[int, str], str]:
    """The hashes of all that a clip's errors depend on, by contender and method."""
    clip = measured.key_of_clip(footage)
    rows = setup.regressor
    joints = None if rows is None else hashlib.sha256(rows.tobytes()).hexdigest()
    seen_by = None if setup.detector is None else sha256(setup.detector)
    computed = [setup.settings.device.type, str(setup.settings.dtype)]
    keys = {}
    for number, one in enumerate(contenders):
        network = [one.identity, one.body.identity, one.crop_scale]
        for method in setup.options.methods:
            fitted = seen_by if METHODS[method][1] else None
            keys[number, method] = key_of(
                __version__, clip, network, method, computed, fitted, joints
            )
    return keys


def _read(
    files: dict[tuple[int, str], Path], footage: Footage
) -> dict[tuple[int, str], list[Errors]]:
    """The errors of a clip that were measured before."""
    found = {pair: measured.load(path, footage.people) for pair, path in files.items()}
    return {pair: errors for pair, errors in found.items() if errors is not None}


def _people(
    footage: Footage,
    contenders: Sequence[Contender],
    wanted: Collection[tuple[int, str]],
    setup: _Setup,
) -> Iterator[tuple[tuple[int, str], list[Person]]]:
    """The clip's people as the wanted contenders and methods recover them."""
    if not wanted:
        return
    tracks = [_track(number, truth, footage) for number, truth in enumerate(footage.people, 1)]
    fitted = any(METHODS[method][1] for _, method in wanted)
    if setup.detector is not None and fitted and needs_detector([footage], setup.options):
        tracks = _detected(footage, tracks, setup.detector, setup.settings, setup.watch)
    for number, one in enumerate(contenders):
        methods = [name for name in setup.options.methods if (number, name) in wanted]
        for method, people in _recovered(footage, tracks, one, methods, setup):
            yield (number, method), people


def needs_detector(dataset: Sequence[Footage], options: EvaluationOptions) -> bool:
    """Tell whether people are refined whose keypoints are not in the truth.

    Args:
        dataset: videos and photos with their truth.
        options: with the methods.

    Returns:
        Whether `evaluate` needs a detector.
    """
    undetected = (
        truth for footage in dataset for truth in footage.people if truth.detected is None
    )
    return options.refines and any(undetected)


def _check_body(dataset: Sequence[Footage], body: Body, regressor: Floats | None) -> None:
    weights_of(body, regressor)
    for footage in dataset:
        for truth in footage.people:
            pose = truth.pose
            if pose is not None and pose.posed is not None:
                weights_of(pose.posed, regressor)
            elif pose is not None and pose.body != body.identity:
                raise BodyError(
                    f"{printable(footage.clip.path)}: its truth is of body {pose.body}, "
                    f"not of {body.identity}; give that body with --body"
                )


def _track(number: int, truth: Truth, footage: Footage) -> Track:
    frames = len(truth.frame)
    return Track(
        id=number,
        frame=truth.frame,
        time=truth.frame / footage.clip.fps,
        box=truth.box,
        score=np.ones(frames),
        interpolated=np.zeros(frames, bool),
        kp2d=np.zeros((frames, 17, 3)) if truth.detected is None else truth.detected,
    )


def _detected(
    footage: Footage, tracks: list[Track], path: Path, settings: engine.Settings, watch: Watch
) -> list[Track]:
    """The tracks with the keypoints of the detected people who overlap their boxes the most."""
    by_frame = rows_by_frame(tracks)
    detector = load_detector(path, settings.device, settings.dtype)
    kp2d = [track.kp2d.copy() for track in tracks]
    wanted = (frame for frame in _frames(footage, "detect", watch) if frame.index in by_frame)
    for frame, seen in find_people(wanted, detector, CONF):
        for number, row in by_frame[frame.index]:
            own = closest_keypoints(tracks[number].box[row], seen)
            if own is not None:
                kp2d[number][row] = own
    return [replace(track, kp2d=own) for track, own in zip(tracks, kp2d, strict=True)]


def _recovered(
    footage: Footage,
    tracks: list[Track],
    one: Contender,
    methods: Sequence[str],
    setup: _Setup,
) -> Iterator[tuple[str, list[Person]]]:
    """Each of the methods with the footage's people as it recovers them."""
    watch, landmarks = setup.watch, setup.landmark_reader
    tools = Recovery(one.body, one.network, one.identity, one.crop_scale, setup.settings, landmarks)
    starts: dict[str, list[Person]] = {}
    seen: list[LandmarkTrack] | None = None
    for method in methods:
        start, fitted_to = METHODS[method]
        if start not in starts:
            if start == "network":
                frames = _frames(footage, f"recover {one.name}", watch)
                starts[start] = _network(frames, footage, tracks, tools)
            else:
                starts[start] = [_mean(track, footage, tools) for track in tracks]
        spool = MemorySpool.of(starts[start])
        if "landmarks" in fitted_to and seen is None:
            seen = _landmarks(footage, tracks, landmarks, watch)
        cue = seen if "landmarks" in fitted_to else None
        fit_people(tracks, cue, one.body, RecoveryOptions(refine=bool(fitted_to)), spool, watch)
        yield method, spool.people()


def _landmarks(
    footage: Footage, tracks: list[Track], reader: CropReader | None, watch: Watch
) -> list[LandmarkTrack]:
    """The landmarks of the footage's people."""
    assert reader is not None
    found: list[LandmarkTrack] = []
    frames = _frames(footage, "landmarks", watch)
    for _ in follow(frames, tracks, reader, footage.clip.fps, found):
        pass
    return found


def _network(
    frames: Iterable[Frame], footage: Footage, tracks: list[Track], tools: Recovery
) -> list[Person]:
    """The people of the footage as the network sees them."""
    spool = MemorySpool(len(tracks))
    cadence = choose_cadence(footage.clip.fps, every=1)
    place_people(frames, tracks, footage.clip, Damage(), tools, footage.focal, cadence, spool)
    return spool.people()


def _mean(track: Track, footage: Footage, tools: Recovery) -> Person:
    """A person of the network's mean parameters in every frame."""
    theta = tools.network.mean(len(track.frame))
    estimate = Estimate(
        theta.rotmats.numpy(force=True),
        theta.betas.numpy(force=True),
        theta.pred_cam.numpy(force=True),
        square_box(track.box, tools.crop_scale),
    )
    return place(track, estimate, footage.clip, tools.body, tools.weights, footage.focal)


def _frames(footage: Footage, what: str, watch: Watch) -> Iterator[Frame]:
    return watch(f"{footage.name}: {what}", footage.frames(), footage.clip.frames)


def _errors(person: Person, truth: Truth, one: Contender, regressor: Floats | None) -> Errors:
    """Measure one person, whose frames are the truth's; NaN where they do not count."""
    own = rotation_matrices(person.poses).float(), torch.from_numpy(person.betas).float()
    errors: Errors = {}
    if truth.pose is not None:
        errors |= _errors_3d(one.body, own, truth.pose, truth.frame, regressor)
    if truth.joints is not None:
        errors |= _errors_of_regressed(one, own, truth.joints, truth.frame, regressor)
    if truth.kp2d is not None:
        errors |= _errors_2d(one.body, own, person, truth.kp2d, truth.box, regressor)
    if truth.judged is not None:
        for values in errors.values():
            values[~truth.judged] = np.nan
    return errors


def _errors_3d(
    body: Body, own: _Theta, pose: Pose, frame: Ints, regressor: Floats | None
) -> Errors:
    """Measure parameters of a body; PVE only where the truth's body has the same vertices."""
    true_body = body if pose.posed is None else pose.posed
    true = rotation_matrices(pose.poses).float(), torch.from_numpy(pose.betas).float()
    comparable = np.array_equal(body.faces, true_body.faces)
    lsp, true_lsp = np.zeros((2, len(frame), LSP, 3))
    pve = np.zeros(len(frame))
    rows = slice(0)
    for (mesh, joints), (true_mesh, true_joints) in zip(
        _posed(body, weights_of(body, regressor)[:LSP], *own),
        _posed(true_body, weights_of(true_body, regressor)[:LSP], *true),
        strict=True,
    ):
        rows = slice(rows.stop, rows.stop + len(mesh))
        lsp[rows], true_lsp[rows] = joints, true_joints
        if comparable:
            pve[rows] = metrics.pve(mesh, true_mesh, joints, true_joints)
    errors = _errors_of_joints(lsp, true_lsp, frame)
    return errors | ({"pve": pve} if comparable else {})


def _errors_of_regressed(
    one: Contender, own: _Theta, true_joints: Float, frame: Ints, regressor: Floats | None
) -> Errors:
    """Measure against joints of no body: as many of them as the network's body has."""
    if regressor is None and true_joints.shape[1] > LSP:
        regressor = one.regressor
    weights = weights_of(one.body, regressor)[: true_joints.shape[1]]
    joints = np.concatenate([joints for _, joints in _posed(one.body, weights, *own)])
    return _errors_of_joints(joints, true_joints[:, : len(weights)], frame)


def _errors_2d(
    body: Body, own: _Theta, person: Person, kp2d: Float, box: Float, regressor: Floats | None
) -> Errors:
    weights = weights_of(body, regressor)[:LSP]
    lsp = np.concatenate([joints for _, joints in _posed(body, weights, *own)])
    placed = torch.from_numpy(lsp + person.trans[:, None])
    centre = (person.image_size[0] / 2, person.image_size[1] / 2)
    points = project(placed, person.focal_length, centre).numpy()
    return {
        "pck": metrics.correct_keypoints(points, kp2d[:, :LSP]),
        "error_2d": metrics.error_2d(points, kp2d[:, :LSP], box),
    }


def _errors_of_joints(joints: Float, true_joints: Float, frame: Ints) -> Errors:
    return {
        "mpjpe": metrics.mpjpe(joints, true_joints),
        "pa_mpjpe": metrics.pa_mpjpe(joints, true_joints),
        "accel": metrics.acceleration_error(joints, true_joints, frame),
    }


def _posed(
    body: Body, weights: Floats, rotmats: Tensor, betas: Tensor
) -> Iterator[tuple[Float, Float]]:
    """Vertices (n, V, 3) and joints (n, J, 3) in the body's own frame, some at a time."""
    for start in range(0, len(rotmats), CHUNK):
        rows = slice(start, start + CHUNK)
        with torch.no_grad():
            vertices, skeleton = body(rotmats[rows], betas[rows])
        mesh = vertices.numpy().astype(np.float64)
        yield mesh, mixed(weights, skeleton.numpy().astype(np.float64), mesh)


def _row(
    one: Contender, method: str, clip: str, truths: Sequence[Truth], errors: Sequence[Errors]
) -> Row:
    """The means over all frames of the people, or over all their labelled joints."""
    frames = sum(truth.counted for truth in truths)
    means: dict[str, float | None] = {}
    for name in MEASURES:
        parts = [own[name].ravel() for own in errors if name in own]
        values = np.concatenate([np.zeros(0), *parts])
        measured = values[~np.isnan(values)]
        means[name] = float(measured.mean()) if measured.size else None
    return Row(one.name, one.identity, method, clip, frames, **means)
