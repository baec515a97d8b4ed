"""What clips are computed with: network, body and detector, loaded once for any number of them."""

from dataclasses import dataclass
from pathlib import Path

from staf_cli import video
from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints import registry
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.checkpoints.registry import OPEN_BODY, OPEN_WEIGHTS
from staf_cli.core import files
from staf_cli.core.devices import choose_device, choose_dtype
from staf_cli.core.errors import BodyError
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.fitting.bones import bone_network
from staf_cli.landmarks.reader import load_reader
from staf_cli.model.network import WindowNetwork
from staf_cli.model.staf import load_network, mean_pose_network
from staf_cli.pipeline.options import Options
from staf_cli.recovery import engine
from staf_cli.recovery.compiled_encoder import prepare_fastest
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.recover import Recovery


@dataclass(frozen=True)
class Tools(Recovery):
    """What is loaded once and serves any number of clips: network, body, and the detector."""

    detector: Path
    detector_sha256: str


def prepare(options: Options) -> tuple[Tools, list[str]]:
    """Load network, body and detector.

    Args:
        options: of the clips.

    Returns:
        What was loaded, and lines that the user should see.

    Raises:
        WeightsError: weights or detector are missing or do not fit.
        BodyError: the body is missing or does not fit.
        MissingTool: the device, or the ffmpeg encoder, is not there.
        UsageError: options that do not go together.
    """
    if options.look.codec is not None:
        video.check_codec(options.look.codec)
    detector = registry.locate_detector(options.detector, options.trust)
    recovery, notes = prepare_recovery(options.recovery)
    return Tools(**vars(recovery), detector=detector, detector_sha256=files.sha256(detector)), notes


def prepare_recovery(options: RecoveryOptions) -> tuple[Recovery, list[str]]:
    """Load network and body alone, for people whose boxes are known.

    Args:
        options: of the recovery.

    Returns:
        What was loaded, and lines that the user should see.

    Raises:
        WeightsError: the weights are missing or do not fit.
        BodyError: the body is missing or does not fit.
        MissingTool: the device is not there.
        UsageError: options that do not go together.
    """
    device = choose_device(options.device)
    dtype = choose_dtype(device, options.precision)
    settings = engine.Settings(device, dtype, options.batch)
    notes = []
    network: WindowNetwork
    chosen = options.weights or default_weights(options.body)
    if chosen is None:
        body = open_body(options.body or OPEN_BODY)
        network, identity, crop_scale = mean_pose_network(body), "untrained", CROP_SCALE
        notes.append(f"no trained weights for body {body.name}: the network answers the mean pose")
        if not options.refine:
            notes[0] += "; add --refine to fit the bodies to the people"
    else:
        checkpoint = load_checkpoint(registry.locate(chosen))
        body = open_body(options.body or checkpoint.body.rsplit(maxsplit=1)[0])
        network = load_network(checkpoint, body)
        identity, crop_scale = checkpoint.identity, checkpoint.crop_scale
    prepare_fastest(network, settings)
    landmark_reader = None
    if options.landmarks is not False and options.refine is not False:
        landmark_reader = load_reader(device)
        bone_network()  # which is missed now, if it is, not once people are to be fitted
    return Recovery(body, network, identity, crop_scale, settings, landmark_reader), notes


def default_weights(body: str | None) -> str | None:
    """Name the checkpoint that is used where no other is asked for.

    Args:
        body: the body's name or file; None: the checkpoint's own.

    Returns:
        The checkpoint's name; None for bodies that came without one.
    """
    return OPEN_WEIGHTS if body in (None, OPEN_BODY) else None


def open_body(name_or_path: str) -> Body:
    """Load a body.

    Args:
        name_or_path: open-body, a name that `staf body import` printed, or an npz file.

    Returns:
        The body.

    Raises:
        BodyError: it is not on this machine, or its file cannot be used.
    """
    if name_or_path == OPEN_BODY:
        return Body(OPEN_BODY, load_body(registry.locate(OPEN_BODY)))
    imported = files.data_folder() / "bodies" / f"{name_or_path}.npz"
    path = imported if imported.is_file() else Path(name_or_path)
    if not path.is_file():
        raise BodyError(
            f"body {name_or_path} is not on this machine; "
            "bring the SMPL file in with `staf body import FILE`, or use open-body"
        )
    gender = next((g for g in ("female", "male") if g in path.stem.split("-")), "neutral")
    return Body(path.stem, load_body(path), gender)
