"""What makes frames between and beyond known ones, and how more than fit into one call are made."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]
CONTEXT = 4  # frames that those beyond a clip are made from; training masks have as many at most
_STEP = 12  # frames made at once beyond a clip where the method sets no limit


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


def fill_beyond(fill: Fill, known: Pictures, known_times: Sequence[float], times: Sequence[float]) -> Pictures:
    """Frames at `times`, all after the known ones or all before them, however many: nearest ones first.

    Those that do not fit into one call are made from the ones made before; at most CONTEXT frames are looked at.
    """
    backward = bool(times) and times[0] < known_times[0]
    step = _STEP if fill.max_frames is None else max(1, fill.max_frames - CONTEXT)
    near, near_times, rest = known, list(known_times), list(times)
    made: list[Pictures] = []
    while rest:
        context = slice(None, CONTEXT) if backward else slice(-CONTEXT, None)
        near, near_times = near[context], near_times[context]
        now, rest = (rest[-step:], rest[:-step]) if backward else (rest[:step], rest[step:])
        new = fill(near, near_times, now)
        both = (new, near) if backward else (near, new)
        near, near_times = np.concatenate(both), sorted([*near_times, *now])
        made.insert(0 if backward else len(made), new)
    return np.concatenate(made) if made else known[:0]
