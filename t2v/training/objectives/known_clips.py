"""Clips of varying length with the true times of their frames: the data of the interpolation network."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from t2v.data.clips import Clip, Window
from t2v.training.config_sections import KnownClipsConfig
from t2v.training.objectives.base import Batch
from t2v.training.objectives.clip_batches import ClipBatches, ReadFrames
from t2v.training.randomness import integers, sample_keys, uniform
from t2v.training.sampler import Position

_FRAME_TENSORS = ("pixels", "mean", "std", "timestamps")  # of a batch, with the frames in dimension 1


def with_timestamps(read: ReadFrames) -> ReadFrames:
    """A reader that also gives `timestamps`, fp32 (F,): true seconds from the first of the frames."""

    def timed(clip: Clip, places: np.ndarray, window: Window) -> dict[str, Tensor]:
        times = clip.timestamps[places]
        return {**read(clip, places, window), "timestamps": torch.from_numpy(times - times[0]).float()}

    return timed


@dataclass
class KnownClipBatches(ClipBatches):
    """Batches of min_frames to num_frames frames, evenly spaced or (a share of them) not.

    How many and which is decided by the keys of the batch's first sample, since all have one shape.
    """

    @classmethod
    def of(cls, batches: ClipBatches) -> "KnownClipBatches":
        """The same clips with timestamps."""
        read = with_timestamps(batches.read)
        return cls(batches.clips, batches.config, batches.seed, read, batches.broken, batches.is_held_back)

    def __getitems__(self, positions: list[Position]) -> Batch:
        batch = super().__getitems__(positions)
        if "unreadable" in batch or not len(batch["indices"]):
            return batch
        frames = self._frames(batch["epochs"][:1], batch["indices"][:1])
        return {name: value[:, frames] if name in _FRAME_TENSORS else value for name, value in batch.items()}

    def _frames(self, epoch: Tensor, sample: Tensor) -> Tensor:
        """Which of the `num_frames` frames that were read a batch has, ascending."""
        config = self.config
        assert isinstance(config, KnownClipsConfig)
        longest, shortest = config.num_frames, config.min_frames
        count = shortest + int(integers(sample_keys(self.seed, epoch, sample, "num_frames"), longest - shortest + 1))
        uneven, start = uniform(sample_keys(self.seed, epoch, sample, "spacing"), 2)[0].tolist()
        if uneven < config.uneven:
            order = uniform(sample_keys(self.seed, epoch, sample, "frames"), longest)[0].argsort()
            return order[:count].sort().values
        return torch.arange(count) + int(start * (longest - count + 1))
