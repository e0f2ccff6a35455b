"""What comes before and after a clip: frames are made in steps, each from the nearest ones there are."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from t2v.pipelines.interpolation.filling import Fill, Pictures
from t2v.pipelines.interpolation.rate import OutputFrame

CONTEXT = 4  # frames of the clip that the next ones are made from; training masks have as many at most
_STEP = 12  # frames made at once where the method sets no limit


def extend_clip(
    frames: Iterable[Pictures], fps: Fraction, num_before: int, num_after: int, fill: Fill
) -> Iterator[OutputFrame]:
    """`num_before` new frames, the clip, and `num_after` new frames; the clip goes by in constant memory."""
    frames = iter(frames)
    head = [frame for _, frame in zip(range(CONTEXT), frames, strict=False)]
    assert head, "a clip has a frame"
    for picture in reversed(continue_frames(head[::-1], num_before, fps, fill, backward=True)):
        yield OutputFrame(picture, None)
    tail: deque[Pictures] = deque(maxlen=CONTEXT)
    index = -1
    for index, picture in enumerate(_chained(head, frames)):
        tail.append(picture)
        yield OutputFrame(picture, index)
    for picture in continue_frames(list(tail), num_after, fps, fill):
        yield OutputFrame(picture, None)


def _chained(head: list[Pictures], rest: Iterator[Pictures]) -> Iterator[Pictures]:
    while head:
        yield head.pop(0)
    yield from rest


def continue_frames(
    context: list[Pictures], count: int, fps: Fraction, fill: Fill, backward: bool = False
) -> list[Pictures]:
    """The next `count` frames after `context`, nearest first. Backward, both are in order of distance from the clip.

    Args:
        context: frames of the clip, the last of them is the one that is gone on from.
    """
    made: list[Pictures] = []
    recent = context[-CONTEXT:]
    step = _STEP if fill.max_frames is None else max(1, fill.max_frames - CONTEXT)
    while len(made) < count:
        number = min(step, count - len(made))
        known_times = [index / float(fps) for index in range(len(recent))]
        times = [(len(recent) + index) / float(fps) for index in range(number)]
        new = _reversed(fill, recent, known_times, times) if backward else fill(np.stack(recent), known_times, times)
        made += list(new)
        recent = [*recent, *new][-CONTEXT:]
    return made


def _reversed(fill: Fill, recent: list[Pictures], known_times: list[float], times: list[float]) -> Pictures:
    """Call a method with time running as in the clip, for frames that are listed from its start outwards."""
    end = times[-1]
    known = np.stack(recent[::-1])
    made = fill(known, [end - time for time in reversed(known_times)], [end - time for time in reversed(times)])
    return made[::-1]
