"""A folder of prepared training data, as small as it can be: two clips, six garments, noise."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from staf_cli.body.skinning import Body
from staf_cli.model.backbone import build_encoder
from staf_cli.training.people.motion import join_clips, write_motions
from staf_cli.training.people.pose_prior import PosePrior
from staf_cli.training.people.wardrobe import Piece, Wardrobe, write_wardrobe
from staf_cli.training.samples import PIXELS, Labels, write_samples
from staf_cli.training.studio import scenes

HELD_OUT_PHOTOS = 2


def make_wardrobe(body: Body) -> Wardrobe:
    """One of each kind for learning and one held out: parts of the body, blown up a little."""
    arrays = body.arrays
    template, faces = arrays.v_template, arrays.faces
    height = template[:, 1]
    covered = {"suit": height < 0.4, "shoes": height < -0.85, "hair": height > 0.7}
    pieces = []
    for held_out in (False, True):
        for kind, mine in covered.items():
            own = mine[faces].all(1)
            used = np.unique(faces[own])
            pieces.append(
                Piece(
                    name=f"{kind}{held_out:d}",
                    kind=kind,
                    female=-1,
                    held_out=held_out,
                    v_template=template[used] * np.array([1.02, 1, 1.05], np.float32),
                    shapedirs=arrays.shapedirs[used],
                    weights=arrays.weights[used],
                    faces=np.searchsorted(used, faces[own]),
                    colours=np.full((len(used), 3), 120, np.uint8),
                    hides=mine & (kind != "hair"),
                )
            )
    skins = np.full((2, len(template), 3), 180, np.uint8)
    whose = np.array([False, True])
    return Wardrobe(skins, ("one", "other"), np.array([True, True]), whose, tuple(pieces))


def write_scenery(data: Path, body: Body) -> None:
    """What scenes are made of: a person who sways and walks, clothes, grey backgrounds."""
    rng = np.random.default_rng(0)
    clips = []
    for name in ("01_01", "13_01"):
        sway = np.cumsum(rng.normal(0, 0.02, (60, 24, 3)), 0)
        sway[:, [16, 17], 2] += [-1.0, 1.0]
        root = np.stack([np.linspace(0, 1, 60), np.full(60, 0.9), np.zeros(60)], -1)
        clips.append((name, torch.from_numpy(sway).float(), torch.from_numpy(root).float()))
    write_motions(join_clips(clips, 30.0), data / "motions.npz")
    write_wardrobe(make_wardrobe(body), data / "wardrobe.npz")
    photos = np.zeros((scenes.HELD_OUT_BACKGROUNDS + 2, 32, 32, 3), np.uint8)
    photos[:] = (np.arange(len(photos)) * 2)[:, None, None, None]
    np.save(data / "backgrounds.npy", photos)


def simple_prior() -> PosePrior:
    """Every joint is within half a radian of the T-pose, most often."""
    return PosePrior(
        mean=torch.zeros(1, 69),
        whiten=torch.eye(69)[None] / 0.5,
        log_weight=torch.zeros(1),
        low=torch.full((69,), -2.5),
        high=torch.full((69,), 2.5),
    )


def write_photos(folder: Path, count: int, seed: int = 0) -> None:
    """Smooth patterns that pass for photos, with 2D keypoints and a pose for half of them."""
    rng = np.random.default_rng(seed)
    line = np.arange(PIXELS) / PIXELS
    wave = rng.uniform(2, 9, (count, 1, 1, 1, 3)) * (line[:, None] + line * line)[..., None]
    phase = rng.uniform(0, 6, (count, 1, 1, 1, 3))
    images = np.round(127 + 100 * np.sin(wave + phase)).astype(np.uint8)
    kp2d = rng.uniform(60, 230, (count, 1, 31, 3)).astype(np.float32)
    kp2d[..., 2] = rng.uniform(size=kp2d.shape[:3]) < 0.8
    labels = Labels(
        kp2d=kp2d,
        box=np.tile(np.array([80, 41, 208, 247], np.float32), (count, 1, 1)),
        poses=rng.normal(0, 0.2, (count, 1, 72)).astype(np.float32),
        betas=rng.normal(0, 1, (count, 1, 10)).astype(np.float32),
        smpl_weight=(np.arange(count) % 2 * 0.5).astype(np.float32),
    )
    write_samples(folder, [(images, labels)], count, 1)


def write_data(data: Path, body: Body, encoder: str, photos: int) -> None:
    """Everything that `staf train prepare` makes; the encoder has seen nothing yet."""
    write_scenery(data, body)
    write_photos(data / "photos", photos)
    write_photos(data / "photos-held-out", HELD_OUT_PHOTOS, seed=1)
    torch.manual_seed(0)
    save_file(build_encoder(encoder).state_dict(), data / f"{encoder}.safetensors")
