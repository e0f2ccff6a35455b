"""Measure a folder of videos, against a reference or alone: the result with its protocol."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from t2v.errors import InputError
from t2v.evaluation.clip_set import RESIZING, ClipSet
from t2v.evaluation.families import Arrays, Family
from t2v.evaluation.intervals import mean_figure
from t2v.evaluation.result import Protocol, Result

OnClip = Callable[[int, int], None]


@dataclass(frozen=True)
class Reference:
    """What a distance is measured to."""

    clips: ClipSet
    split: str | None  # which part of a data set it is, as people call it


@dataclass(frozen=True)
class _Facts:
    """What was seen of the files while they were read."""

    names: Sequence[str]
    codec: str
    fps: float | None
    size: tuple[int, int]
    pixels_sha256: str
    prompts_sha256: str | None
    seeds: Sequence[int] | None


def evaluate_videos(
    clips: ClipSet,
    families: Sequence[Family],
    reference: Reference | None = None,
    on_clip: OnClip = lambda done, total: None,
) -> Result:
    """Measure all videos by all families.

    Raises:
        InputError: a video is broken or too short, sizes differ, a prompt is missing, or the sizes of videos and
            reference differ.
    """
    total = len(clips) + (len(reference.clips) if reference else 0)
    own, facts = _measure(clips, families, lambda done: on_clip(done, total))
    others: Arrays = {}
    seen: _Facts | None = None
    if reference is not None:
        compared = [family for family in families if family.wants_reference]
        others, seen = _measure(reference.clips, compared, lambda done: on_clip(len(clips) + done, total))
        if min(len(facts.names), len(seen.names)) < 2:
            raise InputError("a distance needs two videos and two of the reference at least")
        if seen.size != facts.size:
            sizes = ["{1}x{0}".format(*size) for size in (facts.size, seen.size)]
            raise InputError(f"the videos are {sizes[0]}, the reference {sizes[1]}: add --resolution, as 256")
    sampling = clips.sampling
    found = {name: figure for family in families for name, figure in family.figures(own, others, sampling.seed).items()}
    protocol = Protocol(
        num_videos=len(facts.names),
        num_frames=sampling.num_frames,
        frame_stride=sampling.frame_stride,
        fps=facts.fps,
        size=facts.size,
        codec={"videos": facts.codec, "reference": seen and seen.codec},
        reference=_reference_record(reference, seen),
        seeds={"resampling_and_choice": sampling.seed},
        prompts_sha256=facts.prompts_sha256,
        settings={"resizing": sampling.resolution and RESIZING, "start": _start(clips)},
        metrics={name: settings for name, (_, settings) in found.items()},
    )
    figures = {name: figure for name, (figure, _) in found.items()}
    subject = {"videos": str(clips.root), "pixels_sha256": facts.pixels_sha256, "seeds": facts.seeds}
    return Result(protocol, figures, subject, _details(facts, own, others, sampling.seed))


def _measure(clips: ClipSet, families: Sequence[Family], on_clip: Callable[[int], None]) -> tuple[Arrays, _Facts]:
    kept: dict[str, list[Any]] = {}
    read: list[dict[str, Any]] = []
    pixels = hashlib.sha256()
    for clip in clips:
        for family in families:
            for name, value in family.extract(clip).items():
                kept.setdefault(name, []).append(value)
        pixels.update(np.ascontiguousarray(clip.frames).tobytes())
        size = (clip.frames.shape[1], clip.frames.shape[2])
        read.append({**{key: getattr(clip, key) for key in ("name", "codec", "fps", "prompt", "seed")}, "size": size})
        if size != read[0]["size"]:
            raise InputError(f"{clip.name} is {size[1]}x{size[0]}, others are not: add --resolution, as 256")
        on_clip(len(read))
    arrays = {name: np.asarray(values) for name, values in kept.items()}
    return arrays, _facts(read, pixels.hexdigest())


def _facts(read: Sequence[dict[str, Any]], pixels_sha256: str) -> _Facts:
    rates = {round(clip["fps"], 3) for clip in read if clip["fps"] is not None}
    prompts, seeds = ([clip[key] for clip in read] for key in ("prompt", "seed"))
    return _Facts(
        [clip["name"] for clip in read],
        ", ".join(sorted({clip["codec"] for clip in read})),
        rates.pop() if len(rates) == 1 else None,
        read[0]["size"],
        pixels_sha256,
        None if None in prompts else hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        None if None in seeds else seeds,
    )


def _start(clips: ClipSet) -> str:
    return "random" if clips.sampling.random_start else "first frame"


def _reference_record(reference: Reference | None, seen: _Facts | None) -> dict[str, Any] | None:
    if reference is None or seen is None:
        return None
    record = {
        "split": reference.split,
        "num_videos": len(seen.names),
        "fps": seen.fps,
        "start": _start(reference.clips),
    }
    return {**record, "pixels_sha256": seen.pixels_sha256}


def _details(facts: _Facts, own: Arrays, others: Arrays, seed: int) -> dict[str, Any]:
    """A line for each video, and the figures of the reference by the metrics of single videos."""
    scalars = {name: values for name, values in own.items() if values.ndim == 1}
    lines = [
        {"video": name, **{metric: _finite(values[index]) for metric, values in scalars.items()}}
        for index, name in enumerate(facts.names)
    ]
    figures = {name: asdict(mean_figure(values, seed)) for name, values in others.items() if values.ndim == 1}
    return {"reference_metrics": figures, "videos": lines}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
