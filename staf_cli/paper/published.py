"""The numbers in the paper's Tables 2, 4 and 6, the last two on 3DPW."""

from typing import NamedTuple

from staf_cli.model.staf import Architecture


class Printed(NamedTuple):
    """A row of Tables 4 and 6: mm, and mm / frame^2."""

    pa_mpjpe: float
    mpjpe: float
    pve: float
    accel: float


PARAMETERS = 51.12  # Table 2, millions

TABLE_4 = {
    "base": Printed(49.3, 83.5, 99.5, 27.5),
    "base+APM": Printed(48.4, 81.8, 96.9, 8.1),
    "base+STAF": Printed(48.8, 82.3, 97.8, 24.7),
    "base+APM+STAF": Printed(48.0, 80.6, 95.3, 8.2),
}

TABLE_6 = {  # all with APM
    "TCFM1": Printed(48.5, 81.8, 97.1, 8.1),
    "TCFM1+SAFM1": Printed(49.4, 83.2, 98.4, 8.5),
    "TCFM1+SAFM2": Printed(48.0, 80.6, 95.3, 8.2),
    "TCFM1+SAFM3": Printed(48.8, 81.6, 96.6, 8.3),
    "TCFM2": Printed(48.9, 82.7, 98.5, 8.2),
    "TCFM2+SAFM2": Printed(48.8, 81.8, 97.4, 8.3),
    "TCFM2+SAFM3": Printed(48.9, 82.2, 97.6, 8.4),
    "TCFM3": Printed(49.2, 83.2, 99.1, 8.0),
    "TCFM3+SAFM3": Printed(49.0, 82.0, 97.3, 8.1),
    "SAFM1": Printed(48.4, 81.3, 96.2, 8.2),
    "SAFM2": Printed(48.5, 80.7, 95.7, 8.2),
    "SAFM3": Printed(48.8, 82.1, 97.0, 8.0),
}


def row_of(architecture: Architecture) -> tuple[str, Printed | None]:
    """Name an architecture as Tables 4 and 6 do.

    Args:
        architecture: Of a network; its encoder is not regarded.

    Returns:
        The row's name, and what the paper prints there; None where it has no such row.
    """
    levels = (("TCFM", architecture.tcfm), ("SAFM", architecture.safm))
    fusion = "+".join(f"{module}{level}" for module, level in levels if level)
    if fusion in ("", "TCFM1+SAFM2"):
        name = "+".join(
            ["base", *["APM"] * architecture.apm, *["STAF"] * (fusion == "TCFM1+SAFM2")]
        )
        return name, TABLE_4[name]
    if architecture.apm:
        return fusion, TABLE_6.get(fusion)
    return f"{fusion} without APM", None
