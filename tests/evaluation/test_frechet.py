import numpy as np
import pytest
import scipy.linalg

from t2v.evaluation.frechet import frechet_distance, gaussian_frechet_distance


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
