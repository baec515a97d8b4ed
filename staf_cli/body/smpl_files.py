"""Import of the official SMPL files, of any name and format, as a body of ours.

They are licensed by the Max Planck Institute and may not be redistributed; users download them
after registering. Imported bodies are npz files in the user's data folder.
"""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from staf_cli.body.format import BodyArrays, body_arrays, open_zip, read_npz, save_body
from staf_cli.body.smpl_pickle import LARGEST_FILE, read_pickle
from staf_cli.core.errors import BodyError
from staf_cli.core.files import data_folder

VERTICES = 6890
ARRAYS = {  # name in the official files: field of BodyArrays
    "v_template": "v_template",
    "shapedirs": "shapedirs",
    "posedirs": "posedirs",
    "J_regressor": "J_regressor",
    "weights": "weights",
    "kintree_table": "parents",
    "f": "faces",
}

OFFICIAL_NAME = re.compile(
    r"(?:smpl_|basicmodel_)(?P<gender>neutral|female|male|f|m)"
    r"(?:_lbs_10_207_0_v\d+(?:\.\d+)*)?\.(?:pkl|npz)",
    re.IGNORECASE,
)
GENDERS = {"f": "female", "m": "male"}

# Vertices of the SMPL mesh that are points of the face, and its highest vertex.
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR, HEAD_TOP = 332, 2800, 6260, 583, 4071, 411
FACE = (NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR)
COCO_JOINTS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)  # left, right shoulder ... ankle
LSP_JOINTS = (8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12)  # right ankle ... left wrist, neck


def import_body(path: Path) -> tuple[str, Path]:
    """Read an official SMPL file and write it as an npz into the data folder.

    Args:
        path: The official file, as for `read_smpl`.

    Returns:
        The body's name, such as "smpl-neutral", and the npz.

    Raises:
        BodyError: The file cannot be used, as in `read_smpl`.
        OutputError: The npz cannot be written.
    """
    gender, body = _open(path)
    name = f"smpl-{gender}"
    target = data_folder() / "bodies" / f"{name}.npz"
    save_body(body, target)
    return name, target


def read_smpl(path: Path) -> BodyArrays:
    """Read an official SMPL file without running code.

    300 betas are cut to 10. The COCO and LSP regressors are made here: SMPL's own joint regressor
    for the joints of SMPL, so that hips are deeper in the body than the annotators of those
    datasets put them and LSP's neck is SMPL's; single vertices for nose, eyes, ears and the top
    of the head.

    Args:
        path: A .pkl, a .npz, or the .zip it came in, of which the only SMPL file is read, or the
            only neutral one.

    Returns:
        The body.

    Raises:
        BodyError: The file is missing, damaged, of an unknown name, needs code to be run, or is
            another model (SMPL-X, SMPL+H, MANO, FLAME).
    """
    return _open(path)[1]


def _open(path: Path) -> tuple[str, BodyArrays]:
    """Read gender and body of an official file."""
    if not path.is_file():
        raise BodyError(f"{path}: there is no such file")
    match path.suffix.lower():
        case ".zip":
            return _from_zip(path)
        case ".npz":
            return _gender(path, path.name), _body(path, read_npz(path, ARRAYS))
        case _:
            gender = _gender(path, path.name)
            with path.open("rb") as stream:
                return gender, _from_pickle(path, stream, path.stat().st_size)


def _from_zip(path: Path) -> tuple[str, BodyArrays]:
    with open_zip(path) as archive:
        pickles = {
            member.filename: found["gender"].lower()
            for member in archive.infolist()
            if (found := OFFICIAL_NAME.fullmatch(PurePosixPath(member.filename).name))
            and member.filename.lower().endswith(".pkl")
        }
        neutral = [member for member, gender in pickles.items() if gender == "neutral"]
        chosen = neutral or list(pickles)
        if len(chosen) != 1:
            holds = ", ".join(PurePosixPath(member).name for member in chosen[:4])
            raise BodyError(
                f"{path}: holds {holds or 'no SMPL model under its official name'}; "
                "unzip it and import the one file you want"
            )
        member = archive.getinfo(chosen[0])
        with archive.open(member) as stream:
            return _gender(path, member.filename), _from_pickle(path, stream, member.file_size)


def _from_pickle(path: Path, stream: IO[bytes], size: int) -> BodyArrays:
    if size > LARGEST_FILE:
        raise BodyError(f"{path}: {size} bytes are more than any SMPL file has; get it again")
    return _body(path, read_pickle(stream, path, ARRAYS))


def _body(path: Path, found: dict[str, NDArray[np.generic]]) -> BodyArrays:
    missing = [name for name in ARRAYS if name not in found]
    if missing:
        raise BodyError(f"{path}: has no {missing[0]}; it is not an SMPL body")
    vertices = found["v_template"].shape[:1]
    if vertices != (VERTICES,):
        count = vertices[0] if vertices else 0
        raise BodyError(
            f"{path}: has {count} vertices, SMPL has {VERTICES}; "
            "SMPL-X, SMPL+H, MANO and FLAME are other models"
        )
    try:
        body = body_arrays({ARRAYS[name]: array for name, array in found.items()})
    except BodyError as error:
        raise BodyError(f"{path}: {error}") from error
    return replace(
        body,
        coco17_regressor=np.concatenate([_vertices(*FACE), body.J_regressor[list(COCO_JOINTS)]]),
        lsp14_regressor=np.concatenate([body.J_regressor[list(LSP_JOINTS)], _vertices(HEAD_TOP)]),
    )


def _gender(path: Path, name: str) -> str:
    found = OFFICIAL_NAME.fullmatch(PurePosixPath(name).name)
    if found is None:
        raise BodyError(
            f"{path}: the name does not show which SMPL it is; give it its official name, such as "
            "SMPL_NEUTRAL.pkl or basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl"
        )
    gender = found["gender"].lower()
    return GENDERS.get(gender, gender)


def _vertices(*index: int) -> NDArray[np.float32]:
    """Regressor rows (P, 6890) that pick single vertices."""
    rows = np.zeros((len(index), VERTICES), np.float32)
    rows[np.arange(len(index)), index] = 1
    return rows
