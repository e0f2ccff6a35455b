"""The Frechet distance between two sets of features, taken as Gaussians (arXiv 1706.08500, equation 6)."""

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.intervals import Figure, statistic_figure


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


def frechet_figure(features: NDArray[np.floating], reference: NDArray[np.floating], seed: int = 0) -> Figure:
    """Frechet distance of all frames of videos (N, F, D) to reference features (M, D), with its interval.

    Videos are resampled whole, for their frames are alike; the reference stays as it is. Resampling is done in the
    type of the features, of which it holds three copies.
    """
    videos = np.asarray(features)
    mean, root = (
        reference.mean(0, dtype=np.float64),
        _symmetric_root(np.cov(reference.astype(np.float64), rowvar=False)),
    )
    spread, turned = np.square(root).sum(), videos @ root.astype(videos.dtype)

    def distance(chosen: NDArray[np.intp]) -> float:
        """As in `gaussian_frechet_distance`; the trace from X C2^(1/2), X the centred features, over their number."""
        own, products = (values[chosen].reshape(-1, values.shape[-1]) for values in (videos, turned))
        scale = len(own) - 1
        products = (products - products.mean(0)) / np.sqrt(scale)
        gram = products.T @ products if len(own) > own.shape[1] else products @ products.T
        trace_of_root = np.sqrt(np.linalg.eigvalsh(gram).clip(0)).sum()
        own_spread = np.square(own - own.mean(0)).sum() / scale
        return float(np.square(own.mean(0) - mean).sum() + own_spread + spread - 2 * trace_of_root)

    value = frechet_distance(videos.reshape(-1, videos.shape[-1]), reference)
    return statistic_figure(value, distance, len(videos), seed)


def _symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(np.atleast_2d(matrix))
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root
