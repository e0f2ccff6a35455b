"""The Frechet distance between two sets of features, taken as Gaussians (arXiv 1706.08500, equation 6)."""

import numpy as np
from numpy.typing import NDArray


def gaussian_frechet_distance(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    other_mean: NDArray[np.float64],
    other_covariance: NDArray[np.float64],
) -> float:
    """Squared Frechet distance |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of means (D,) and covariances (D, D).

    The trace of the root is the sum of the singular values of C1^(1/2) C2^(1/2), which needs symmetric roots alone.
    """
    roots = _symmetric_root(covariance) @ _symmetric_root(other_covariance)
    trace_of_root = np.linalg.svd(roots, compute_uv=False).sum()
    distance = np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance)
    return float(distance - 2 * trace_of_root)


def frechet_distance(features: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Squared Frechet distance between the Gaussians of features (N, D) and (M, D), N and M at least 2.

    Fewer samples than dimensions bias it upwards: compare only distances of equal N and M.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (features, other))
    assert first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1] and min(len(first), len(second)) > 1
    return gaussian_frechet_distance(
        first.mean(0), np.cov(first, rowvar=False), second.mean(0), np.cov(second, rowvar=False)
    )


def _symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(np.atleast_2d(matrix))
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root
