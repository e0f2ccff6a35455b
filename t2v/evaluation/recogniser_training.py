"""Train the recogniser on rendered clips, made worse in ways that generated ones are: blurred, shifted, unsteady."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from t2v.errors import InputError
from t2v.evaluation.labelled_clips import LabelledClip
from t2v.evaluation.recogniser import STILL_VERB, Recogniser, RecogniserConfig, prepare

_FROZEN, _SHUFFLED = 0.1, 0.15  # shares of the clips that are taught without motion, and with frames out of order
_HARDLY_MOVE = ("sleeping", "standing")  # verbs whose frames out of order look as they do in order
_FRAMES_PER_CLIP = 2  # of each clip that appearance is taught from
_SHIFT = 0.07  # of the height
_SMOOTHING = 0.05  # of the labels


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how fast to learn."""

    num_steps: int = 1500
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0


Labels = tuple[int, int, int]  # actor, scene, verb


@dataclass(frozen=True)
class Batch:
    """Clips as the recogniser sees them, from -0.5 to 0.5."""

    frames: Tensor  # (B, N, 3, size, size): N of the frames of each
    motion: Tensor  # (B, F, 3, motion_size, motion_size): all of them
    labels: Tensor  # (B, 3): actor, scene, verb


class ClipMemory:
    """Clips held in memory as small frames at the recogniser's rate: uint8 (F, 3, size, size)."""

    def __init__(self, config: RecogniserConfig) -> None:
        self.config = config
        self.frames: list[Tensor] = []
        self.motion: list[Tensor] = []
        self.labels: list[Labels] = []

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, clip: LabelledClip) -> None:
        """Read a clip; InputError when it is too short or shows what the recogniser does not know."""
        frames = clip.read_all(self.config.fps)
        if len(frames) < self.config.num_frames:
            raise InputError(
                f"{clip.path} has {len(frames)} frames at {self.config.fps:g} fps, {self.config.num_frames} are needed"
            )
        self.frames.append(_stored(frames, self.config.size))
        self.motion.append(_stored(frames, self.config.motion_size))
        self.labels.append(labels_of(clip, self.config))

    def random_batch(self, size: int, num_frames: int, generator: torch.Generator) -> Batch:
        """Random windows of random clips, and `num_frames` random frames of each of these clips."""

        def below(high: int, count: int) -> list[int]:
            return torch.randint(high, (count,), generator=generator).tolist()

        chosen = below(len(self), size)
        frames = [self.frames[i][below(len(self.frames[i]), num_frames)] for i in chosen]
        starts = [below(len(self.motion[i]) - self.config.num_frames + 1, 1)[0] for i in chosen]
        return self._batch(frames, chosen, starts)

    def in_order(self, size: int) -> Iterator[Batch]:
        """The first frames of every clip, in batches."""
        for start in range(0, len(self), size):
            chosen = list(range(start, min(start + size, len(self))))
            frames = [self.frames[i][: self.config.num_frames] for i in chosen]
            yield self._batch(frames, chosen, [0] * len(chosen))

    def _batch(self, frames: list[Tensor], chosen: list[int], starts: list[int]) -> Batch:
        windows = [self.motion[i][at : at + self.config.num_frames] for i, at in zip(chosen, starts, strict=True)]
        labels = torch.tensor([self.labels[i] for i in chosen])
        return Batch(_as_input(frames), _as_input(windows), labels)


def _stored(frames: NDArray[np.uint8], size: int) -> Tensor:
    return ((prepare(frames, size) + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def _as_input(videos: list[Tensor]) -> Tensor:
    return torch.stack(videos).float() / 255 - 0.5


def labels_of(clip: LabelledClip, config: RecogniserConfig) -> Labels:
    """Places of a clip's actor, scene and verb among those of the recogniser; InputError for one it does not know."""
    found = []
    for name, known in (("actor", config.actors), ("scene", config.scenes), ("verb", config.verbs)):
        value = getattr(clip, name)
        if value not in known:
            raise InputError(f"{clip.path} shows the {name} {value!r}, which the recogniser was not trained to know")
        found.append(known.index(value))
    return found[0], found[1], found[2]


def config_for(clips: Sequence[LabelledClip]) -> RecogniserConfig:
    """A recogniser of the actors, scenes and verbs of clips."""
    actors, scenes, verbs = (
        tuple(sorted({getattr(clip, name) for clip in clips})) for name in ("actor", "scene", "verb")
    )
    return RecogniserConfig(actors, scenes, verbs)


def augment(video: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (B, F, 3, h, w) mirrored, shifted, blurred, in other colours, with noise and flicker; as many as before."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    b, f, _, h, w = video.shape
    mirrored = uniform(b) < 0.5
    video = torch.where(mirrored[:, None, None, None, None], video.flip(-1), video)
    far = round(_SHIFT * h)
    shifts = torch.randint(2 * far + 1, (b, 2), generator=generator).tolist()
    video = torch.stack([_shifted(clip, far, *shift) for clip, shift in zip(video, shifts, strict=True)])
    side = int(torch.randint(h // 3, 2 * h, (), generator=generator))
    if side < h:  # two batches in five are blurred
        small = F.interpolate(video.flatten(0, 1), (side, side), mode="bilinear", antialias=True)
        video = F.interpolate(small, (h, w), mode="bilinear").view_as(video)
    video = video * (0.85 + 0.3 * uniform(b, 1, 3, 1, 1)) + 0.16 * (uniform(b, 1, 3, 1, 1) - 0.5)
    grain = torch.randn(video.shape, generator=generator) * (0.04 * uniform(b, 1, 1, 1, 1).square())
    coarse = torch.randn((b, f, 3, h // 8, w // 8), generator=generator) * (0.08 * uniform(b, 1, 1, 1, 1).square())
    return video + grain + F.interpolate(coarse.flatten(0, 1), (h, w), mode="bilinear").view_as(video)


def _shifted(clip: Tensor, far: int, down: int, right: int) -> Tensor:
    """A clip (F, 3, h, w) moved by `down - far` and `right - far` pixels, its edge pixels repeated."""
    h, w = clip.shape[-2:]
    padded = F.pad(clip, [far] * 4, mode="replicate")
    return padded[..., 2 * far - down : 2 * far - down + h, 2 * far - right : 2 * far - right + w]


def without_motion(
    video: Tensor, verbs: Tensor, config: RecogniserConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Freeze some clips (B, F, ...), which are then standing, and shuffle the frames of some, which then show no verb.

    So that no verb is told from what a single frame or the flicker round an actor gives away.
    """
    chance = torch.rand(len(video), generator=generator)
    video, verbs = video.clone(), verbs.clone()
    for i in range(len(video)):
        if chance[i] < _FROZEN and STILL_VERB in config.verbs:
            video[i], verbs[i] = video[i, :1], config.verbs.index(STILL_VERB)
        elif chance[i] > 1 - _SHUFFLED and config.verbs[int(verbs[i])] not in _HARDLY_MOVE:
            video[i] = video[i, torch.randperm(video.shape[1], generator=generator)]
            verbs[i] = len(config.verbs)
    return video, verbs


def train_recogniser(
    clips: ClipMemory, options: TrainingOptions, on_step: Callable[[int, int], None] = lambda done, total: None
) -> Recogniser:
    """A recogniser of clips, learned with AdamW under one cosine."""
    generator = torch.Generator().manual_seed(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        recogniser = Recogniser(clips.config)
    optimizer = torch.optim.AdamW(recogniser.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    rise = 0.1 if options.num_steps > 10 else 0.0  # a share of the steps; of fewer than two, OneCycleLR cannot rise
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, options.num_steps, pct_start=rise)
    recogniser.train()
    for step in range(options.num_steps):
        batch = clips.random_batch(options.batch_size, _FRAMES_PER_CLIP, generator)
        loss = _loss(recogniser, batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        on_step(step + 1, options.num_steps)
    return recogniser.eval()


def _loss(recogniser: Recogniser, batch: Batch, generator: torch.Generator) -> Tensor:
    """Sum of the three cross entropies."""
    motion, verbs = without_motion(batch.motion, batch.labels[:, 2], recogniser.config, generator)
    frames, motion = augment(batch.frames, generator), augment(motion, generator)
    actors, scenes = batch.labels[:, :2].repeat_interleave(frames.shape[1], 0).unbind(1)
    entropy = nn.CrossEntropyLoss(label_smoothing=_SMOOTHING)
    with torch.autocast("cpu", torch.bfloat16):
        seen = recogniser.see_frames(frames.flatten(0, 1))
        loss: Tensor = entropy(recogniser.actor(seen), actors) + entropy(recogniser.scene(seen), scenes)
        return loss + entropy(recogniser.verb(recogniser.see_motion(motion)), verbs)


@torch.inference_mode()
def accuracy(recogniser: Recogniser, clips: ClipMemory) -> dict[str, Any]:
    """Shares of clips whose actor, scene and verb are named, and of verbs named in the clips frozen and shuffled."""
    generator, right = torch.Generator().manual_seed(0), []
    for batch in clips.in_order(32):
        seen = recogniser.see_frames(batch.frames.flatten(0, 1))
        named = [
            head(seen).softmax(1).unflatten(0, batch.frames.shape[:2]).mean(1).argmax(1)
            for head in (recogniser.actor, recogniser.scene)
        ]
        order = torch.randperm(batch.motion.shape[1], generator=generator)
        motions = (batch.motion, batch.motion[:, :1].expand_as(batch.motion), batch.motion[:, order])
        named += [recogniser.verb(recogniser.see_motion(motion)).argmax(1) for motion in motions]
        right.append(torch.stack(named, 1) == batch.labels[:, [0, 1, 2, 2, 2]])
    names = ("actor", "scene", "verb", "verb_frozen", "verb_shuffled")
    shares = torch.cat(right).double().mean(0).tolist()
    return {"num_clips": len(clips), **{name: round(share, 4) for name, share in zip(names, shares, strict=True)}}
