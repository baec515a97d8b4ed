"""What can be chosen about an evaluation.

This module imports no heavy library: `staf --help` is made from it.
"""

from dataclasses import dataclass
from types import MappingProxyType

from staf_cli.core.errors import UsageError
from staf_cli.core.options import Range, check_options, option

# By method: where it starts, and what it is fitted to.
METHODS = MappingProxyType(
    {
        "network": ("network", ()),
        "mean": ("mean", ()),
        "refine": ("mean", ("keypoints",)),
        "network+refine": ("network", ("keypoints",)),
        "network+landmarks": ("network", ("keypoints", "landmarks")),
    }
)


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate.

    Raises:
        UsageError: a method is unknown, or a value is out of range.
    """

    methods: tuple[str, ...] = option(
        ("network", "mean"),
        "Of network, mean, refine, network+refine, network+landmarks, by commas.  "
        "[default: network,mean]",
        name="--method",
        metavar="NAMES",
    )
    device: str = option("auto", "cpu, cuda, cuda:1, mps.", show_default=True)
    batch: int = option(
        16, "Crops at a time.", show_default=True, valid=Range(1), advice="choose 1 or more"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not self.methods:
            raise UsageError(f"no method given; choose from {', '.join(METHODS)}")
        for name in self.methods:
            if name not in METHODS:
                raise UsageError(f"unknown method {name!r}; choose from {', '.join(METHODS)}")

    @property
    def refines(self) -> bool:
        """Whether keypoints are needed."""
        return any(METHODS[name][1] for name in self.methods)

    @property
    def reads_landmarks(self) -> bool:
        """Whether the landmark network is needed."""
        return any("landmarks" in METHODS[name][1] for name in self.methods)
