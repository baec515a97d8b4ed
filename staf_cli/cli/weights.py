"""`staf weights` and `staf body`: files that staf needs, and files that users bring."""

from pathlib import Path

import click
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from staf_cli.cli.options import FILE, FOLDER, quiet_option
from staf_cli.cli.output import OUT, print_line
from staf_cli.core.errors import DONE, FAILED, one_line


@click.group()
def weights() -> None:
    """Detectors, checkpoints and the example clip."""


@weights.command("list")
def list_weights() -> None:
    """Name everything that can be fetched, and what is here."""
    from staf_cli.checkpoints.registry import imported_checkpoints, verify

    table = Table("name", "kind", "here", "MB", "licence", "what", box=None, pad_edge=False)
    for checked in verify():
        entry = checked.entry
        megabytes = f"{entry.bytes / 1e6:.1f}"
        table.add_row(
            entry.name, entry.kind, checked.state, megabytes, entry.licence, entry.description
        )
    for path in imported_checkpoints():
        megabytes = f"{path.stat().st_size / 1e6:.1f}"
        name = escape(one_line(path.stem))
        table.add_row(name, "checkpoint", "ok", megabytes, "its authors'", "imported")
    OUT.print(table)


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@quiet_option
def fetch_weights(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch files by NAME into your data folder; their hashes are checked."""
    from staf_cli.checkpoints.registry import fetch

    for name in names:
        path = fetch(name) if quiet else _fetch_visibly(name)
        if not quiet:
            print_line(f"{name}: {path}")


def _fetch_visibly(name: str) -> Path:
    from staf_cli.checkpoints.registry import fetch

    with Progress(console=OUT, transient=True) as bar:
        task = bar.add_task(name)
        return fetch(name, lambda done, total: bar.update(task, completed=done, total=total))


@weights.command("path")
@click.argument("name")
def path_of_weights(name: str) -> None:
    """Print where NAME lies."""
    from staf_cli.checkpoints.registry import locate

    print_line(str(locate(name)))


@weights.command("import")
@click.argument("folder", type=FOLDER)
@click.option("--name", default="staf-3dpw", show_default=True, help="What to call it here.")
def import_weights(folder: Path, name: str) -> None:
    """Bring in the authors' files: FOLDER holds 3dpw_model_best.pth.tar and base_model.pt."""
    from staf_cli.checkpoints.registry import checkpoint_path
    from staf_cli.checkpoints.release import import_release

    path = import_release(folder, checkpoint_path(name))
    OUT.print(f"imported: use it with --weights {path.stem}", markup=False)


@weights.command("verify")
def verify_weights() -> int:
    """Hash every file; exit code 1 where one was altered."""
    from staf_cli.checkpoints.registry import verify

    found = verify()
    for checked in found:
        OUT.print(f"{checked.entry.name:<14} {checked.state}", markup=False)
    return FAILED if any(checked.state == "altered" for checked in found) else DONE


@click.group()
def body() -> None:
    """Body models in SMPL format."""


@body.command("import")
@click.argument("file", type=FILE)
def import_body(file: Path) -> None:
    """Bring in a licensed SMPL FILE (.pkl, .npz or the official .zip); no code in it is run."""
    from staf_cli.body import smpl_files

    name, path = smpl_files.import_body(file)
    OUT.print(f"imported: use it with --body {name} ({path})", soft_wrap=True, markup=False)
