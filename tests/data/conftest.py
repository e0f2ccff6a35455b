"""Videos whose frames tell which they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2v.data.video_io import write_video


def write_numbered(path: Path, num_frames: int = 12, size: tuple[int, int] = (32, 32)) -> Path:
    """A video of 24 frames a second, or a folder of pictures; frame i is of grey level 20 + 10 i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.arange(num_frames) * 10 + 20
    frames = np.broadcast_to(levels[:, None, None, None], (num_frames, *size, 3))
    return write_video(path, frames.astype(np.uint8), 24)


@pytest.fixture
def numbered() -> Callable[..., Path]:
    return write_numbered


@pytest.fixture
def numbers() -> Callable[[np.ndarray], list[int]]:
    """Which frames of such a video these are."""

    def read(frames: np.ndarray) -> list[int]:
        return np.round((frames.reshape(len(frames), -1).mean(1) - 20) / 10).astype(int).tolist()

    return read
