"""Latents of clips on disk, in fp16: made once, in parts, so that an interrupted run loses at most one of them."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from t2v.data.clips import Clip, Decoding, Window
from t2v.data.timeout import within
from t2v.errors import InputError
from t2v.training.latent_cache import LatentMoments

_PART = 256  # frames in a file
Size = tuple[int, int]  # (height, width)


class Part(NamedTuple):
    """Consecutive frames of a clip, which share a file."""

    clip: Clip
    size: Size
    places: np.ndarray  # of the frames in the clip
    path: Path


class ClipCache:
    """The latents of clips below a folder, one file for each part of each clip: FOLDER/ab/abcdef...-PART.safetensors.

    Args:
        folder: named after the autoencoder.
        decoding: how the videos are read.
        timeout: seconds after which a video that does not answer is given up.
    """

    def __init__(self, folder: Path, decoding: Decoding, timeout: float) -> None:
        self.folder, self.decoding, self.timeout = folder, decoding, timeout

    def parts(self, clip: Clip, size: Size) -> list[Part]:
        """The parts of a clip at a size, in order."""
        identity = f"{clip.content}:{size}:{self.decoding}:".encode() + clip.frames.tobytes()
        name = hashlib.sha256(identity).hexdigest()[:32]
        starts = range(0, len(clip.frames), _PART)
        files = [self.folder / name[:2] / f"{name}-{number:04d}.safetensors" for number in range(len(starts))]
        places = np.arange(len(clip.frames))
        return [Part(clip, size, places[i : i + _PART], file) for i, file in zip(starts, files, strict=True)]

    def read(self, clip: Clip, places: np.ndarray, window: Window) -> dict[str, Tensor]:
        """`mean` and `std` of the latents at `places`, ascending: fp16 (F, C, h, w). Only these are read from disk."""
        found = []
        for number, part in enumerate(self.parts(clip, window.size)):
            inside = places[places // _PART == number] - number * _PART
            if len(inside):
                found.append(_read_frames(part.path, inside))
        return {name: torch.cat([tensors[name] for tensors in found]) for name in ("mean", "std")}

    def fill(
        self,
        clips: Iterable[tuple[Clip, Size]],
        encode: Callable[[np.ndarray], LatentMoments],
        on_failure: Callable[[Clip, InputError], None],
        num_threads: int = 2,
    ) -> None:
        """Make the parts that are not there.

        Args:
            encode: uint8 frames (N, h, w, 3) to latents.
            on_failure: told of a clip that cannot be read; the rest of it is left out.
            num_threads: that read videos while others are encoded.
        """
        missing = [part for clip, size in clips for part in self.parts(clip, size) if not part.path.is_file()]
        failed: set[int] = set()
        for part, pixels in _ahead(missing, self._pixels, num_threads):
            if id(part.clip) in failed:
                continue
            try:
                _save(encode(pixels.result()), part.path)
            except InputError as error:
                failed.add(id(part.clip))
                on_failure(part.clip, error)

    def _pixels(self, part: Part) -> np.ndarray:
        read = partial(part.clip.read, part.places, Window(part.size), self.decoding)
        return within(self.timeout, read, part.clip.path)


def _ahead(
    parts: Sequence[Part], read: Callable[[Part], np.ndarray], num_threads: int
) -> Iterator[tuple[Part, Future[np.ndarray]]]:
    """Each part with its reading, which began while former ones were worked on; few are in memory at a time."""
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[tuple[Part, Future[np.ndarray]]] = deque()
        for part in parts:
            waiting.append((part, pool.submit(read, part)))
            if len(waiting) > num_threads:
                yield waiting.popleft()
        yield from waiting


def _read_frames(path: Path, places: np.ndarray) -> dict[str, Tensor]:
    first, last = int(places[0]), int(places[-1])
    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name)[first : last + 1][places - first] for name in ("mean", "std")}


def _save(moments: LatentMoments, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(moments._asdict(), temporary)
    os.replace(temporary, path)
