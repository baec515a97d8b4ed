"""Untrusted files, by what they attack; importing this package fills `attacks.ATTACKS`."""

from tests.support.untrusted import (
    bodies,
    checkpoints,
    datasets,
    names,
    releases,
    result_folders,
    smpl_files,
    videos,
)
from tests.support.untrusted.attacks import ATTACKS

__all__ = [
    "ATTACKS",
    "bodies",
    "checkpoints",
    "datasets",
    "names",
    "releases",
    "result_folders",
    "smpl_files",
    "videos",
]
