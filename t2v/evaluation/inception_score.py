"""The inception score: how sure a classifier is of each picture, and how many kinds of pictures there are."""

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.intervals import Figure, statistic_figure

NUM_SPLITS = 10  # of the published figures; fewer pictures in a part make a lower score


def inception_score(logits: NDArray[np.floating], num_splits: int = 1) -> float:
    """exp(E KL(p(y|x) || p(y))) of a classifier's logits (N, C) (arXiv 1606.03498, section 4), at least 1.

    Args:
        num_splits: the mean over so many consecutive parts of the pictures; at most N.
    """
    return float(np.mean([_score(part) for part in np.array_split(np.asarray(logits, np.float64), num_splits)]))


def inception_score_figure(logits: NDArray[np.floating], num_splits: int, seed: int = 0) -> Figure:
    """Score of all frames of videos (N, F, C), shuffled video by video, with its interval by resampling videos."""

    def score(chosen: NDArray[np.intp]) -> float:
        return inception_score(logits[chosen].reshape(-1, logits.shape[-1]), num_splits)

    value = score(np.random.default_rng(seed).permutation(len(logits)))
    return statistic_figure(value, score, len(logits), seed)


def _score(logits: NDArray[np.float64]) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    probabilities = np.exp(log_probabilities)
    log_marginal = np.log(probabilities.mean(0).clip(1e-300))
    return float(np.exp((probabilities * (log_probabilities - log_marginal)).sum(1).mean()))
