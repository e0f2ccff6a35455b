import numpy as np
import pytest
import scipy.linalg
import torch

from t2v.evaluation.frechet import frechet_distance, frechet_figure, gaussian_frechet_distance
from t2v.evaluation.intervals import STATISTIC_DRAWS


def reference(first, second):
    """The textbook form, through scipy's general matrix root."""
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(c1 @ c2)
    return np.square(first.mean(0) - second.mean(0)).sum() + np.trace(c1 + c2 - 2 * root.real)


def samples(seed, num, size):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


@pytest.mark.parametrize(("num", "size"), [(200, 7), (500, 40)])
def test_equals_the_textbook_form(num, size):
    first, second = samples(0, num, size), samples(1, num + 3, size)
    assert frechet_distance(first, second) == pytest.approx(reference(first, second), rel=1e-6)


def test_known_distances_of_gaussians():
    """Commuting covariances: |m1 - m2|^2 + sum of (s1 - s2)^2."""
    mean, other_mean = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    deviations, others = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5])
    expected = 5.0 + 1.0 + 0.0 + 6.25
    measured = gaussian_frechet_distance(mean, np.diag(deviations**2), other_mean, np.diag(others**2))
    assert measured == pytest.approx(expected, rel=1e-12)


def test_a_set_is_at_distance_zero_from_itself_even_when_it_is_flat():
    flat = samples(0, 5, 12)  # a covariance of rank 4
    assert abs(frechet_distance(flat, flat)) < 1e-6 * np.trace(np.cov(flat, rowvar=False))


def test_grows_with_noise():
    first = samples(0, 400, 6)
    noise = np.random.default_rng(2).normal(size=first.shape)
    distances = [frechet_distance(first, first + amount * noise) for amount in (0.0, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances) and distances[-1] > distances[1] > 1e-3


class Features(torch.nn.Module):
    num_features = 24

    def forward(self, x):
        return x


@pytest.mark.parametrize("num", [200, 15])  # more and fewer than dimensions
def test_equals_torchmetrics(num):
    from torchmetrics.image.fid import FrechetInceptionDistance

    first, second = samples(0, 300, 24), samples(1, num, 24)
    metric = FrechetInceptionDistance(Features()).set_dtype(torch.float64)
    metric.update(torch.from_numpy(first), real=True)
    metric.update(torch.from_numpy(second), real=False)
    assert frechet_distance(first, second) == pytest.approx(metric.compute().item(), rel=1e-6)


@pytest.mark.parametrize("num", [40, 12])  # more and fewer than dimensions
def test_the_interval_is_that_of_full_recomputation(num):
    rng = np.random.default_rng(0)
    videos, reference = rng.normal(size=(num, 1, 16)), samples(1, 100, 16)
    figure = frechet_figure(videos, reference, seed=3)
    assert figure.value == pytest.approx(frechet_distance(videos[:, 0], reference))
    rng = np.random.default_rng(3)
    draws = [frechet_distance(videos[rng.integers(0, num, num), 0], reference) for _ in range(STATISTIC_DRAWS)]
    assert figure.high - figure.value == pytest.approx(1.96 * np.std(draws, ddof=1), rel=1e-4)


def test_videos_are_resampled_whole():
    videos, reference = np.random.default_rng(0).normal(size=(50, 1, 4)), samples(1, 100, 4)
    single, repeated = (frechet_figure(np.repeat(videos, times, 1), reference) for times in (1, 8))
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.1)


def test_the_interval_is_as_wide_as_the_distances_of_other_samples_spread():
    reference = np.random.default_rng(0).normal(size=(2000, 3))
    figures = [
        frechet_figure(np.random.default_rng(seed).normal(0.5, 1, size=(300, 1, 3)), reference) for seed in range(1, 41)
    ]
    spread = np.std([figure.value for figure in figures])
    assert np.mean([figure.high - figure.value for figure in figures]) / 1.96 == pytest.approx(spread, rel=0.3)
