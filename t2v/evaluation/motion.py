"""How things move in a clip: measures of an actor's path, the foreground's centroid, and how steady the rest is."""

import math

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.matching import ActorPath

RESOLUTION: dict[str, float] = {
    "path_speed": 3.0,
    "net_speed": 2.0,
    "vertical_range": 2.0,
    "bounce_period": 0.15,
    "sway_range": 2.0,
    "sway_period": 0.15,
    "tilt_range": 6.0,
    "tilt": 3.0,
    "lean": 3.0,
    "turn_range": 0.15,
}
"""The measures, and the difference in each that is no difference: about what the method itself can tell apart.

path_speed: how far the actor goes to the left and right, px/s. net_speed: how far it ends from where it began, px/s.
vertical_range: between the highest and lowest place, px. bounce_period: of going up and down, s.
sway_range: to the left and right of an even drift, px. sway_period: s.
tilt_range: between the extremes of the angle, degrees. tilt: mean of |angle|, degrees; 90 is lying.
lean: mean angle while it goes sideways, degrees; positive leans towards where it goes.
turn_range: between the widest and the narrowest picture, as a share of the width: turning round.
"""

_LEAST_SWING = 4.0  # px: a smaller range has no period
_LEAST_SHARE = 0.5  # of the variance: what a sine wave must explain to be the period
_LONGEST_PERIOD = 4.0  # s
_FOREGROUND = (
    30.0  # 0..255: mean distance from the background, over colours, at which a pixel belongs to the foreground
)
_MARGIN = 2  # pixels round the foreground that do not count as background


def path_measures(path: ActorPath, fps: float) -> dict[str, float | None]:
    """The measures of RESOLUTION, lengths in pixels of the path; None where the path does not show one."""
    seconds = (len(path.x) - 1) / fps
    drift = np.linspace(path.x[0], path.x[-1], len(path.x))
    measures = {
        "path_speed": float(np.abs(np.diff(path.x)).sum()) / seconds,
        "net_speed": abs(float(path.x[-1] - path.x[0])) / seconds,
        "vertical_range": float(np.ptp(path.y)),
        "bounce_period": period(path.y, fps),
        "sway_range": float(np.ptp(path.x - drift)),
        "sway_period": period(path.x - drift, fps),
        "tilt_range": float(np.ptp(path.angle)),
        "tilt": float(np.abs(path.angle).mean()),
        "lean": _lean(path),
        "turn_range": float(np.ptp(np.abs(path.turn))),
    }
    return {name: None if value is None or math.isnan(value) else value for name, value in measures.items()}


def period(values: NDArray[np.float64], fps: float) -> float | None:
    """Seconds of the sine wave that fits values (F,) in pixels best; None for a small range or no wave."""
    if np.ptp(values) < _LEAST_SWING:
        return None
    times, centred = np.arange(len(values)) / fps, values - values.mean()
    frequencies = np.linspace(1 / _LONGEST_PERIOD, fps / 2.5, 100)
    left = [_unexplained(times, centred, frequency) for frequency in frequencies]
    if min(left) > (1 - _LEAST_SHARE) * float(centred @ centred):
        return None
    return 1 / float(frequencies[int(np.argmin(left))])


def _unexplained(times: NDArray[np.float64], values: NDArray[np.float64], frequency: float) -> float:
    """What is left of the sum of squares after a constant and a sine wave."""
    angle = 2 * np.pi * frequency * times
    basis = np.stack([np.sin(angle), np.cos(angle), np.ones_like(angle)], 1)
    weights = np.linalg.lstsq(basis, values, rcond=None)[0]
    return float(np.square(values - basis @ weights).sum())


def _lean(path: ActorPath) -> float:
    step = np.gradient(path.x)
    step[np.abs(step) < 1.0] = 0.0
    return float((path.angle * step).sum() / max(np.abs(step).sum(), 1.0))


def foreground_centroid(frames: NDArray[np.uint8], height: int) -> ActorPath:
    """The centroid of what differs from the clip's median background.

    Needs no picture of the actor, so it works on blurry ones; but cues beside the actor count too, and an actor that
    hardly moves is background. Frames without foreground take the place of the frame before.

    Args:
        frames: uint8 (F, H, W, 3).
        height: unit of the result: pixels of frames that are `height` high, whatever H is.
    """
    distance = _distance(frames)
    weight = np.where(distance > _FOREGROUND, distance, 0.0)
    total = weight.sum((1, 2))
    rows, columns = (np.arange(size) + 0.5 for size in frames.shape[1:3])
    unit = height / frames.shape[1]
    with np.errstate(invalid="ignore"):
        x = (weight.sum(1) @ columns) / total * unit
        y = (weight.sum(2) @ rows) / total * unit
    unseen = np.full(len(frames), np.nan)
    return ActorPath(_filled(x), _filled(y), unseen, unseen, unseen)


def _distance(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absolute difference from the median over time, over colours: (F, H, W), 0..255."""
    video = frames.astype(np.float32)
    return np.abs(video - np.median(video, axis=0)).mean(-1)


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN replaced by the value before, at the start by the first one; 0 where there is none at all."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros_like(values)
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(before, 0)]]


def frame_difference(frames: NDArray[np.uint8]) -> float:
    """Mean absolute difference of neighbouring frames (F, H, W, 3), 0..255."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def background_difference(frames: NDArray[np.uint8]) -> float | None:
    """Mean absolute difference of neighbouring frames, 0..255, where both show the background: lower is steadier.

    A pixel shows the background in a frame when neither it nor a pixel near it differs from the clip's median by more
    than a threshold. None when no pixel does. frames: uint8 (F, H, W, 3).
    """
    calm = ~_grown(_distance(frames) > _FOREGROUND)
    both = calm[1:] & calm[:-1]
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(-1)
    return float(steps[both].mean()) if both.any() else None


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (F, H, W) and the pixels round it."""
    side = 2 * _MARGIN + 1
    padded = np.pad(mask, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    near: NDArray[np.bool_] = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return np.any(near, axis=(-2, -1))
