"""What comes before and after a clip: frames are made in steps, each from the nearest ones there are."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from t2v.pipelines.interpolation.filling import CONTEXT, Fill, Pictures, fill_beyond
from t2v.pipelines.interpolation.rate import OutputFrame


def extend_clip(
    frames: Iterable[Pictures], fps: Fraction, num_before: int, num_after: int, fill: Fill
) -> Iterator[OutputFrame]:
    """`num_before` new frames, the clip, and `num_after` new frames; the clip goes by in constant memory."""
    frames = iter(frames)
    head = [frame for _, frame in zip(range(CONTEXT), frames, strict=False)]
    assert head, "a clip has a frame"
    for picture in continue_frames(head, num_before, fps, fill, backward=True):
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
    """The next `count` frames after `context`, or those before it; in the order of the clip, as `context` is."""
    known_times = [float(index / fps) for index in range(len(context))]
    first = -count if backward else len(context)
    times = [float(index / fps) for index in range(first, first + count)]
    return list(fill_beyond(fill, np.stack(context), known_times, times))
