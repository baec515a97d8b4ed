"""Random choices from a torch generator on the CPU: the same on every machine."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

T = TypeVar("T")


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw a number between low and high, all equally likely."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def normal(generator: torch.Generator, sigma: float) -> float:
    """Draw a number from a Gaussian around 0 with standard deviation sigma."""
    return sigma * float(torch.randn((), generator=generator))


def chance(generator: torch.Generator, share: float) -> bool:
    """Draw a boolean that is true with probability `share`."""
    return float(torch.rand((), generator=generator)) < share


def choose(generator: torch.Generator, choices: Sequence[T]) -> T:
    """Draw one of the choices, all equally likely."""
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def branch(generator: torch.Generator) -> torch.Generator:
    """Make a generator whose draws do not change what comes after them in the given one."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator().manual_seed(seed)


def direction(generator: torch.Generator) -> Tensor:
    """Draw a unit vector (3,), all directions equally likely."""
    vector = torch.randn(3, generator=generator)
    return normalize(vector, dim=0)


def colour(generator: torch.Generator) -> Tensor:
    """Draw a colour of cloth (3,), linear RGB in [0, 1]: a third of them grey, black or white."""
    base = torch.full((3,), uniform(generator, 0.05, 1.0))
    if chance(generator, 0.35):
        tint = 0.06 * torch.randn(3, generator=generator)
    else:
        tint = uniform(generator, 0.2, 0.9) * (torch.rand(3, generator=generator) - 0.5)
    return (base + tint).clamp(0.02, 0.98).square()
