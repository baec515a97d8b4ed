"""What clips are computed with: network, body and detector, loaded once for any number of them."""

from dataclasses import dataclass
from pathlib import Path

from staf_cli import video
from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints import registry
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.core import files
from staf_cli.core.devices import choose_device
from staf_cli.core.errors import BodyError, UsageError
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.model.staf import STAF, load_network, mean_pose_network
from staf_cli.pipeline.options import Options
from staf_cli.recovery import engine

OPEN_BODY = "open-body"
OPEN_WEIGHTS = "staf-open"  # what is used where nothing else is asked for


@dataclass(frozen=True)
class Recovery:
    """What makes bodies of people whose boxes are known; loaded once."""

    body: Body
    network: STAF
    weights: str  # identity of the checkpoint, for the records
    crop_scale: float
    settings: engine.Settings


@dataclass(frozen=True)
class Tools(Recovery):
    """What is loaded once and serves any number of clips: the same, and who finds the people."""

    detector: Path
    detector_sha256: str


def prepare(options: Options) -> tuple[Tools, list[str]]:
    """Load network, body and detector; with lines the user should see.

    Raises before any work is done where something is missing or does not fit.
    """
    if options.look.codec is not None:
        video.check_codec(options.look.codec)
    detector = registry.locate_detector(options.detector, options.trust)
    recovery, notes = prepare_recovery(options)
    return Tools(**vars(recovery), detector=detector, detector_sha256=files.sha256(detector)), notes


def prepare_recovery(options: Options) -> tuple[Recovery, list[str]]:
    """Load network and body alone, for people whose boxes are known; raises as `prepare` does."""
    device = choose_device(options.device)
    half = device.type == "cuda" if options.half is None else options.half
    if half and device.type == "cpu":
        raise UsageError("--precision half is for graphics cards; leave it out on a CPU")
    settings = engine.Settings(device, half, options.batch)
    notes = []
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
    network = engine.prepare(network, settings)
    return Recovery(body, network, identity, crop_scale, settings), notes


def default_weights(body: str | None) -> str | None:
    """The checkpoint for a body where none is named; None for bodies that nothing came with."""
    return OPEN_WEIGHTS if body in (None, OPEN_BODY) else None


def open_body(name_or_path: str) -> Body:
    """A body by name (open-body, or one that `staf body import` made) or from its npz file."""
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
