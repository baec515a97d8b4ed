"""When heels and toes are on the ground: a probability for each frame.

A hidden Markov model of two states for each point. What it sees is how high the point is and how
fast it moves, from the body and, where the landmark network looked, from its heels and toes. States
last, so a flicker of one frame changes nothing; it looks ahead as far as back.
"""

import numpy as np

from staf_cli.core.records import Float
from staf_cli.world.feet import Feet, sole_velocity

HEIGHT_SIGMA = 0.04  # m, of a point on the ground; by the errors of the body
LIFTED = 0.7  # m, over which heights of a lifted point are spread evenly
SPEED_SIGMA, LIFTED_SPEED = 0.15, 1.2  # m/s along each axis, of a point that stands, and of others
RESTING = 0.2  # share of the time in which a lifted point is as slow as one that stands
MOST = 6.0  # log-odds of one cue in one frame
SHARE = 0.3  # of a frame's log-odds that is new: neighbours err alike
SURE = 1e-9  # probability that nothing gets nearer to 0 or 1 than
SECONDS = 0.4  # for which a state lasts


def contact_probability(feet: Feet, height: Float, seen: Float | None) -> Float:
    """Estimate when heels and toes are on the ground.

    Args:
        feet: F frames.
        height: (F, 4) m, over the ground.
        seen: (F, 4) m/s, of the same points as the landmark network saw them, NaN where it
            did not; None: it did not look.

    Returns:
        (F, 4) in [0, 1].
    """
    speed = _log_odds_of_speed(np.linalg.norm(sole_velocity(feet), axis=-1))
    if seen is not None:
        other = _log_odds_of_speed(np.nan_to_num(seen))
        speed = np.where(np.isfinite(seen), (speed + other) / 2, speed)
    odds = SHARE * (_log_odds_of_height(height) + speed)
    found = np.zeros_like(odds)
    for run in feet.runs:
        found[run] = _smoothed(odds[run], feet.time[run])
    return found


def _log_odds_of_height(height: Float) -> Float:
    """Log-odds (F, 4) that a point at a height, m, is on the ground."""
    there = -0.5 * (height / HEIGHT_SIGMA) ** 2 - np.log(HEIGHT_SIGMA * np.sqrt(2 * np.pi))
    odds: Float = np.clip(there + np.log(LIFTED), -MOST, MOST)
    return odds


def _log_odds_of_speed(speed: Float) -> Float:
    """Log-odds (F, 4) that a point with a speed, m/s, stands."""
    slow, fast = (
        np.exp(-0.5 * (speed / sigma) ** 2) / sigma**2 for sigma in (SPEED_SIGMA, LIFTED_SPEED)
    )
    lifted = RESTING * slow + (1 - RESTING) * fast
    odds: Float = np.maximum(np.log(np.maximum(slow, 1e-300)) - np.log(lifted), -MOST)
    return odds


def _smoothed(odds: Float, time: Float) -> Float:
    """Posterior probabilities (F, 4) of one run by forward and backward passes."""
    change = 0.5 * (1 - np.exp(-2 * np.diff(time) / SECONDS))[:, None]
    forward, backward = np.zeros_like(odds), np.zeros_like(odds)  # log-odds of all before, after
    for row in range(1, len(odds)):
        forward[row] = _passed(forward[row - 1] + odds[row - 1], change[row - 1])
        backward[-row - 1] = _passed(backward[-row] + odds[-row], change[-row])
    probability: Float = 1 / (1 + np.exp(-(forward + odds + backward)))
    return probability


def _passed(odds: Float, change: Float) -> Float:
    """Log-odds a frame later, or earlier, where the state changes with a probability."""
    probability = 1 / (1 + np.exp(-odds))
    mixed = np.clip(probability * (1 - change) + (1 - probability) * change, SURE, 1 - SURE)
    later: Float = np.log(mixed) - np.log1p(-mixed)
    return later
