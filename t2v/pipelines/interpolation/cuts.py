"""Where one shot ends and another begins, and which frames repeat the one before: told while the frames go by."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v.pipelines.interpolation.filling import Pictures

CUT_THRESHOLD = 27.0  # mean difference of hue, saturation and value, each 0 to 255, as PySceneDetect's default
_STANDS_OUT = 3.0  # a cut's difference is that many times those of its neighbours; fast pans have large ones throughout
_THUMBNAIL = (64, 64)
_LOOK_AHEAD = 2  # frames
MAX_REPEATS = 3  # more equal frames than this in a row are a picture that stands still


@dataclass(frozen=True)
class SourceFrame:
    """A frame of the video that is read."""

    index: int
    time: Fraction  # seconds
    picture: Pictures
    after_cut: bool = False  # the first of its shot


def mark_cuts(frames: Iterable[SourceFrame], threshold: float = CUT_THRESHOLD) -> Iterator[SourceFrame]:
    """The same frames, those that begin a shot marked as such.

    A cut is a difference to the frame before that is large, stands out among its neighbours, and is no flash: after a
    flash the picture is as before. Holds no more than a few frames.
    """
    waiting: deque[SourceFrame] = deque()
    thumbnails: dict[int, NDArray[np.float32]] = {}
    differences: dict[int, float] = {}

    def is_cut(index: int) -> bool:
        own = differences.get(index, 0.0)
        if own <= threshold:
            return False
        near = [differences[i] for i in range(index - 2, index + 3) if i != index and i in differences]
        if near and own < _STANDS_OUT * float(np.mean(near)):
            return False
        return not any(
            _difference(thumbnails[before], thumbnails[after]) <= threshold / 2
            for before, after in ((index - 1, index + 1), (index - 2, index))  # into a flash, out of a flash
            if before in thumbnails and after in thumbnails
        )

    for frame in frames:
        thumbnails[frame.index] = _thumbnail(frame.picture)
        if frame.index - 1 in thumbnails:
            differences[frame.index] = _difference(thumbnails[frame.index - 1], thumbnails[frame.index])
        waiting.append(frame)
        if len(waiting) > _LOOK_AHEAD:
            first = waiting.popleft()
            yield replace(first, after_cut=is_cut(first.index))
            thumbnails.pop(first.index - 2, None)
            differences.pop(first.index - 2, None)
    for first in waiting:
        yield replace(first, after_cut=is_cut(first.index))


def _thumbnail(picture: Pictures) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(picture[..., :3])).resize(_THUMBNAIL, Image.Resampling.BOX)
    return np.asarray(image.convert("HSV"), np.float32)


def _difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean absolute difference over hue (a circle), saturation and value."""
    apart = np.abs(first - second)
    apart[..., 0] = np.minimum(apart[..., 0], 256 - apart[..., 0])
    return float(apart.mean())


def drop_repeats(frames: Iterable[SourceFrame]) -> Iterator[SourceFrame]:
    """The frames without exact repeats of the one before, where at most `MAX_REPEATS` follow each other.

    Repeats at the end of a shot stay, and so does a picture that stands still for longer. Holds no more than a few
    frames.
    """
    run: list[SourceFrame] = []  # repeats of the last frame that was given
    last: SourceFrame | None = None
    standing = False
    for frame in frames:
        if last is not None and not frame.after_cut and np.array_equal(frame.picture, last.picture):
            run.append(frame)
            if standing or len(run) > MAX_REPEATS:
                standing = True
                yield from run
                run = []
            continue
        if frame.after_cut:
            yield from run
        run, standing, last = [], False, frame
        yield frame
    yield from run
