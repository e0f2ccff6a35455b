"""Whether motion knows the frame rate: at half the rate, things go twice as far from one frame to the next."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from t2v.evaluation.motion import foreground_centroid, frame_difference

RATES = (4.0, 6.0, 8.0, 12.0, 16.0, 24.0)  # frames per second that are compared
MEASURES = ("displacement", "frame_difference")


def displacement(frames: NDArray[np.uint8]) -> float:
    """Pixels that the foreground's centroid goes from frame to frame, mean of uint8 (F, H, W, 3).

    Too small for what stays mostly in one place: there it is taken for background.
    """
    path = foreground_centroid(frames, frames.shape[1])
    return float(np.hypot(np.diff(path.x), np.diff(path.y)).mean())


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman's correlation of two equally long sequences, ties at their mean rank; None where one is constant."""
    x, y = _ranks(np.asarray(a)), _ranks(np.asarray(b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else None


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[places]


def evaluate_rates(videos: Iterable[tuple[str, float, NDArray[np.uint8]]]) -> dict[str, Any]:
    """How motion from frame to frame follows the time between frames.

    Args:
        videos: name, frames per second, and uint8 (F, H, W, 3); every name at the same rates.
    Returns: for each of MEASURES `mean`, by rate; `of_means`, the rank correlation of these means with 1 / fps; and
        `of_videos`, the mean over the names of each one's own rank correlation. Then `videos`, all measurements.
    """
    rows = [
        {"name": name, "fps": fps, "displacement": displacement(frames), "frame_difference": frame_difference(frames)}
        for name, fps, frames in videos
    ]
    return {**{measure: _follow(rows, measure) for measure in MEASURES}, "videos": rows}


def _follow(rows: Sequence[dict[str, Any]], measure: str) -> dict[str, Any]:
    rates = sorted({row["fps"] for row in rows})
    means = [float(np.mean([row[measure] for row in rows if row["fps"] == fps])) for fps in rates]
    own = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        own.append(rank_correlation([row[measure] for row in mine], [1 / row["fps"] for row in mine]))
    known = [value for value in own if value is not None]
    return {
        "mean": dict(zip(map(str, rates), means, strict=True)),
        "of_means": rank_correlation(means, [1 / fps for fps in rates]),
        "of_videos": float(np.mean(known)) if known else None,
    }
