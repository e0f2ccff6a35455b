"""Where one shot ends and the next begins: hard cuts by PySceneDetect's adaptive detector, checked against flashes, and
gradual transitions.

Frames go in one by one at a small size; of each a thumbnail of 144 bytes is kept (15 MB for an hour of video).
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

THUMBNAIL = (16, 9)  # width, height
_DETECTED = (128, 72)  # size at which PySceneDetect compares frames; larger finds the same cuts
_START = FrameTimecode(0, 25.0)  # the rate is only to count frames in PySceneDetect's unit


@dataclass(frozen=True, order=True)
class Transition:
    """Frames start..end-1 belong to neither shot; a hard cut has none: start == end is the first frame of the next."""

    start: int
    end: int
    kind: str  # cut, fade or dissolve


@dataclass(frozen=True)
class ShotOptions:
    """What counts as a transition. Grey levels are 0 to 255."""

    adaptive_threshold: float = 2.0  # change of a frame over the mean change of its neighbours
    min_change: float = 6.0  # least change of a frame, mean of hue, saturation and value
    gradual: bool = True


class ShotFinder:
    """Feed all frames of a video to `add`, then ask for the `transitions`."""

    def __init__(self, options: ShotOptions) -> None:
        self._options = options
        self._detector = AdaptiveDetector(
            adaptive_threshold=options.adaptive_threshold, min_scene_len=1, min_content_val=options.min_change
        )
        self._candidates: list[int] = []
        self._num_frames = 0
        self._thumbnails = bytearray()
        self._colors = array("f")

    def add(self, frame: np.ndarray) -> None:
        """The next frame: uint8 RGB (H, W, 3)."""
        small = cv2.resize(frame, _DETECTED, interpolation=cv2.INTER_AREA)
        time = _START + self._num_frames
        self._num_frames += 1
        bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        self._candidates += [cut.frame_num for cut in self._detector.process_frame(time, bgr)]
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        self._thumbnails += cv2.resize(gray, THUMBNAIL, interpolation=cv2.INTER_AREA).tobytes()
        self._colors.extend(cv2.mean(small)[:3])

    def transitions(self, fps: float) -> list[Transition]:
        """In order, apart from each other. `fps` is the frame rate, which sets how long a flash may last."""
        thumbnails = np.frombuffer(self._thumbnails, np.uint8).reshape(self._num_frames, -1)
        gradual: list[Transition] = []
        if self._options.gradual:
            gradual = _without_overlaps(fades(thumbnails, fps) + dissolves(thumbnails, fps))
        colors = np.frombuffer(self._colors, np.float32).reshape(-1, 3)
        cuts = [Transition(cut, cut, "cut") for cut in self._candidates if is_cut(thumbnails, colors, cut, fps)]
        hard = [cut for cut in cuts if not any(other.start <= cut.start <= other.end for other in gradual)]
        return sorted(gradual + hard)


_SAME_STRUCTURE = 0.8  # correlation of two thumbnails that show one picture, moved a little or in other light
_OTHER_COLOR = 12.0  # grey levels by which the change of mean red, green and blue may differ in such a pair
_FLASH_SECONDS = 0.25
_RETURN = 0.4  # change between two pictures around a flash, over the change at its edge


def is_cut(thumbnails: np.ndarray, colors: np.ndarray, cut: int, fps: float) -> bool:
    """Whether the picture really becomes another one at frame `cut`: not one in other light, nor back again at once.

    thumbnails: uint8 (F, N); colors: mean red, green and blue of the frames, (F, 3).
    """
    reach = 1 + max(3, round(_FLASH_SECONDS * fps))
    before = thumbnails[max(0, cut - reach) : cut].astype(np.float32)
    after = thumbnails[cut : cut + reach].astype(np.float32)
    shift = colors[cut] - colors[cut - 1]
    is_other_color = np.ptp(shift) > max(_OTHER_COLOR, abs(shift.mean()))  # a flash changes light more than colour
    if not is_other_color and correlation(before[-1], after[0]) > _SAME_STRUCTURE:
        return False
    change = _RETURN * np.abs(after[0] - before[-1]).mean()
    stays = np.abs(after[1:] - before[-1]).mean(1).min(initial=np.inf) > change
    is_new = np.abs(before[:-1] - after[0]).mean(1).min(initial=np.inf) > change
    return bool(stays and is_new)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two pictures, 0 where one is flat."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-3 else 0.0


_FLAT = 4.0  # standard deviation of the thumbnail of a frame of one colour
_DARK, _BRIGHT = 40, 215  # a flat frame between these is more likely a sky than a fade
_LONG_FADE = 2.0  # seconds


def fades(thumbnails: np.ndarray, fps: float) -> list[Transition]:
    """Flat stretches (black, white) with the frames around them that come from or go to them gradually."""
    levels = thumbnails.mean(1, dtype=np.float32)
    flat = (thumbnails.std(1, dtype=np.float32) < _FLAT) & ((levels < _DARK) | (levels > _BRIGHT))
    reach = round(_LONG_FADE * fps)
    found = []
    for start, end in _runs(flat):
        first = _ramp(levels, start, -1, reach)
        last = _ramp(levels, end - 1, 1, reach)
        if first == start and last == end - 1:
            continue  # hard on both sides
        if end - start > reach:  # long enough to be a shot of its own
            found += [Transition(first, start, "fade"), Transition(end, last + 1, "fade")]
        else:
            found.append(Transition(first, last + 1, "fade"))
    return [fade for fade in found if fade.end > fade.start]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of the stretches where mask holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


_MIN_STEP = 0.4  # grey levels per frame of a fade
_MAX_STEP = 40.0


def _ramp(levels: np.ndarray, place: int, direction: int, reach: int) -> int:
    """The farthest frame from `place` to which the level moves steadily away from the flat one."""
    away = 0.0
    end = place
    while 0 <= end + direction < len(levels) and abs(end - place) < reach:
        step = float(levels[end + direction] - levels[end])
        if not _MIN_STEP <= abs(step) <= _MAX_STEP or step * away < 0:
            break
        away, end = step, end + direction
    return end if abs(end - place) >= 3 else place


_HALF_LENGTHS = (0.3, 0.5, 0.8)  # seconds from the middle of a dissolve to its ends
_MIN_CHANGE = 10.0  # grey levels between both ends
_MAX_RESIDUE = 0.25  # distance of a frame from the mixture of both ends, over the distance of the ends
_MAX_CORRELATION = 0.7  # of both ends: more is one picture in other light


def dissolves(thumbnails: np.ndarray, fps: float) -> list[Transition]:
    """Stretches whose frames are mixtures of both ends, which are different pictures."""
    found = []
    for seconds in _HALF_LENGTHS:
        half = max(3, round(seconds * fps))
        for middle in _middles(thumbnails, half):
            start = middle - half
            window = thumbnails[start : middle + half + 1].astype(np.float32)
            if correlation(window[0], window[-1]) > _MAX_CORRELATION:
                continue
            around = thumbnails[[max(0, start - half), min(len(thumbnails) - 1, middle + 2 * half)]]
            if _is_steady(window, around) and (inner := _mixtures(window)):
                found.append(Transition(start + inner[0], start + inner[1], "dissolve"))
    return found


def _is_steady(window: np.ndarray, around: np.ndarray) -> bool:
    """Whether the pictures before and after change less than the window does: a slow camera move goes on."""
    change = np.abs(window[-1] - window[0]).mean()
    return bool(np.abs(window[[0, -1]] - around).mean(1).max() < 0.5 * change)


def _middles(thumbnails: np.ndarray, half: int, block: int = 4096) -> list[int]:
    """Frames that differ least from the mean of those `half` before and after, where these differ from each other."""
    middles: list[int] = []
    for first in range(half, len(thumbnails) - half, block):
        last = min(first + block, len(thumbnails) - half)
        before = thumbnails[first - half : last - half].astype(np.float32)
        after = thumbnails[first + half : last + half].astype(np.float32)
        change = np.abs(after - before).mean(1)
        residue = np.abs(thumbnails[first:last] - (before + after) / 2).mean(1) / np.maximum(change, 1e-3)
        good = (change > _MIN_CHANGE) & (residue < _MAX_RESIDUE)
        middles += [first + start + int(residue[start:end].argmin()) for start, end in _runs(good)]
    return middles


def _mixtures(window: np.ndarray) -> tuple[int, int] | None:
    """(first, after the last) of the frames between both ends, None unless all are mixtures in steady proportion."""
    first, direction = window[0], window[-1] - window[0]
    share = (window - first) @ direction / (direction @ direction)
    residue = np.linalg.norm(window - first - share[:, None] * direction, axis=1) / np.linalg.norm(direction)
    steps = np.diff(share)
    if residue.max() > _MAX_RESIDUE or steps.min() < -0.05 or steps.max() > 0.4:
        return None
    inside = np.flatnonzero((share > 0.03) & (share < 0.97))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) >= 3 else None


def _without_overlaps(transitions: list[Transition]) -> list[Transition]:
    """Those that overlap become one, of the first one's kind."""
    merged: list[Transition] = []
    for transition in sorted(transitions):
        if merged and transition.start <= merged[-1].end:
            last = merged.pop()
            transition = Transition(last.start, max(last.end, transition.end), last.kind)
        merged.append(transition)
    return merged


def shots(transitions: Sequence[Transition], num_frames: int) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of every stretch between the transitions."""
    edges = [0, *(edge for transition in transitions for edge in (transition.start, transition.end)), num_frames]
    pairs = list(pairwise(edges))[::2]
    return [(start, end) for start, end in pairs if end > start]
