"""What makes frames between and beyond known ones, and how a gap that is too long for one call is filled."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]


class Fill(Protocol):
    """A method of making frames."""

    max_frames: int | None  # known and new ones together in one call; None: no limit

    def __call__(self, known: Pictures, known_times: Sequence[float], times: Sequence[float], /) -> Pictures:
        """Frames at `times`.

        Args:
            known: uint8 (K, H, W, C), C 3 or 4 (with alpha).
            known_times: seconds, ascending.
            times: seconds, ascending, none of them of a known frame; before, between or after those.

        Returns: uint8 (N, H, W, C).
        """


def fill_gaps(fill: Fill, known: Pictures, known_times: Sequence[float], times: Sequence[float]) -> Pictures:
    """Frames at `times`, all of them between known ones, however many: coarse ones first, then those between them."""
    if not times:
        return known[:0]
    limit = fill.max_frames
    if limit is None or len(known) + len(times) <= limit:
        return fill(known, known_times, times)
    if len(known) > 2:
        return _each_gap(fill, known, known_times, times)
    coarse = sorted({round(place) for place in np.linspace(0, len(times) - 1, limit)[1:-1]})
    made = fill(known, known_times, [times[place] for place in coarse])
    all_times = [known_times[0], *(times[place] for place in coarse), known_times[1]]
    everything = np.concatenate([known[:1], made, known[1:]])
    rest = [time for place, time in enumerate(times) if place not in set(coarse)]
    finer = _each_gap(fill, everything, all_times, rest)
    out = np.empty((len(times), *known.shape[1:]), np.uint8)
    out[coarse] = made
    out[[place for place in range(len(times)) if place not in set(coarse)]] = finer
    return out


def _each_gap(fill: Fill, known: Pictures, known_times: Sequence[float], times: Sequence[float]) -> Pictures:
    parts = [known[:0]]
    for place in range(len(known) - 1):
        start, end = known_times[place : place + 2]
        inside = [time for time in times if start < time < end]
        parts.append(fill_gaps(fill, known[place : place + 2], (start, end), inside))
    return np.concatenate(parts)
