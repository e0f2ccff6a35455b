"""A video at a higher frame rate, while it goes by: constant memory, exact times, no frame more or less."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise, takewhile

import numpy as np

from t2v.errors import InputError
from t2v.pipelines.interpolation.baselines import Crossfade, Hold
from t2v.pipelines.interpolation.cut_list import mark_listed
from t2v.pipelines.interpolation.cuts import CUT_THRESHOLD, SourceFrame, drop_repeats, mark_cuts
from t2v.pipelines.interpolation.filling import CONTEXT, Fill, Pictures, fill_beyond, fill_gaps

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
    cuts: tuple[Fraction, ...] | None = None  # seconds at which shots begin; None: they are looked for

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
    listed = options.cuts is not None
    frames = mark_listed(frames, options.cuts or ()) if listed else mark_cuts(frames, options.cut_threshold)
    if options.dedup:
        frames = drop_repeats(frames)
    place, last = 0, None
    for window in _windows(frames, _window_size(fill)):
        last = window.frames[-1]
        count = 0
        while Fraction(place + count) / options.fps < last.time - _SAME_TIME:
            count += 1
        times = [Fraction(place + i) / options.fps for i in range(min(count, num_frames - place))]
        yield from _filled(window, times, fill, options)
        place += len(times)
    assert last is not None, "a video has a frame"
    for _ in range(place, num_frames):
        yield OutputFrame(last.picture, last.index)


@dataclass(frozen=True)
class _Window:
    """Source frames between which frames are made; at a cut the last of a shot and the first of the next."""

    frames: list[SourceFrame]
    before: list[SourceFrame] = field(default_factory=list)  # of a cut: up to CONTEXT frames of the old shot
    after: list[SourceFrame] = field(default_factory=list)  # and of the new one

    @property
    def is_cut(self) -> bool:
        return bool(self.after)


def _window_size(fill: Fill) -> int:
    """Source frames in a window, so that with the new ones between them they are made in one call if they can be."""
    if fill.max_frames is None:
        return _MAX_WINDOW
    return max(2, min(_MAX_WINDOW, fill.max_frames // 2))


def _windows(frames: Iterable[SourceFrame], size: int) -> Iterator[_Window]:
    """Runs of frames that share their first with the last of the run before; a cut is a run of two of its own."""
    window: list[SourceFrame] = []
    shot: deque[SourceFrame] = deque(maxlen=CONTEXT)
    for frame, following in _with_following(frames, CONTEXT - 1):
        if frame.after_cut and window:
            if len(window) > 1:
                yield _Window(window)
            beginning = [frame, *takewhile(lambda later: not later.after_cut, following)]
            yield _Window([window[-1], frame], list(shot), beginning)
            window = [frame]
            shot.clear()
        else:
            window.append(frame)
            if len(window) == size:
                yield _Window(window)
                window = [frame]
        shot.append(frame)
    if len(window) > 1 or (window and window[0].index == 0):
        yield _Window(window)


def _with_following(frames: Iterable[SourceFrame], count: int) -> Iterator[tuple[SourceFrame, list[SourceFrame]]]:
    """Each frame with up to `count` that come after it."""
    waiting: deque[SourceFrame] = deque()
    for frame in frames:
        waiting.append(frame)
        if len(waiting) > count:
            yield waiting.popleft(), list(waiting)
    while waiting:
        yield waiting.popleft(), list(waiting)


def _filled(window: _Window, times: Sequence[Fraction], fill: Fill, options: RateOptions) -> Iterator[OutputFrame]:
    """The output frames at `times`, from the first source frame of a window to before its last."""
    found = [_at(window.frames, time) for time in times]
    wanted = [float(time) for time, source in zip(times, found, strict=True) if source is None]
    make = _across_cut if window.is_cut and options.on_cut != "morph" else _within
    made = iter(make(window, wanted, fill, options))
    for source in found:
        if source is None:
            yield OutputFrame(next(made), None, window.is_cut)
        else:
            yield OutputFrame(source.picture, source.index)


def _at(window: Sequence[SourceFrame], time: Fraction) -> SourceFrame | None:
    return next((frame for frame in window if abs(frame.time - time) <= _SAME_TIME), None)


def _stacked(window: Sequence[SourceFrame]) -> tuple[Pictures, list[float]]:
    return np.stack([frame.picture for frame in window]), [float(frame.time) for frame in window]


def _within(window: _Window, times: list[float], fill: Fill, options: RateOptions) -> Pictures:
    return fill_gaps(fill, *_stacked(window.frames), times)


def _across_cut(window: _Window, times: list[float], fill: Fill, options: RateOptions) -> Pictures:
    """Frames between the last of one shot and the first of the next, as `on_cut` says."""
    known, known_times = _stacked(window.frames)
    if options.on_cut == "hold" or not times:
        return Hold()(known, known_times, times)
    if options.on_cut == "fade":
        return Crossfade()(known, known_times, times)
    middle = sum(known_times) / 2  # the old shot goes on until there, the new one begins there
    old = fill_beyond(fill, *_stacked(window.before), [time for time in times if time < middle])
    new = fill_beyond(fill, *_stacked(window.after), [time for time in times if time >= middle])
    return np.concatenate([old, new])


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
