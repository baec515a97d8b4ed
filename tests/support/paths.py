"""Where the repository and the tests' own data are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
DATA = Path(__file__).parent / "data"
