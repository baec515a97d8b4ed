"""The figures of the paper's tables 1 and 3, to be printed beside one's own."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """A network's errors as the paper gives them, mm (Accel: mm / frame^2); None: not given."""

    model: str  # * trained on 3DPW, too
    pa_mpjpe: float | None
    mpjpe: float | None
    pve: float | None
    accel: float | None


_3DPW = (
    Published("SPIN", 59.2, 96.9, 116.4, 29.8),
    Published("PyMAF", 58.9, 92.8, 110.1, None),
    Published("PARE", 50.9, 82.0, 97.9, None),
    Published("MEVA*", 54.7, 86.9, None, 11.6),
    Published("VIBE*", 51.9, 82.9, 99.1, 23.4),
    Published("VIBE", 56.5, 93.5, 113.4, 27.1),
    Published("TCMR*", 52.7, 86.5, 102.9, 7.1),
    Published("TCMR", 55.8, 95.0, 111.3, 6.7),
    Published("MPS-Net*", 52.1, 84.3, 99.7, 7.4),
    Published("MPS-Net", 54.0, 91.6, 109.6, 7.5),
    Published("STAF*", 48.0, 80.6, 95.3, 8.2),
    Published("STAF", 48.7, 81.2, 96.0, 8.2),
)
_3DHP = (
    Published("SPIN", 67.5, 105.2, None, None),
    Published("MEVA*", 65.4, 96.4, None, 11.1),
    Published("VIBE*", 64.6, 96.6, None, None),
    Published("VIBE", 63.4, 97.7, None, None),
    Published("TCMR*", 63.5, 97.3, None, 8.5),
    Published("TCMR", 62.8, 97.4, None, 8.0),
    Published("MPS-Net*", 62.8, 96.7, None, 9.6),
    Published("STAF*", 59.6, 93.7, None, 10.0),
    Published("STAF", 58.8, 92.4, None, 10.1),
)
_H36M = (
    Published("HMMR", 56.9, None, None, None),
    Published("VIBE", 53.3, 78.0, None, 27.3),
    Published("MEVA", 53.2, 76.0, None, 15.3),
    Published("TCMR", 52.0, 73.6, None, 3.9),
    Published("MPS-Net", 47.4, 69.4, None, 3.6),
    Published("STAF", 44.5, 70.4, None, 4.8),
)
TABLES = MappingProxyType({"3dpw": _3DPW, "3dhp": _3DHP, "h36m-p2": _H36M})  # by the benchmark
