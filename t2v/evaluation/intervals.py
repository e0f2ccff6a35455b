"""Figures with 95% intervals by resampling (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.frame_metrics import bootstrap_mean

DRAWS = 2000  # resamples behind the interval of a mean
STATISTIC_DRAWS = 50  # behind that of a statistic that takes long to compute


@dataclass(frozen=True)
class Figure:
    """A measured value and its 95% interval; `n` is how many samples it rests on. None: could not be measured."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def mean_figure(values: NDArray[np.floating], seed: int = 0) -> Figure:
    """Mean of values (N,), one a video, with a percentile interval; values that are not finite are left out."""
    found = bootstrap_mean(np.asarray(values, np.float64), seed, DRAWS)
    return Figure(found["mean"], found["low"], found["high"], int(found["n"] or 0))


def statistic_figure(
    value: float, resampled: Callable[[NDArray[np.intp]], float], num_samples: int, seed: int = 0
) -> Figure:
    """A statistic of a whole set of samples, with an interval for its spread at this number of samples.

    A resample repeats samples, which biases Frechet distances and inception scores. So the interval takes only its
    width from the resamples: value +- 1.96 standard deviations. It does not speak of the bias that the value itself
    has at N samples, which is why only results of equal N compare.

    Args:
        resampled: the statistic of the samples at these indices (num_samples,).
    """
    rng = np.random.default_rng(seed)
    draws = np.array([resampled(rng.integers(0, num_samples, num_samples)) for _ in range(STATISTIC_DRAWS)])
    half = 1.96 * float(draws.std(ddof=1))
    return Figure(value, value - half, value + half, num_samples)
