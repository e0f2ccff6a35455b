"""A finished video in memory. Free of torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.data.video_io import EncodeOptions, write_video
from t2v.errors import InputError

ENCODER_THREADS = 4  # a fixed number: the bytes of a file do not depend on how many cores there are


@dataclass(frozen=True, eq=False)
class Video:
    """Frames, how fast they play, and how they were made."""

    frames: NDArray[np.uint8]  # (F, H, W, 3), RGB
    fps: float
    metadata: dict[str, Any] = field(default_factory=dict)  # plain values: prompt, seed, settings, model, ...

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3:
            raise InputError(f"a video needs uint8 frames (F, H, W, 3), got {self.frames.dtype} {self.frames.shape}")

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        num_frames, height, width, _ = self.frames.shape
        return f"Video({num_frames} frames, {width}x{height}, {self.fps:g} fps, prompt={self.metadata.get('prompt')!r})"

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the video; the extension chooses mp4, webm, gif, webp, and none a folder of PNGs.

        The file appears whole or not at all and holds the prompt in its metadata.

        Raises:
            InputError: the path cannot be written, or exists and `overwrite` is False.
        """
        prompt = self.metadata.get("prompt")
        tags = {"title": prompt, "comment": _origin(self.metadata)} if prompt else {}
        options = EncodeOptions(threads=ENCODER_THREADS)
        return write_video(path, self.frames, self.fps, tags, overwrite=overwrite, options=options)

    def thumbnail(self, max_side: int) -> "Video":
        """The same video at most `max_side` pixels on its longer side, by leaving out pixels."""
        stride = -(-max(self.frames.shape[1:3]) // max_side)
        return Video(self.frames[:, ::stride, ::stride], self.fps, self.metadata)


def _origin(metadata: dict[str, Any]) -> str:
    names = ("model", "seed", "t2v")
    return ", ".join(f"{name} {metadata[name]}" for name in names if name in metadata)
