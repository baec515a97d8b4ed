"""Train weights/bone_directions.safetensors: how the landmark network errs in bones' directions.

    python -m tools.train_bones DATA [--out FILE]

DATA is a folder in which `staf train run` has rendered synthetic people: all of its `poses*` and
every eighth frame of its `synthetic` or `seq*` are learned from, every sixth frame of
`synthetic-held-out` is measured. Landmarks are read as for a photo; what was read is kept in DATA
(`bones-<set>.npz`), so that another run goes on. Prints the mean error of each bone in degrees,
held out, before and after.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import OPEN_BODY, locate
from staf_cli.core.files import atomic
from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.core.records import MIRRORED_LANDMARKS, Float
from staf_cli.core.regions import around_boxes, crop_axes
from staf_cli.fitting.bones import BONES, FEATURES, BoneNetwork, bones_of, features_of, unit
from staf_cli.fitting.skeleton import reduce_body
from staf_cli.landmarks.reader import CropReader, load_reader
from staf_cli.landmarks.reading import Landmarks, read
from staf_cli.training.samples import SampleSet, read_samples

OUT = Path(__file__).parent.parent / "weights" / "bone_directions.safetensors"
BELIEVED = 0.5  # score of a look that counts
AT_ONCE = 8  # people
EPOCHS, BATCH, RATE, DECAY = 40, 128, 2e-3, 1.0
NOISE = 0.02  # of features, in their deviations
LEAST_SCALE = 0.05  # that features are divided by
FIRST_SIGMA = 0.17  # of a direction's error along each axis
DEGREES_OF_FREEDOM = 3.0  # of Student's t, whose tails are people read wrongly
ACROSS = [0, 1, 13]  # bones from one side to the other
MIRRORED_BONES = [0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 13]

Examples = tuple[Float, Float, Float]  # features (N, 240), directions seen and true (N, B, 3)


def main() -> None:
    """Read, train, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_bones")
    parser.add_argument("data", type=Path, help="with rendered sample sets")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    body = Body(OPEN_BODY, load_body(locate(OPEN_BODY)))
    reader = load_reader(torch.device("cpu"))

    def examples(folder: Path, every: int) -> Examples:
        kept = folder.parent / f"bones-{folder.name}.npz"
        if not kept.exists():
            with atomic(kept) as temporary, temporary.open("wb") as file:
                np.savez(file, **_looked_at(folder, every, body, reader))
        return _examples(dict(np.load(kept)))

    sets = [path.parent for path in sorted(options.data.glob("*/labels.npz"))]
    poses = [examples(one, 1) for one in sets if one.name.startswith("poses")]
    moving = [one for one in sets if one.name.startswith("seq") or one.name == "synthetic"]
    learned = _joined([*poses, *(examples(one, 8) for one in moving)])
    held_out = examples(options.data / "synthetic-held-out", 6)
    network = train(learned)
    _, seen, true = held_out
    put_right = _directions(network, *held_out[:2])
    print(f"{len(learned[0])} examples; degrees, held out, before and after, of {len(BONES)} bones")
    for directions in (seen, put_right):
        off = _degrees(directions, true)
        print(f"mean {off.mean():.1f}, median {np.median(off):.1f}:", off.mean(0).round(1))
    tensors = {n: t.half() for n, t in network.state_dict().items()}
    with atomic(options.out) as temporary:
        save_file(tensors, temporary)
    print(f"written: {options.out}")


def _looked_at(folder: Path, every: int, body: Body, reader: CropReader) -> dict[str, Float]:
    """Landmarks of a sample set's people, the mean of looks both ways, and their true bones."""
    samples = read_samples(folder)
    frames = samples.images.shape[1]
    rows = [(n, t) for n in range(len(samples.images)) for t in range(0, frames, every)]
    parts = [_look(samples, rows[i : i + AT_ONCE], reader) for i in range(0, len(rows), AT_ONCE)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    person, frame = np.array(rows).T
    poses = torch.from_numpy(samples.labels.poses[person, frame]).view(-1, 24, 3)
    betas = torch.from_numpy(samples.labels.betas[person, frame])
    skeleton = reduce_body(body)
    true = [
        bones_of(skeleton.pose_as_seen(axis_angle_to_matrix(pose)[None], shape))
        for pose, shape in zip(poses, betas, strict=True)
    ]
    names = ("kp2d", "metres", "region", "score")
    return dict(zip(names, columns, strict=True)) | {"true": torch.cat(true).double().numpy()}


def _look(samples: SampleSet, rows: list[tuple[int, int]], reader: CropReader) -> list[Float]:
    """What a few people's landmarks are: in 2D, in metres, from which region, with which score."""
    images = [np.ascontiguousarray(samples.images[n, t]) for n, t in rows]
    box = np.stack([samples.labels.box[n, t] for n, t in rows]).astype(np.float64)
    plain = np.zeros(len(rows), bool)
    region = read(reader, images, around_boxes(box), plain).next_region
    looks: list[Landmarks] = [read(reader, images, region, way) for way in (plain, ~plain)]
    kp2d, metres = (np.mean([getattr(x, name) for x in looks], 0) for name in ("kp2d", "metres"))
    return [kp2d, metres, region, looks[0].score]


def _examples(looked: dict[str, Float]) -> Examples:
    """Examples and their mirror images; people whose back was taken for the front are left out."""
    features, seen = features_of(looked["kp2d"], looked["metres"], looked["region"])
    true = looked["true"]
    axes = crop_axes(looked["region"])
    true = np.concatenate([true[..., :2] @ axes, true[..., 2:]], -1)
    good = ((seen[:, 0] * true[:, 0]).sum(-1) > 0) & (looked["score"] > BELIEVED)
    own = features[good], seen[good], true[good]
    return _joined([own, _mirrored(*own)])


def _mirrored(features: Float, seen: Float, true: Float) -> Examples:
    """The same people in a mirror."""
    n = len(features)
    bones, metres, places, visible = np.split(features, np.cumsum(FEATURES[:-1]), 1)
    flat = places.reshape(n, -1, 2)[:, MIRRORED_LANDMARKS] * (-1, 1)
    space = metres.reshape(n, -1, 3)[:, MIRRORED_LANDMARKS] * (-1, 1, 1)
    seen = _mirrored_bones(bones.reshape(n, -1, 3))
    parts = (seen, space, flat, visible[:, MIRRORED_LANDMARKS])
    features = np.concatenate([part.reshape(n, -1) for part in parts], 1)
    return features, seen, _mirrored_bones(true)


def _mirrored_bones(bones: Float) -> Float:
    mirrored = bones[:, MIRRORED_BONES] * (-1, 1, 1)
    mirrored[:, ACROSS] *= -1
    return mirrored


def _joined(parts: list[Examples]) -> Examples:
    features, seen, true = (np.concatenate(column) for column in zip(*parts, strict=True))
    return features, seen, true


def train(examples: Examples) -> BoneNetwork:
    """Train the network.

    Args:
        examples: features (N, 240), directions as they are seen and as they are (N, B, 3).

    Returns:
        The network, in evaluation mode.
    """
    torch.manual_seed(0)
    features, seen, true = (torch.from_numpy(array).float() for array in examples)
    network = BoneNetwork()
    network.mean, network.scale = features.mean(0), features.std(0) + LEAST_SCALE
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.zeros_(network.last.bias)
    log_sigma = torch.full((len(BONES),), math.log(FIRST_SIGMA), requires_grad=True)
    parameters = [*network.parameters(), log_sigma]
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(features) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for rows in _batches(len(features)):
        noise = NOISE * network.scale * torch.randn(len(rows), len(network.scale))
        off = (
            (normalize(seen[rows] + network(features[rows] + noise), dim=-1) - true[rows])
            .square()
            .sum(-1)
        )  # (N, B)
        loss = _student_t(off, log_sigma).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def _batches(count: int) -> Iterator[Tensor]:
    for _ in range(EPOCHS):
        yield from torch.randperm(count).split(BATCH)  # type: ignore[no-untyped-call]


def _student_t(square: Tensor, log_sigma: Tensor) -> Tensor:
    """Minus the log density of errors of three numbers, but for a constant."""
    tail = (DEGREES_OF_FREEDOM + 3) / 2
    return 3 * log_sigma + tail * (square / DEGREES_OF_FREEDOM * (-2 * log_sigma).exp()).log1p()


def _directions(network: BoneNetwork, features: Float, seen: Float) -> Float:
    return unit(seen + network(torch.from_numpy(features).float()).double().numpy())


def _degrees(one: Float, other: Float) -> Float:
    return np.degrees(np.arccos(np.clip((one * other).sum(-1), -1, 1)))


if __name__ == "__main__":
    main()
