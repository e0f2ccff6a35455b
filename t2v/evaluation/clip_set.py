"""The videos of a folder as an evaluation takes them: which of them, which frames, at what size."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from t2v.data.sources import Skipped, Source, find_sources
from t2v.data.stills import find_stills
from t2v.data.transforms import fit_square
from t2v.data.video_io import VideoReader, read_picture
from t2v.errors import InputError
from t2v.evaluation.frame_metrics import Frames

RESIZING = "shorter side by Lanczos, centre square"


@dataclass(frozen=True)
class Sampling:
    """What of a set of videos is measured."""

    num_frames: int = 16
    frame_stride: int = 1
    resolution: int | None = None  # pixels of the centre square; None: as the files are, all of one size
    random_start: bool = False  # of the frames in a longer video, else they are its first
    num_videos: int | None = None  # a random choice; None: all
    seed: int = 0

    @property
    def span(self) -> int:
        """Frames that a video must have."""
        return (self.num_frames - 1) * self.frame_stride + 1


@dataclass(frozen=True)
class MeasuredClip:
    """One video as it is measured."""

    name: str
    frames: Frames  # (F, H, W, 3)
    codec: str
    fps: float | None  # of these frames; None for a picture
    prompt: str | None
    seed: int | None  # that it was generated with


@dataclass(frozen=True)
class ClipSet:
    """The videos, or the pictures as videos of one frame, that are measured; in a fixed order.

    Attributes:
        sources: all that are there; those with a `.json` of `t2v generate` beside them have its prompt and seed.
        on_bad: told of a video that is broken or too short, which is then left out; None: it is an error.
    """

    root: Path
    sources: Sequence[Source]
    sampling: Sampling
    are_pictures: bool = False
    on_bad: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        """InputError where there are fewer than are to be measured."""
        if len(self) > len(self.sources):
            raise InputError(f"{self.root} has {len(self.sources)} videos, {len(self)} are to be measured")

    @classmethod
    def find(
        cls,
        root: Path,
        sampling: Sampling,
        are_pictures: bool = False,
        on_bad: Callable[[str], None] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> "ClipSet":
        """The videos or pictures below `root`; see `find_sources` and `find_stills` for what it may be.

        Args:
            prompts: of the videos in the order of their names; None: from the files beside them.

        Raises:
            InputError: there are none, or not as many as prompts.
        """
        sources: list[Source] = []
        for found in _pictures(root) if are_pictures else find_sources(root):
            if isinstance(found, Source):
                sources.append(found)
            else:
                _bad(found.reason, on_bad)
        if not sources:
            raise InputError(f"no videos in {root}: check the path")
        if prompts is not None:
            if len(prompts) != len(sources):
                raise InputError(f"{len(prompts)} prompts were given for the {len(sources)} videos in {root}")
            pairs = zip(sources, prompts, strict=True)
            sources = [replace(source, caption=prompt) for source, prompt in pairs]
        return cls(root, sources, sampling, are_pictures, on_bad)

    def __len__(self) -> int:
        """How many are measured, unless bad ones are left out."""
        return self.sampling.num_videos or len(self.sources)

    def __iter__(self) -> Iterator[MeasuredClip]:
        """Raises InputError for a bad video without `on_bad`, and where too few are left."""
        count = 0
        order = range(len(self.sources))
        if self.sampling.num_videos is not None:
            order = np.random.default_rng(self.sampling.seed).permutation(len(self.sources)).tolist()
        for index in order:
            if count == self.sampling.num_videos:
                return
            try:
                clip = self._read(self.sources[index], index)
            except InputError as error:
                _bad(str(error), self.on_bad)
                continue
            count += 1
            yield clip
        if count < max(1, self.sampling.num_videos or 0):
            raise InputError(
                f"{self.root}: of {len(self.sources)} videos {count} can be measured, {len(self)} are wanted"
            )

    def _read(self, source: Source, index: int) -> MeasuredClip:
        record = generation_record(source)
        if self.are_pictures:
            assert isinstance(source.path, Path)
            frames, codec, fps = read_picture(source.path)[None], source.path.suffix.lower().removeprefix("."), None
        else:
            frames, codec, fps = self._read_video(source, index)
        if self.sampling.resolution is not None:
            frames = np.stack([fit_square(frame, self.sampling.resolution) for frame in frames])
        prompt, seed = record.get("prompt", source.caption), record.get("seed")
        return MeasuredClip(self._name(source), frames, codec, fps, prompt, seed)

    def _read_video(self, source: Source, index: int) -> tuple[Frames, str, float]:
        wanted = self.sampling
        with VideoReader(source.path) as reader:
            seconds, end = reader.timestamps, source.end if source.end > source.start else math.inf
            inside = np.flatnonzero((seconds >= source.start - 1e-6) & (seconds < end))
            count = len(inside)
            if count < wanted.span:
                place = " in the stretch that the manifest gives" if source.is_stretch else ""
                raise InputError(
                    f"{source.path} has {count} frames{place}, {wanted.span} are measured: choose --num-frames and "
                    "--frame-stride to fit"
                )
            first = int(inside[0])
            if wanted.random_start:
                first += int(np.random.default_rng([wanted.seed, index]).integers(count - wanted.span + 1))
            frames = reader.frames(range(first, first + wanted.span, wanted.frame_stride))
            return frames, reader.info.codec, reader.fps / wanted.frame_stride

    def _name(self, source: Source) -> str:
        path = source.path
        return str(path.relative_to(self.root) if isinstance(path, Path) and path.is_relative_to(self.root) else path)


def _pictures(root: Path) -> Iterator[Source | Skipped]:
    for still in find_stills(root):
        yield Source(still.path, still.content, still.caption)


def _bad(reason: str, on_bad: Callable[[str], None] | None) -> None:
    if on_bad is None:
        raise InputError(reason)
    on_bad(reason)


def generation_record(source: Source) -> dict[str, Any]:
    """Prompt and seed from the `.json` that `t2v generate` writes beside a video."""
    path = source.path.with_suffix(".json") if isinstance(source.path, Path) else None
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kinds = {"prompt": str, "seed": int}
    known = content if isinstance(content, dict) else {}
    return {name: known[name] for name, kind in kinds.items() if isinstance(known.get(name), kind)}
