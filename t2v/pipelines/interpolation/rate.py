"""A video at a higher frame rate, while it goes by: constant memory, exact times, no frame more or less."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from t2v.errors import InputError
from t2v.pipelines.interpolation.baselines import Crossfade, Hold
from t2v.pipelines.interpolation.cuts import CUT_THRESHOLD, SourceFrame, drop_repeats, mark_cuts
from t2v.pipelines.interpolation.filling import Fill, Pictures, fill_gaps

ON_CUT = ("hold", "fade", "morph", "extrapolate")
_SAME_TIME = Fraction(1, 4000)  # seconds; containers round times
_MAX_WINDOW = 8  # source frames in one window where the method sets no limit


@dataclass(frozen=True)
class RateOptions:
    """How a video gets its new rate."""

    fps: Fraction
    on_cut: str = "hold"
    dedup: bool = False  # exact repeats are made anew
    cut_threshold: float = CUT_THRESHOLD

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000:
            raise InputError(f"fps must be above 0 and at most 1000, got {float(self.fps):g}")
        if self.on_cut not in ON_CUT:
            raise InputError(f"--on-cut is one of {', '.join(ON_CUT)}, got {self.on_cut!r}")


@dataclass(frozen=True)
class OutputFrame:
    """A frame of the new video."""

    picture: Pictures
    source: int | None  # index of the source frame that it is, bit for bit; None: it is made
    at_cut: bool = False  # between two shots


def num_output_frames(duration: Fraction, fps: Fraction) -> int:
    """Frames of a video of `duration` seconds: those that begin before its end."""
    return max(1, -(-duration * fps // 1))


def raise_rate(
    frames: Iterable[SourceFrame], num_frames: int, fill: Fill, options: RateOptions
) -> Iterator[OutputFrame]:
    """`num_frames` frames at times k / fps, from source frames in order.

    A frame whose time is that of a source frame is that frame; others are made from the source frames around. After the
    last source frame it is repeated, as a player shows it until the end.
    """
    frames = mark_cuts(frames, options.cut_threshold)
    if options.dedup:
        frames = drop_repeats(frames)
    place, last = 0, None
    for window in _windows(frames, _window_size(fill, options)):
        last = window[-1]
        count = 0
        while Fraction(place + count) / options.fps < last.time - _SAME_TIME:
            count += 1
        times = [Fraction(place + i) / options.fps for i in range(min(count, num_frames - place))]
        yield from _filled(window, times, fill, options)
        place += len(times)
    assert last is not None, "a video has a frame"
    for _ in range(place, num_frames):
        yield OutputFrame(last.picture, last.index)


def _window_size(fill: Fill, options: RateOptions) -> int:
    """Source frames in a window, so that with the new ones between them they are made in one call if they can be."""
    if fill.max_frames is None:
        return _MAX_WINDOW
    return max(2, min(_MAX_WINDOW, fill.max_frames // 2))


def _windows(frames: Iterable[SourceFrame], size: int) -> Iterator[list[SourceFrame]]:
    """Runs of frames that share their first with the last of the run before; a cut is a run of two of its own."""
    window: list[SourceFrame] = []
    for frame in frames:
        if frame.after_cut and window:
            if len(window) > 1:
                yield window
            yield [window[-1], frame]
            window = [frame]
            continue
        window.append(frame)
        if len(window) == size:
            yield window
            window = [frame]
    if len(window) > 1 or (window and window[0].index == 0):
        yield window


def _filled(
    window: Sequence[SourceFrame], times: Sequence[Fraction], fill: Fill, options: RateOptions
) -> Iterator[OutputFrame]:
    """The output frames at `times`, from the first source frame of a window to before its last."""
    found = [_at(window, time) for time in times]
    wanted = [float(time) for time, source in zip(times, found, strict=True) if source is None]
    at_cut = window[-1].after_cut and len(window) == 2
    made = iter(_across_cut(window, wanted, fill, options) if at_cut else _within(window, wanted, fill))
    for source in found:
        yield OutputFrame(next(made), None, at_cut) if source is None else OutputFrame(source.picture, source.index)


def _at(window: Sequence[SourceFrame], time: Fraction) -> SourceFrame | None:
    return next((frame for frame in window if abs(frame.time - time) <= _SAME_TIME), None)


def _stacked(window: Sequence[SourceFrame]) -> tuple[Pictures, list[float]]:
    return np.stack([frame.picture for frame in window]), [float(frame.time) for frame in window]


def _within(window: Sequence[SourceFrame], times: Sequence[float], fill: Fill) -> Pictures:
    return fill_gaps(fill, *_stacked(window), times)


def _across_cut(window: Sequence[SourceFrame], times: list[float], fill: Fill, options: RateOptions) -> Pictures:
    """Frames between the last of one shot and the first of the next, as `on_cut` says."""
    known, known_times = _stacked(window)
    if not times:
        return known[:0]
    if options.on_cut == "hold":
        return Hold()(known, known_times, times)
    if options.on_cut == "fade":
        return Crossfade()(known, known_times, times)
    if options.on_cut == "morph":
        return fill_gaps(fill, known, known_times, times)
    middle = sum(known_times) / 2
    halves = [time for time in times if time < middle], [time for time in times if time >= middle]
    parts = [
        fill(known[[side]], known_times[side : side + 1], half) for side, half in enumerate(halves) if half
    ]  # forward from the old shot, backward from the new one
    return np.concatenate(parts)


def multiply(pictures: Pictures, factor: int, fill: Fill, fps: float, on_part: Callable[[int, int], None]) -> Pictures:
    """(F - 1) * factor + 1 frames of F, every factor-th of them unchanged (16 to 76 by 5 in Make-A-Video).

    Args:
        pictures: uint8 (F, H, W, C), of one shot.
        fps: of the pictures.
    """
    size = max(2, min(len(pictures), fill.max_frames or len(pictures)) // factor + 1)
    out = np.repeat(pictures[:1], (len(pictures) - 1) * factor + 1, axis=0)
    out[::factor] = pictures
    starts = list(range(0, len(pictures) - 1, size - 1))
    for done, (start, end) in enumerate(pairwise([*starts, len(pictures) - 1])):
        known_times = [place / fps for place in range(start, end + 1)]
        places = [place for place in range(start * factor, end * factor) if place % factor]
        out[places] = fill_gaps(fill, pictures[start : end + 1], known_times, [p / factor / fps for p in places])
        on_part(done + 1, len(starts))
    return out
