"""The numbers in the paper's tables, to be printed beside one's own.

Tables 1 and 3 compare networks, on 3DPW, MPI-INF-3DHP and Human3.6M; Table 2 counts parameters;
Tables 4, 5 and 6 are ablations, on 3DPW.
"""

from types import MappingProxyType
from typing import NamedTuple

from staf_cli.model.hmr import INTEGRATIONS, NETWORKS, PooledArchitecture
from staf_cli.model.staf import Architecture


class Published(NamedTuple):
    """A network's errors as the paper gives them, mm (Accel: mm / frame^2); None: not given."""

    model: str  # in Tables 1 and 3: * trained on 3DPW, too
    pa_mpjpe: float | None
    mpjpe: float | None
    pve: float | None
    accel: float | None


PARAMETERS = 51.12  # Table 2, millions

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

TABLE_4 = (
    Published("base", 49.3, 83.5, 99.5, 27.5),
    Published("base+APM", 48.4, 81.8, 96.9, 8.1),
    Published("base+STAF", 48.8, 82.3, 97.8, 24.7),
    Published("base+APM+STAF", 48.0, 80.6, 95.3, 8.2),
)

TABLE_5 = (
    Published("HMR", 54.3, 91.4, 107.2, 29.1),
    Published("HMR+HAFI", 54.2, 90.9, 107.3, 29.1),
    Published("HMR+APM", 53.1, 87.9, 103.3, 7.7),
    Published("MPS-Net w/o HAFI", 53.0, 86.7, 102.2, 23.5),
    Published("MPS-Net w/ HAFI", 53.2, 87.7, 102.9, 8.0),
    Published("MPS-Net w/ APM", 52.8, 87.5, 102.7, 7.8),
)

TABLE_6 = (  # all with APM
    Published("TCFM1", 48.5, 81.8, 97.1, 8.1),
    Published("TCFM1+SAFM1", 49.4, 83.2, 98.4, 8.5),
    Published("TCFM1+SAFM2", 48.0, 80.6, 95.3, 8.2),
    Published("TCFM1+SAFM3", 48.8, 81.6, 96.6, 8.3),
    Published("TCFM2", 48.9, 82.7, 98.5, 8.2),
    Published("TCFM2+SAFM2", 48.8, 81.8, 97.4, 8.3),
    Published("TCFM2+SAFM3", 48.9, 82.2, 97.6, 8.4),
    Published("TCFM3", 49.2, 83.2, 99.1, 8.0),
    Published("TCFM3+SAFM3", 49.0, 82.0, 97.3, 8.1),
    Published("SAFM1", 48.4, 81.3, 96.2, 8.2),
    Published("SAFM2", 48.5, 80.7, 95.7, 8.2),
    Published("SAFM3", 48.8, 82.1, 97.0, 8.0),
)


def row_of(architecture: Architecture | PooledArchitecture) -> tuple[str, Published | None]:
    """Name an architecture as Tables 4, 5 and 6 do.

    Args:
        architecture: Of a network; its encoder is not regarded.

    Returns:
        The row's name, and what the paper prints there; None where it has no such row.
    """
    if isinstance(architecture, PooledArchitecture):
        first = NETWORKS.index(architecture.network) * len(INTEGRATIONS)
        row = TABLE_5[first + INTEGRATIONS.index(architecture.integration)]
        return row.model, row
    levels = (("TCFM", architecture.tcfm), ("SAFM", architecture.safm))
    fusion = "+".join(f"{module}{level}" for module, level in levels if level)
    if fusion in ("", "TCFM1+SAFM2"):
        name = "+".join(
            ["base", *["APM"] * architecture.apm, *["STAF"] * (fusion == "TCFM1+SAFM2")]
        )
    else:
        name = fusion if architecture.apm else f"{fusion} without APM"
    rows = {row.model: row for row in (*TABLE_4, *TABLE_6)}
    return name, rows.get(name)
