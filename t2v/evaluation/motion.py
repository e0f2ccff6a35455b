"""How things move in a clip: measures of an actor's path, the foreground's centroid, and how steady the rest is."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.matching import ActorPath

RESOLUTION: dict[str, float] = {
    "path_speed": 3.0,
    "net_speed": 2.0,
    "vertical_range": 2.0,
    "bounce_period": 0.15,
    "sway_range": 3.0,
    "sway_period": 0.15,
    "tilt_range": 6.0,
    "tilt": 3.0,
    "lean": 3.0,
    "turn_range": 0.15,
}
"""The measures, and the difference in each that is no difference: about what the method itself can tell apart.

path_speed: how far the actor goes to the left and right, px/s. net_speed: how far it ends from where it began, px/s.
vertical_range: between the highest and lowest place, px. bounce_period: of going up and down, s.
sway_range: of swinging to the left and right at least every 1.6 s, px; slower turning round is no sway. sway_period: s.
tilt_range: between the extremes of the angle, degrees. tilt: mean of |angle|, degrees; 90 is lying.
lean: mean angle while it goes sideways, degrees; positive leans towards where it goes.
turn_range: between the widest and the narrowest picture, as a share of the width: turning round.
"""

_LEAST_SWING = 4.0  # px: a smaller range has no period
_LEAST_SHARE = 0.5  # of the variance: what a sine wave must explain to be the period
_LONGEST_PERIOD = 4.0  # s
_LONGEST_SWAY = 1.6  # s
_FOREGROUND = (
    30.0  # 0..255: mean distance from the background, over colours, at which a pixel belongs to the foreground
)
_MARGIN = 2  # pixels round the foreground that do not count as background


def path_measures(path: ActorPath, fps: float) -> dict[str, float | None]:
    """The measures of RESOLUTION, lengths in pixels of the path; None where the path does not show one."""
    seconds = (len(path.x) - 1) / fps
    sway_range, sway_period = _sway(path.x, fps)
    measures = {
        "path_speed": float(np.abs(np.diff(path.x)).sum()) / seconds,
        "net_speed": abs(float(path.x[-1] - path.x[0])) / seconds,
        "vertical_range": float(np.ptp(path.y)),
        "bounce_period": period(path.y, fps),
        "sway_range": sway_range,
        "sway_period": sway_period,
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
    wave = _best_wave(values, fps, _LONGEST_PERIOD, degree=0)
    return 1 / wave.frequency if wave.share >= _LEAST_SHARE else None


def _sway(x: NDArray[np.float64], fps: float) -> tuple[float, float | None]:
    """Range in pixels and period in seconds of the quick wave in x (F,), beside a drift that may turn round."""
    wave = _best_wave(x, fps, _LONGEST_SWAY, degree=2)
    is_wave = wave.range >= _LEAST_SWING and wave.share >= _LEAST_SHARE
    return wave.range, 1 / wave.frequency if is_wave else None


@dataclass(frozen=True)
class _Wave:
    range: float  # twice the amplitude
    frequency: float  # Hz
    share: float  # of what a polynomial leaves, the part that the wave explains


def _best_wave(values: NDArray[np.float64], fps: float, longest_period: float, degree: int) -> _Wave:
    """The sine wave that, added to a polynomial, is nearest to values (F,)."""
    times = np.arange(len(values)) / fps
    drift = np.vander(times, degree + 1)
    steady, _ = _fit(drift, values)
    best = _Wave(0.0, 1 / longest_period, 0.0)
    for frequency in np.linspace(1 / longest_period, fps / 2.5, 100):
        angle = 2 * np.pi * frequency * times
        left, weights = _fit(np.column_stack([np.sin(angle), np.cos(angle), drift]), values)
        share = 1 - left / steady if steady > 1e-9 else 0.0
        if share > best.share:
            best = _Wave(2 * math.hypot(weights[0], weights[1]), float(frequency), share)
    return best


def _fit(basis: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Sum of squares left by the least-squares fit of values (F,) by basis (F, N), and its weights (N,)."""
    weights: NDArray[np.float64] = np.linalg.lstsq(basis, values, rcond=None)[0].astype(np.float64)
    return float(np.square(values - basis @ weights).sum()), weights


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

    None when no pixel does. frames: uint8 (F, H, W, 3).
    """
    mask = background_mask(frames)
    both = mask[1:] & mask[:-1]
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(-1)
    return float(steps[both].mean()) if both.any() else None


def background_mask(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where frames (F, H, W, 3) show the background: (F, H, W).

    There neither the pixel nor one near it differs from the clip's median by more than a threshold. What hardly moves
    is background too.
    """
    return ~_grown(_distance(frames) > _FOREGROUND)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (F, H, W) and the pixels round it."""
    side = 2 * _MARGIN + 1
    padded = np.pad(mask, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    near: NDArray[np.bool_] = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return np.any(near, axis=(-2, -1))
