"""The scoreboard of `mini`: its videos, what it is compared with, and rendered clips, judged and measured alike."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.errors import InputError
from t2v.evaluation.labelled_clips import ActorPictures, LabelledClip, balanced, labelled_clips
from t2v.evaluation.matching import match_actor
from t2v.evaluation.motion import background_difference, path_measures
from t2v.evaluation.recogniser import Recogniser
from t2v.evaluation.recogniser_training import labels_of
from t2v.evaluation.verbs import VerbClassifier, features
from t2v.pipelines.settings import GenerationOptions
from t2v.pipelines.text_to_video import TextToVideoPipeline

Frames = NDArray[np.uint8]

SEEN, HELD_OUT = "seen", "held_out"
INDEPENDENT, SHARED = "images_independent_noise", "images_shared_noise"
RENDERED, RENDERED_SEEN = "rendered", "rendered_seen"
ROWS = {
    HELD_OUT: "held-out pairs",
    SEEN: "seen pairs",
    INDEPENDENT: "image model, independent noise",
    SHARED: "image model, shared noise",
    RENDERED: "rendered clips, held-out pairs",
    RENDERED_SEEN: "rendered clips, seen pairs",
}
"""What is judged: the model on pairs of actor and scene that training never saw, and on pairs that it did; then, for
the held-out captions, its image model alone, once for every frame; and the clips that the captions were written for."""

FOLDERS = {SEEN: "seen", HELD_OUT: "held-out", "reference": "reference"}
SPRITES = "sprites"


@dataclass(frozen=True)
class BoardData:
    """The folder that `t2v-data world board` writes."""

    seen: list[LabelledClip]
    held_out: list[LabelledClip]
    reference: list[LabelledClip]  # more clips of held-out pairs: what distances are measured to
    pictures: ActorPictures
    sha256: str  # of the labels of all these clips

    @classmethod
    def read(cls, folder: Path, num_videos: int) -> "BoardData":
        """`num_videos` seen and held-out captions, verbs in turn; InputError where something is missing."""
        missing = [name for name in (*FOLDERS.values(), SPRITES) if not (folder / name).is_dir()]
        if missing:
            raise InputError(f"{folder} has no {missing[0]}/: make it with `t2v-data world board -o {folder}`")
        clips = {kind: labelled_clips(folder / name) for kind, name in FOLDERS.items()}
        for kind in (SEEN, HELD_OUT):
            if len(clips[kind]) < num_videos:
                raise InputError(
                    f"{folder / FOLDERS[kind]} has {len(clips[kind])} clips, {num_videos} videos were asked for"
                )
        chosen = (balanced(clips[SEEN], num_videos), balanced(clips[HELD_OUT], num_videos), clips["reference"])
        digest = hashlib.sha256()
        for clip in itertools.chain(*chosen):
            digest.update(f"{clip.actor}|{clip.scene}|{clip.verb}|{clip.truth}".encode())
        return cls(*chosen, ActorPictures(folder / SPRITES), digest.hexdigest())

    def check(self, recogniser: Recogniser) -> None:
        """InputError for a clip that shows what the recogniser or the pictures do not know."""
        for clip in (*self.seen, *self.held_out, *self.reference):
            labels_of(clip, recogniser.config)
        self.pictures.check(self.seen + self.held_out)


@dataclass(frozen=True)
class Judged:
    """One video: what it should show, what is seen in it, and its measures."""

    row: str
    clip: LabelledClip
    seed: int | None  # None for a rendered one
    seconds: float | None
    actor: str
    scene: str
    verb: str  # from frame differences, by the recogniser
    path_verb: str  # from the actor's path, found by matching
    match: float  # mean gain of the match: above 0.3 for a sharp actor
    flicker: float | None
    features: NDArray[np.float64]
    frames: Frames

    @property
    def right(self) -> dict[str, bool]:
        """Which of the judgements are the caption's."""
        clip = self.clip
        return {
            "actor": self.actor == clip.actor,
            "scene": self.scene == clip.scene,
            "verb": self.verb == clip.verb,
            "path_verb": self.path_verb == clip.verb,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without features and frames."""
        seen = {name: getattr(self, name) for name in ("actor", "scene", "verb", "path_verb")}
        asked = {
            "caption": self.clip.caption,
            "actor": self.clip.actor,
            "scene": self.clip.scene,
            "verb": self.clip.verb,
        }
        measures = {name: getattr(self, name) for name in ("match", "flicker", "seconds")}
        rounded = {name: None if value is None else round(value, 4) for name, value in measures.items()}
        return {"row": self.row, "seed": self.seed, "asked": asked, "seen": seen, **rounded}


class Judge:
    """Judges any clip in one way: the recogniser, the actor's path, and what flickers."""

    def __init__(self, recogniser: Recogniser, data: BoardData) -> None:
        self.recogniser, self.pictures = recogniser, data.pictures
        self.num_frames, self.fps = recogniser.config.num_frames, recogniser.config.fps
        points, seen = [], []
        for clip in data.reference:
            frames, truth = clip.read(self.num_frames, self.fps)
            points.append(features(path_measures(truth, self.fps)))
            seen.append(recogniser.judge(frames).features)
        self.reference = np.array(seen)
        self.law = VerbClassifier.fit(np.array(points), [clip.verb for clip in data.reference])

    def __call__(self, row: str, clip: LabelledClip, seed: int | None, frames: Frames, seconds: float | None) -> Judged:
        seen = self.recogniser.judge(frames)
        path = match_actor(frames, self.pictures(clip.actor), clip.height)
        (path_verb,) = self.law.predict(features(path_measures(path, self.fps))[None])
        match, flicker = float(path.score.mean()), background_difference(frames)
        verbs = (seen.actor, seen.scene, seen.verb, path_verb)
        return Judged(row, clip, seed, seconds, *verbs, match, flicker, seen.features, frames)


@dataclass(frozen=True)
class BoardRequest:
    """What to generate: video i with seed + i."""

    pipe: TextToVideoPipeline
    options: GenerationOptions
    seed: int
    data: BoardData
    judge: Judge

    @property
    def num_clips(self) -> int:
        """All clips that will be judged."""
        return 2 * len(self.data.seen) + 4 * len(self.data.held_out)

    @property
    def video_options(self) -> GenerationOptions:
        """The options, with as many frames at that rate as the judge was trained for."""
        return {**self.options, "num_frames": self.judge.num_frames, "fps": self.judge.fps}


def judge_all(request: BoardRequest, on_clip: Callable[[int, int], None] = lambda done, total: None) -> list[Judged]:
    """Make and judge every row of the board."""
    judged = []
    for clip, row, seed, frames, seconds in _clips(request):
        judged.append(request.judge(row, clip, seed, frames, seconds))
        on_clip(len(judged), request.num_clips)
    return judged


_Made = tuple[LabelledClip, str, int | None, Frames, float | None]


def _clips(request: BoardRequest) -> Iterator[_Made]:
    """Clip, row, seed, frames and seconds of everything that is judged."""
    for row, clips in ((HELD_OUT, request.data.held_out), (SEEN, request.data.seen)):
        for seed, clip in enumerate(clips, request.seed):
            video = request.pipe(clip.caption, seed=seed, **request.video_options)
            yield clip, row, seed, video.frames, sum(video.metadata["seconds"].values())
    for seed, clip in enumerate(request.data.held_out, request.seed):
        yield clip, INDEPENDENT, seed, *_images(request, clip, seed, request.judge.num_frames)
        still, seconds = _images(request, clip, seed, 1)
        yield clip, SHARED, seed, np.repeat(still, request.judge.num_frames, 0), seconds
    for row, clips in ((RENDERED, request.data.held_out), (RENDERED_SEEN, request.data.seen)):
        for clip in clips:
            yield clip, row, None, clip.read(request.judge.num_frames, request.judge.fps)[0], None


def _images(request: BoardRequest, clip: LabelledClip, seed: int, num: int) -> tuple[Frames, float]:
    """`num` pictures of the image model, each from noise of its own: (num, H, W, 3), and the seconds they took.

    From the same noise a deterministic sampler makes the same picture, so that one is enough.
    """
    options: GenerationOptions = {**request.video_options, "num_frames": 1}
    first = seed * request.judge.num_frames
    videos = [request.pipe(clip.caption, seed=first + i, **options) for i in range(num)]
    seconds = sum(sum(video.metadata["seconds"].values()) for video in videos)
    return np.concatenate([video.frames for video in videos]), seconds


def of_row(judged: Sequence[Judged], row: str) -> list[Judged]:
    """The videos of one row."""
    return [video for video in judged if video.row == row]
