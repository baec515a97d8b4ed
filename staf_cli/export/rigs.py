"""What other programs' skeletons call SMPL's joints.

Mixamo's and Unreal's skeletons have the same hierarchy as SMPL's 24 joints, so only the names
differ. The body at rest is in the T-pose that both are retargeted from.
"""

from collections.abc import Mapping

from staf_cli.core.options import Rig
from staf_cli.export.motion import JOINT_NAMES

# By joint without its side: Mixamo's and Unreal's name. The side is Left or Right, l or r.
MIDDLE = {
    "pelvis": ("Hips", "pelvis"),
    "spine1": ("Spine", "spine_01"),
    "spine2": ("Spine1", "spine_02"),
    "spine3": ("Spine2", "spine_03"),
    "neck": ("Neck", "neck_01"),
    "head": ("Head", "head"),
}
PAIRED = {
    "hip": ("UpLeg", "thigh"),
    "knee": ("Leg", "calf"),
    "ankle": ("Foot", "foot"),
    "foot": ("ToeBase", "ball"),
    "collar": ("Shoulder", "clavicle"),
    "shoulder": ("Arm", "upperarm"),
    "elbow": ("ForeArm", "lowerarm"),
    "wrist": ("Hand", "hand"),
    "hand": ("HandMiddle1", "middle_01"),
}


def bone_names(rig: Rig) -> tuple[str, ...]:
    """Return the names of SMPL's 24 joints, in SMPL's order, in a rig."""
    return _NAMES[rig]


def _mixamo(joint: str) -> str:
    if joint in MIDDLE:
        return f"mixamorig:{MIDDLE[joint][0]}"
    side, part = joint.split("_")
    return f"mixamorig:{side.capitalize()}{PAIRED[part][0]}"


def _unreal(joint: str) -> str:
    if joint in MIDDLE:
        return MIDDLE[joint][1]
    side, part = joint.split("_")
    return f"{PAIRED[part][1]}_{side[0]}"


_NAMES: Mapping[Rig, tuple[str, ...]] = {
    "smpl": JOINT_NAMES,
    "mixamo": tuple(map(_mixamo, JOINT_NAMES)),
    "unreal": tuple(map(_unreal, JOINT_NAMES)),
}
