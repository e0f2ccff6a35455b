"""One pass over the frames of a file at a small size, shared by everything that looks at all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from t2v.data.video_io import VideoInfo, VideoReader

LONG_SIDE = 256  # pixels


class Observer(Protocol):
    """Something that is shown all frames in order: uint8 (H, W, 3)."""

    def add(self, frame: np.ndarray) -> None: ...


def watch(path: Path, observers: Sequence[Observer]) -> tuple[VideoInfo, np.ndarray]:
    """Show every frame to the observers; facts about the file and the times of its frames.

    Raises:
        InputError: the file cannot be read to its end.
    """
    with VideoReader(path, threads=1) as reader:
        known, info, timestamps = reader.indexed, reader.info, reader.timestamps
    with VideoReader(path, threads=1, size=small_size(info.width, info.height), known=known) as reader:
        for frame in reader:
            for observer in observers:
                observer.add(frame)
    return info, timestamps


def small_size(width: int, height: int) -> tuple[int, int]:
    """The size with the same proportions whose long side is LONG_SIDE; smaller pictures keep theirs."""
    scale = min(1.0, LONG_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
