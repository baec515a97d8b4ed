"""The tree of docs/design.md, made from the first line of every module's docstring.

python -m tools.design_tree        # writes it into docs/design.md

Packages come in the order of the layers that pyproject.toml holds, from top to bottom.
"""

import argparse
import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "staf_cli"
PAGE = ROOT / "docs" / "design.md"
BEGIN, END = "```text\nstaf_cli/\n", "```\n"


def layers() -> list[str]:
    """List the names below staf_cli, from the top layer to the bottom one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    names = " | ".join(contract["layers"]).split(" | ")
    return [name.removeprefix("staf_cli.") for name in names]


def tree() -> str:
    """Draw the tree."""
    lines = []
    for name in layers():
        folder = PACKAGE / name
        if not folder.is_dir():
            lines.append(_line(f"{name}.py", PACKAGE / f"{name}.py"))
            continue
        lines.append(_line(f"{name}/", folder / "__init__.py"))
        for path in sorted(folder.iterdir()):
            if path.is_dir() and (path / "__init__.py").is_file():
                lines.append(_line(f"  {path.name}/", path / "__init__.py"))
            elif path.suffix == ".py" and not path.name.startswith("__"):
                lines.append(_line(f"  {path.name}", path))
    return "\n".join(lines) + "\n"


def _line(name: str, path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return f"  {name:<22} {docstring.splitlines()[0].rstrip('.')}"


def parts(page: str) -> tuple[str, str, str]:
    """Cut the page into what is before the tree, the tree, and what is after it.

    Args:
        page: the text of docs/design.md.

    Returns:
        The three parts.
    """
    before, _, rest = page.partition(BEGIN)
    drawn, _, after = rest.partition(END)
    return before, drawn, after


def main() -> None:
    """Write the tree into the page."""
    argparse.ArgumentParser(description="Write the tree of docs/design.md.").parse_args()
    before, _, after = parts(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + BEGIN + tree() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
