"""Batches of clips: which moment of which clip a sample shows, read in a worker process of the data loader."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from t2v.data.clips import Clip, Decoding, Window
from t2v.data.timeout import Unresponsive, ending_when_stuck, within
from t2v.errors import InputError
from t2v.training.config_sections import ClipsConfig
from t2v.training.objectives.base import Batch
from t2v.training.randomness import integers, sample_keys, uniform
from t2v.training.sampler import Position
from t2v.training.skip_log import BadFile, BrokenFrames

Size = tuple[int, int]  # (height, width)
_MAX_TRIES = 20  # clips tried for one place in a batch
_MAX_HANGING = 2  # of them that do not answer: more are no fault of the files, and each costs data.read_timeout


def curriculum_fps(draw: float, progress: float, config: ClipsConfig, bounds: tuple[float, float]) -> float:
    """The frame rate of a sample: from high rates only, early on, to the whole range (arXiv 2209.14792, section 3.3).

    The lower end of the range falls from its top to its bottom over the first `curriculum_fraction` of the training.

    Args:
        draw: uniform in [0, 1).
        progress: of the training, 0 to 1.
        bounds: the rates that the clip allows; they win over the range.
    """
    low, high = config.fps_range
    passed = min(1.0, progress / config.curriculum_fraction) if config.curriculum_fraction else 1.0
    lowest = high - (high - low) * passed
    high = min(high, bounds[1])
    lowest = min(max(lowest, bounds[0]), high)
    return lowest + (high - lowest) * draw


@dataclass(frozen=True)
class ClipSet:
    """Clips to train on, each at one of a few sizes."""

    clips: Sequence[Clip]
    sizes: Sequence[Size]
    groups: Sequence[int]  # of each clip, which of the sizes it has

    @property
    def has_captions(self) -> bool:
        return any(clip.caption for clip in self.clips)

    def subset(self, places: Sequence[int]) -> "ClipSet":
        """The clips at `places`."""
        return ClipSet([self.clips[i] for i in places], self.sizes, [self.groups[i] for i in places])


class Sample(NamedTuple):
    """What one place of a batch is made of."""

    clip: int
    fps: float
    data: dict[str, Tensor]


# What a reader makes of frames of a clip: tensors with the frames first.
ReadFrames = Callable[[Clip, np.ndarray, Window], dict[str, Tensor]]


@dataclass(frozen=True)
class PixelReader:
    """Reads `pixels`, uint8 (F, h, w, 3), from the video's file; raises Unresponsive where that does not answer."""

    decoding: Decoding
    timeout: float  # seconds

    def __call__(self, clip: Clip, places: np.ndarray, window: Window) -> dict[str, Tensor]:
        # decord has been seen to hang with the interpreter's lock in its hand, where no thread can tell of it
        watched = ending_when_stuck(self.timeout + 30) if self.decoding.decoder == "decord" else nullcontext()
        with watched:
            pixels = within(self.timeout, lambda: clip.read(places, window, self.decoding), clip.path)
        return {"pixels": torch.from_numpy(pixels)}


@dataclass
class ClipBatches:
    """The data set of the temporal stage: a function of (seed, epoch, clip), whichever process reads it.

    A clip that cannot be read is replaced by another of its group, chosen by (seed, epoch, clip) as well; held-back
    ones are left out, so that a batch of them may be smaller, or empty. The batch tells of it under `skipped`.
    """

    clips: ClipSet
    config: ClipsConfig
    seed: int
    read: ReadFrames
    broken: BrokenFrames = field(default_factory=BrokenFrames)
    is_held_back: bool = False  # without random crop, flip and replacement

    def __len__(self) -> int:
        return len(self.clips.clips)

    @property
    def groups(self) -> list[int]:
        """For each sample, the group that it shares batches with: its size."""
        return list(self.clips.groups)

    def __getitem__(self, position: Position) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[Position]) -> Batch:
        """The batch of samples of one group; `unreadable` instead of the data where no clip could be read for one."""
        skipped: list[BadFile] = []
        epochs, indices = _tensors(positions)
        draws = uniform(sample_keys(self.seed, epochs, indices, "clip"), 5).tolist()
        try:
            samples = [self._sample(*pair, skipped) for pair in zip(positions, draws, strict=True)]
        except InputError as error:
            return {"epochs": epochs, "indices": indices, "skipped": skipped, "unreadable": str(error)}
        read = [sample for sample in samples if sample]
        epochs, indices = _tensors([position for position, sample in zip(positions, samples, strict=True) if sample])
        batch: Batch = {"epochs": epochs, "indices": indices, "skipped": skipped}
        for name in read[0].data if read else ():
            batch[name] = torch.stack([sample.data[name] for sample in read])
        batch["fps"] = torch.tensor([sample.fps for sample in read], dtype=torch.float32)
        batch["captions"] = [self.clips.clips[sample.clip].caption or "" for sample in read]
        return batch

    def _sample(self, position: Position, draws: list[float], skipped: list[BadFile]) -> Sample | None:
        """What is read for a place in a batch; None: a held-back clip that cannot be read."""
        hanging = 0
        fps_draw, start, down, across, mirror = draws
        num_frames = self.config.num_frames
        for place in self._candidates(position):
            clip = self.clips.clips[place]
            fps = curriculum_fps(fps_draw, position.progress, self.config, clip.sampling_bounds(num_frames))
            frames = clip.sample(num_frames, fps, start)
            window = self._window(place, (down, across), mirror)
            if self.broken.hit(str(clip.path), clip.frames[frames]):
                continue
            try:
                return Sample(place, fps, self.read(clip, frames, window))
            except InputError as error:
                bad = BadFile(str(clip.path), str(error), clip.content, getattr(error, "frame", None))
                self.broken.add(bad)
                skipped.append(bad)
                hanging += isinstance(error, Unresponsive)
                if hanging == _MAX_HANGING:
                    raise
        if self.is_held_back:
            return None
        reasons = "".join(f"; the last: {bad.reason}" for bad in skipped[-1:])
        raise InputError(f"data: no clip can be read for a place in a batch, though several were tried{reasons}")

    def _window(self, place: int, crop: tuple[float, float], mirror: float) -> Window:
        size = self.clips.sizes[self.clips.groups[place]]
        random_crop, flip = (option and not self.is_held_back for option in (self.config.random_crop, self.config.flip))
        return Window(size, crop if random_crop else (0.5, 0.5), flip and mirror < 0.5)

    def _candidates(self, position: Position) -> Iterator[int]:
        """The sample's clip, then, in training, others of its group from a random one on."""
        yield position.sample
        if self.is_held_back:
            return
        group = self.clips.groups[position.sample]
        others = [i for i, other in enumerate(self.clips.groups) if other == group and i != position.sample]
        if others:
            epoch, sample = torch.tensor([position.epoch]), torch.tensor([position.sample])
            first = int(integers(sample_keys(self.seed, epoch, sample, "replacement"), len(others)))
            yield from (others + others)[first : first + min(len(others), _MAX_TRIES)]


def _tensors(positions: Sequence[Position]) -> tuple[Tensor, Tensor]:
    """Epochs and indices: int64 (B,) each."""
    epochs = torch.tensor([position.epoch for position in positions], dtype=torch.int64)
    return epochs, torch.tensor([position.sample for position in positions], dtype=torch.int64)
