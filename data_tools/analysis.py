"""One pass over the frames of a file at a small size, shared by everything that looks at all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from data_tools.probe import reason_of
from t2v.data.manifest import ClipRow
from t2v.data.video_io import VideoInfo, VideoReader
from t2v.errors import InputError

LONG_SIDE = 256  # pixels


class Observer(Protocol):
    """Something that is shown all frames in order: uint8 (H, W, 3)."""

    def add(self, frame: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Watched:
    """What the frames of a file were, up to the first that does not decode."""

    info: VideoInfo
    timestamps: np.ndarray  # seconds from the first frame, float64 (F,)
    end: float  # of the last frame
    damage: str | None = None  # why the frames after that cannot be had

    def rest_of(self, row: ClipRow) -> list[ClipRow]:
        """The part of the file that does not decode, as a row with the reason; none where all does."""
        if self.damage is None:
            return []
        lost = self.info.num_frames - len(self.timestamps)
        return [replace(row, start=self.end, end=self.info.duration, num_frames=lost, error=self.damage)]


def watch(path: Path, observers: Sequence[Observer]) -> Watched:
    """Show every frame that decodes to the observers.

    Raises:
        InputError: there is no such frame; the message is the reason, without the path.
    """
    seen, damage = 0, None
    try:
        with VideoReader(path, threads=1) as reader:
            known, info, timestamps = reader.indexed, reader.info, reader.timestamps
        with VideoReader(path, threads=1, size=small_size(info.width, info.height), known=known) as reader:
            for frame in reader:
                for observer in observers:
                    observer.add(frame)
                seen += 1
    except InputError as error:
        damage = reason_of(error, path)
        if not seen:
            raise InputError(damage) from error
    end = info.duration if seen == info.num_frames else float(timestamps[seen])
    return Watched(info, timestamps[:seen], end, damage)


def unwatched(path: Path) -> Watched:
    """The same from the packets of a file, without decoding: damage is not found."""
    try:
        with VideoReader(path, threads=1) as reader:
            return Watched(reader.info, reader.timestamps, reader.info.duration)
    except InputError as error:
        raise InputError(reason_of(error, path)) from error


def small_size(width: int, height: int) -> tuple[int, int]:
    """The size with the same proportions whose long side is LONG_SIDE; smaller pictures keep theirs."""
    scale = min(1.0, LONG_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
