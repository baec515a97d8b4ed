"""Packs: what was packed comes back, in any loads; what is missing or altered is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from staf_cli.core.errors import DatasetError
from staf_cli.training import packing
from staf_cli.training.samples import read_samples
from tests.support.made_training_data import write_photos

PLAIN = ("motions.npz", "wardrobe.npz", "resnet50.safetensors", "yolo11n.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in PLAIN:
        (folder / name).write_bytes(rng.bytes(25_000))
    line = np.linspace(0, 255, 64)
    slopes = np.stack([np.add.outer(line, line) / 2, np.tile(line, (64, 1))], 0)
    np.save(folder / "backgrounds.npy", np.uint8(np.repeat(slopes[..., None], 3, -1)))
    write_photos(folder / "photos", 3)
    write_photos(folder / "photos-held-out", 2, seed=1)
    return folder


@pytest.fixture
def packed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small pieces and loads, so that there are several."""
    monkeypatch.setattr(packing, "PIECE", 10_000)
    monkeypatch.setattr(packing, "LOAD", 80_000)
    packing.pack(data, tmp_path / "pack", lambda line: None)
    return tmp_path / "pack"


def unpack(folder: Path, data: Path) -> list[str]:
    lines: list[str] = []
    packing.unpack(folder, data, lines.append)
    return lines


def test_it_comes_back_pictures_within_what_jpeg_loses(data, packed, tmp_path):
    lines = unpack(packed, tmp_path / "copy")
    assert lines == [f"unpacked {name}" for name in packing.FILES]
    for name in (*PLAIN, "photos/labels.npz", "photos-held-out/labels.npz"):
        assert (tmp_path / "copy" / name).read_bytes() == (data / name).read_bytes()
    for name in ("photos", "photos-held-out"):
        copy, own = read_samples(tmp_path / "copy" / name), read_samples(data / name)
        off = np.abs(copy.images.astype(int) - own.images)
        assert 0 < off.mean() < 2 and off.max() < 30
        assert np.array_equal(copy.labels.kp2d, own.labels.kp2d)
    copy, own = (np.load(f / "backgrounds.npy") for f in (tmp_path / "copy", data))
    assert copy.shape == own.shape and np.abs(copy.astype(int) - own).max() < 12


def test_pieces_and_loads_stay_within_their_limits_and_loads_are_few(packed):
    loads = [list(load.glob("*.[0-9]*")) for load in sorted(packed.iterdir())]
    sizes = [sum(piece.stat().st_size for piece in load) for load in loads]
    assert [load.name for load in sorted(packed.iterdir())] == ["1", "2"]
    assert sum(sizes) > 100_000 and max(sizes) <= packing.LOAD
    assert max(p.stat().st_size for load in loads for p in load) <= packing.PIECE


def test_one_load_after_the_other_is_the_whole(data, packed, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    shutil.move(packed / "2", second)
    lines = unpack(packed, tmp_path / "copy")
    assert lines[-1].startswith("still missing: ") and "of 3 pieces)" in lines[-1]
    for load in second.iterdir():  # each on its own is not enough, both are
        shutil.move(load, packed)
    assert unpack(packed, tmp_path / "copy") == [f"unpacked {name}" for name in packing.FILES]
    assert (tmp_path / "copy/wardrobe.npz").read_bytes() == (data / "wardrobe.npz").read_bytes()


def test_what_is_unpacked_already_is_not_missing(packed, tmp_path):
    unpack(packed, tmp_path / "copy")
    shutil.rmtree(packed / "2")
    assert not any("missing" in line for line in unpack(packed, tmp_path / "copy"))


def test_a_missing_piece_is_reported_and_the_rest_is_unpacked(packed, tmp_path):
    next(packed.glob("*/motions.npz.01")).unlink()
    lines = unpack(packed, tmp_path / "copy")
    assert lines[-1] == (
        "still missing: motions.npz (1 of 3 pieces); bring the other loads and unpack again"
    )
    assert len(lines) == len(packing.FILES)
    assert not (tmp_path / "copy/motions.npz").exists()


def test_an_altered_or_shortened_piece_is_refused(packed, tmp_path):
    piece = next(packed.glob("*/photos-images.npy.01"))
    content = piece.read_bytes()
    for wrong in (content[:-1], content[:100] + b"?" + content[101:]):
        piece.write_bytes(wrong)
        with pytest.raises(DatasetError, match=r"photos-images.npy.01: was altered"):
            unpack(packed, tmp_path / "copy")
    assert not (tmp_path / "copy/photos/images.npy").exists()


def test_what_is_no_pack_is_refused(packed, data, tmp_path):
    with pytest.raises(DatasetError, match="holds no load of a pack"):
        unpack(data, tmp_path / "copy")
    about = json.loads((packed / "1" / packing.CONTENTS).read_text())
    about["files"]["motions.npz"][0]["sha256"] = 64 * "0"
    (packed / "1" / packing.CONTENTS).write_text(json.dumps(about))
    with pytest.raises(DatasetError, match="of different packs"):
        unpack(packed, tmp_path / "copy")
    (packed / "1" / packing.CONTENTS).write_text("[]")
    with pytest.raises(DatasetError, match="describes no pack"):
        unpack(packed, tmp_path / "copy")


def test_data_that_is_not_prepared_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"lacks motions.npz, .*; prepare it first"):
        packing.pack(tmp_path, tmp_path / "pack", lambda line: None)
