"""Rendered clips whose truth is known, and the pictures of their actors, as the world's generator writes them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from t2v.data.manifest import ClipRow, read_manifest
from t2v.data.video_io import VideoReader
from t2v.errors import InputError
from t2v.evaluation.matching import ActorPath
from t2v.models.base import load_json

SPRITE_INDEX = "actors.json"
_LABELS = ("actor", "scene", "verb", "actor_path")


@dataclass(frozen=True)
class LabelledClip:
    """One rendered clip: who does what where, and a caption."""

    path: Path
    caption: str
    actor: str
    scene: str
    verb: str
    height: int
    truth: str  # JSON with the actor's path, per frame of the file

    def read(self, num_frames: int, fps: float) -> tuple[NDArray[np.uint8], ActorPath]:
        """The first `num_frames` frames at `fps` (uint8 (F, H, W, 3)) and the actor's true path in them."""
        with VideoReader(self.path, threads=1) as reader:
            indices = reader.indices_at((np.arange(num_frames) / fps).tolist())
            frames = reader.frames(indices)
        return frames, self._path(indices)

    def read_all(self, fps: float) -> NDArray[np.uint8]:
        """All frames at `fps`: uint8 (F, H, W, 3)."""
        with VideoReader(self.path, threads=1) as reader:
            num_frames = math.floor(reader.info.duration * fps + 1e-6)
            return reader.frames_at((np.arange(num_frames) / fps).tolist())

    def _path(self, indices: Sequence[int]) -> ActorPath:
        truth = json.loads(self.truth)
        x, y, angle, turn = (np.array(truth[name])[indices] for name in ("x", "y", "angle", "turn"))
        return ActorPath(x, y, angle, turn, np.ones(len(indices)))


def labelled_clips(folder: Path) -> list[LabelledClip]:
    """The clips of a folder in the order of its manifest; InputError where captions or labels are missing."""
    rows = [row for row in read_manifest(folder) if row.is_usable]
    if not rows:
        raise InputError(f"the manifest of {folder} lists no clip")
    return [_labelled(folder, row) for row in rows]


def _labelled(folder: Path, row: ClipRow) -> LabelledClip:
    for name in _LABELS:
        if not isinstance(row.extra.get(name), str):
            made = "`t2v-data world clips --held-out --labels`"
            raise InputError(f"{folder} has no label {name!r} for {row.path}: make the clips with {made}")
    if row.caption is None:
        raise InputError(f"{folder} has no caption for {row.path}: make the clips with --held-out or --captions")
    actor, scene, verb, truth = (row.extra[name] for name in _LABELS)
    return LabelledClip(folder / row.path, row.caption, actor, scene, verb, row.height, truth)


def balanced(clips: Sequence[LabelledClip], num: int) -> list[LabelledClip]:
    """`num` of the clips, each verb as often as the others as far as there are clips, first ones first."""
    turns: dict[str, int] = {}
    ranked = []
    for place, clip in enumerate(clips):
        turns[clip.verb] = turns.get(clip.verb, 0) + 1
        ranked.append((turns[clip.verb], place))
    return [clips[place] for _, place in sorted(ranked)[:num]]


class ActorPictures:
    """The pictures that `t2v-data world sprites` writes."""

    def __init__(self, folder: Path) -> None:
        if not (folder / SPRITE_INDEX).is_file():
            raise InputError(f"{folder} has no {SPRITE_INDEX}: make the actors' pictures with `t2v-data world sprites`")
        self._folder, self._index = folder, load_json(folder / SPRITE_INDEX)

    def check(self, clips: Sequence[LabelledClip]) -> None:
        """InputError naming the first actor without a picture."""
        for clip in clips:
            self(clip.actor)

    def __call__(self, actor: str) -> NDArray[np.uint8]:
        """The picture of an actor: uint8 (h, w, 4), RGB and alpha."""
        if actor not in self._index:
            raise InputError(f"{self._folder} has no picture of {actor!r}: make it with the --preset of the clips")
        file = self._folder / self._index[actor]["file"]
        try:
            with Image.open(file) as image:
                return np.asarray(image.convert("RGBA"))
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{file} cannot be read as a picture ({error})") from error
