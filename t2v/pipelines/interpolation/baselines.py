"""Ways to fill in frames that need no model: what the interpolation network is compared with."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.errors import InputError
from t2v.pipelines.interpolation.filling import Fill, Pictures


class Hold:
    """The known frame that is nearest in time; half-way between two, the later one."""

    max_frames: int | None = None

    def __call__(self, known: Pictures, known_times: Sequence[float], times: Sequence[float], /) -> Pictures:
        middles = [(before + after) / 2 for before, after in pairwise(known_times)]
        return known[np.searchsorted(middles, times, side="right")]


class Crossfade:
    """The mean of the two neighbours, weighted by nearness in time; beyond the ends, the last known frame."""

    max_frames: int | None = None

    def __call__(self, known: Pictures, known_times: Sequence[float], times: Sequence[float], /) -> Pictures:
        return np.stack([_to_uint8(_blend(known, place)) for place in _places(known_times, times)])


class Flow:
    """Both neighbours, moved along the optical flow between them, then cross-faded; beyond the ends, moved on.

    The flow is that of Dense Inverse Search (arXiv 1603.03590), by OpenCV. Motion is taken as uniform.
    """

    max_frames: int | None = None

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError:
            raise InputError('optical flow needs OpenCV: pip install "t2v[flow]"') from None
        self._cv2: Any = cv2

    def __call__(self, known: Pictures, known_times: Sequence[float], times: Sequence[float], /) -> Pictures:
        if len(known) == 1:
            return known[[0] * len(times)]
        flows: dict[int, tuple[Any, Any]] = {}
        frames = []
        for time in times:
            pair = int(np.clip(np.searchsorted(known_times, time, side="right") - 1, 0, len(known) - 2))
            if pair not in flows:
                flows[pair] = self._flow(known[pair], known[pair + 1]), self._flow(known[pair + 1], known[pair])
            start, end = known_times[pair : pair + 2]
            frames.append(self._between(known[pair], known[pair + 1], *flows[pair], (time - start) / (end - start)))
        return np.stack(frames)

    def _flow(self, first: Pictures, second: Pictures) -> NDArray[np.float32]:
        """Where each pixel of the first picture is in the second: (H, W, 2), pixels right and down."""
        grey = [self._cv2.cvtColor(np.ascontiguousarray(p[..., :3]), self._cv2.COLOR_RGB2GRAY) for p in (first, second)]
        if min(grey[0].shape) < _SMALLEST_FLOW:
            return np.zeros((*grey[0].shape, 2), np.float32)
        search = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return np.asarray(search.calc(*grey, None))

    def _between(self, first: Pictures, second: Pictures, forward: Any, backward: Any, share: float) -> Pictures:
        """The picture at `share` of the way from the first to the second, outside 0 to 1 from the nearer one alone."""
        moved_first = self._moved(first, -share * forward)
        moved_second = self._moved(second, -(1 - share) * backward)
        weight = min(max(share, 0.0), 1.0)
        return _to_uint8((1 - weight) * moved_first.astype(np.float64) + weight * moved_second)

    def _moved(self, picture: Pictures, offsets: NDArray[np.float32]) -> Any:
        """The picture read at each pixel's place plus its offset."""
        height, width = picture.shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        places = (x + offsets[..., 0]).astype(np.float32), (y + offsets[..., 1]).astype(np.float32)
        return self._cv2.remap(picture, *places, self._cv2.INTER_LINEAR, borderMode=self._cv2.BORDER_REPLICATE)


_SMALLEST_FLOW = 16  # pixels of a side; the search needs a few patches

BASELINES: dict[str, Callable[[], Fill]] = {"crossfade": Crossfade, "hold": Hold, "flow": Flow}


def _places(known_times: Sequence[float], times: Sequence[float]) -> list[float]:
    """Where among the known frames each time lies, as a fractional index."""
    return np.interp(times, known_times, np.arange(len(known_times))).tolist()


def _blend(known: Pictures, place: float) -> NDArray[np.float64]:
    before = int(place)
    after, weight = min(before + 1, len(known) - 1), place - before
    return (1 - weight) * known[before].astype(np.float64) + weight * known[after]


def _to_uint8(values: NDArray[np.float64]) -> Pictures:
    return values.round().clip(0, 255).astype(np.uint8)
