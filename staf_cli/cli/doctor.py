"""`staf doctor`: what this machine has, and how to get what is missing."""

import click

from staf_cli.cli.output import OUT, print_line
from staf_cli.core.errors import DONE, FAILED


@click.command()
def doctor() -> int:
    """Check device, detector, body, weights, ffmpeg and GL; say how to get what is missing."""
    from staf_cli.cli.examination import examine

    code = DONE
    for finding in examine():
        mark = "ok" if finding.works else "missing" if finding.needed else "absent"
        if finding.needed and not finding.works:
            code = FAILED
        OUT.print(f"{finding.name:<9} {mark:<8} {finding.detail}", soft_wrap=True, markup=False)
    if code == DONE:
        print_line("staf can run here.")
    else:
        print_line("staf cannot run yet: do what the lines marked missing say.")
    return code
