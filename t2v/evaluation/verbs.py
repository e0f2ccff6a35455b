"""Which verb a movement is: a nearest-centroid classifier on the measures of a path, learned from rendered clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.motion import RESOLUTION

STILL = "standing"  # the verb that hardly moves: what others are told apart from

_LENGTHS = ("path_speed", "vertical_range", "sway_range", "tilt_range", "tilt", "lean", "turn_range")
_PERIODS = ("bounce_period", "sway_period")
FEATURES = (*_LENGTHS, *(name.replace("period", "rate") for name in _PERIODS))
FEATURE_RESOLUTION = np.array([*(RESOLUTION[name] for name in _LENGTHS), *(0.25 for _ in _PERIODS)])


def features(measures: Mapping[str, float | None]) -> NDArray[np.float64]:
    """The numbers (len(FEATURES),) a verb is told by; what a path does not show is 0, a period counts as 1 / s."""
    values = [measures[name] or 0.0 for name in _LENGTHS]
    periods = [measures[name] for name in _PERIODS]
    return np.array([*values, *(1 / value if value else 0.0 for value in periods)])


@dataclass(frozen=True)
class VerbClassifier:
    """Mean of every verb in feature space, each feature divided by its spread within a verb or its resolution."""

    verbs: tuple[str, ...]
    centroids: NDArray[np.float64]  # (V, D), scaled
    scale: NDArray[np.float64]  # (D,)

    @classmethod
    def fit(
        cls, points: NDArray[np.float64], labels: Sequence[str], resolution: NDArray[np.float64] = FEATURE_RESOLUTION
    ) -> "VerbClassifier":
        """Learn from points (N, D) and the verb of each; differences below `resolution` (D,) count little."""
        verbs, names = tuple(sorted(set(labels))), np.array(labels)
        means = np.stack([points[names == verb].mean(0) for verb in verbs])
        within = (points - means[np.searchsorted(verbs, names)]).std(0)
        scale = np.maximum(within, resolution)
        return cls(verbs, means / scale, scale)

    def distances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance of points (N, D) to every verb: (N, V)."""
        return np.linalg.norm((points / self.scale)[:, None] - self.centroids, axis=-1)

    def predict(self, points: NDArray[np.float64]) -> list[str]:
        """The nearest verb of each of the points (N, D)."""
        return [self.verbs[i] for i in self.distances(points).argmin(1)]

    def nearer_than_rest(self, points: NDArray[np.float64], verb: str) -> NDArray[np.bool_] | None:
        """Whether each point (N, D) is nearer to `verb` than to standing still: (N,).

        For standing still itself: whether it is the nearest of all verbs. None when a verb to compare with is missing.
        """
        if verb not in self.verbs or STILL not in self.verbs:
            return None
        distances = self.distances(points)
        own = distances[:, self.verbs.index(verb)]
        rest = distances.min(1) if verb == STILL else distances[:, self.verbs.index(STILL)]
        return own <= rest if verb == STILL else own < rest


def leave_one_out_accuracy(
    points: NDArray[np.float64], labels: Sequence[str], resolution: NDArray[np.float64] = FEATURE_RESOLUTION
) -> float | None:
    """Share of points (N, D) whose verb a classifier names that learned from all the others; None for fewer than 2."""
    if len(labels) < 2:
        return None
    right = 0
    for i, label in enumerate(labels):
        others = [other for j, other in enumerate(labels) if j != i]
        classifier = VerbClassifier.fit(np.delete(points, i, 0), others, resolution)
        right += classifier.predict(points[i : i + 1]) == [label]
    return right / len(labels)
