"""The interpolation network against cross-fade, hold and flow, on rendered clips whose truth is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.frame_metrics import Frames, bootstrap_mean, flow_error, psnr, sharpness
from t2v.evaluation.frame_rates import RATES, evaluate_rates
from t2v.evaluation.interpolation_gates import CEILING, gates
from t2v.evaluation.labelled_clips import ActorPictures, LabelledClip
from t2v.evaluation.matching import ActorPath, match_actor
from t2v.pipelines.interpolation.filling import Fill, fill_gaps

BUCKETS = {"static": 1.0, "small": 4.0, "medium": 16.0, "large": np.inf}  # upper bounds of the gap, of 64 px height
METRICS = ("psnr", "psnr_autoencoder", "flow_error", "sharpness", "actor_error")
CURVED = 1.0  # pixels at 64 px height that a path lies off the straight line, to be called not linear
CONTEXT = 4  # known frames of extensions
_RATE_CLIPS = 24  # clips whose first frame is set in motion at every rate


class RoundTrip(Protocol):
    """Frames through the autoencoder and back."""

    def __call__(self, frames: Frames, /) -> Frames:
        """uint8 (F, H, W, 3) -> the same."""


@dataclass(frozen=True)
class InterpolationRequest:
    """What is measured on what."""

    clips: Sequence[LabelledClip]
    pictures: ActorPictures
    methods: Mapping[str, Fill]
    num_frames: int = 9  # first and last are known
    fps: float = 8.0
    round_trip: RoundTrip | None = None  # of the diffusion method's autoencoder
    swapped: str | None = None  # the method that is also given the ends of other clips, and stills at several rates


def off_line(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places (F, 2), seen from where they would be on an even way from the first to the last: the same shape."""
    share = np.linspace(0, 1, len(places))[:, None]
    return places - (places[0] + share * (places[-1] - places[0]))


@dataclass(frozen=True)
class _Clip:
    frames: Frames
    path: ActorPath
    scale: float  # from pixels to pixels at 64 px height

    @property
    def gap(self) -> float:
        """How far the actor is at the end from where it was at the start, in pixels of 64 px height."""
        return self.scale * float(np.hypot(self.path.x[-1] - self.path.x[0], self.path.y[-1] - self.path.y[0]))

    @property
    def bucket(self) -> str:
        """By the longest way from the start, so that who comes back to it is not called static."""
        furthest = self.scale * float(np.hypot(self.path.x - self.path.x[0], self.path.y - self.path.y[0]).max())
        return next(name for name, bound in BUCKETS.items() if furthest < bound)

    @property
    def distance_off_line(self) -> NDArray[np.float64]:
        """(F,) how far the actor is from where it would be on an even way from end to end, pixels of 64 px height."""
        return self.scale * np.hypot(*off_line(np.stack([self.path.x, self.path.y], 1)).T)

    @property
    def straight_line_error(self) -> float:
        """`actor_error` of who goes evenly from true end to true end."""
        return float(np.median(self.distance_off_line[1:-1]))

    @property
    def is_curved(self) -> bool:
        """Whether the actor does not move evenly along a line."""
        return bool(self.distance_off_line.max() > CURVED)


def evaluate_interpolation(
    request: InterpolationRequest, on_clip: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Fill in the inner frames of every clip from its ends, by every method, and measure them.

    Returns: `clips`, one line each with the figures of every method; `buckets`, their means with 95% intervals by
        amount of motion; `curved`, the same for paths that are not linear; `straight_line`, the actor's error on those
        of an even way between its true ends; `extension`; and `gates`. `actor_error` is in pixels of 64 px height.
    """
    lines: list[dict[str, Any]] = []
    previous: Frames | None = None
    for done, labelled in enumerate(request.clips):
        frames, path = labelled.read(request.num_frames, request.fps)
        clip = _Clip(frames, path, 64 / labelled.height)
        lines.append(_measure(request, labelled, clip, previous))
        previous = frames
        on_clip(done + 1, len(request.clips))
    rates = None if request.swapped is None else _rates(request, request.methods[request.swapped])
    return summarise(lines, list(request.methods), rates)


def summarise(
    lines: Sequence[dict[str, Any]], methods: Sequence[str], rates: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The report of `evaluate_interpolation` from the lines of its clips."""
    names = list(dict.fromkeys(name for line in lines for name in line["methods"]))
    buckets = {
        bucket: _means([line for line in lines if line["bucket"] == bucket], names)
        for bucket in BUCKETS
        if any(line["bucket"] == bucket for line in lines)
    }
    curved = [line for line in lines if line["curved"]]
    report: dict[str, Any] = {
        "buckets": buckets,
        "curved": _means(curved, names),
        "straight_line": bootstrap_mean(np.array([line["straight_line"] for line in curved])),
        "extension": _extension_means(lines, methods),
    }
    if rates is not None:
        report["frame_rates"] = rates
    return {**report, "gates": gates(report), "clips": list(lines)}


def _measure(
    request: InterpolationRequest, labelled: LabelledClip, clip: _Clip, other: Frames | None
) -> dict[str, Any]:
    times = (np.arange(len(clip.frames)) / request.fps).tolist()
    ends, inner = clip.frames[[0, -1]], times[1:-1]
    through = request.round_trip(clip.frames) if request.round_trip is not None else None
    made = {name: fill_gaps(fill, ends, (times[0], times[-1]), inner) for name, fill in request.methods.items()}
    if through is not None:
        made[CEILING] = through[1:-1]
    if request.swapped is not None and other is not None:
        made["swapped"] = fill_gaps(request.methods[request.swapped], other[[0, -1]], (times[0], times[-1]), inner)
    sprite = request.pictures(labelled.actor)
    methods = {name: _figures(inside, clip, through, sprite, labelled.height) for name, inside in made.items()}
    extension = {name: _extended(fill, clip.frames, times) for name, fill in request.methods.items()}
    facts: dict[str, Any] = {"clip": labelled.path.name, "verb": labelled.verb, "gap": clip.gap, "bucket": clip.bucket}
    facts |= {"curved": clip.is_curved, "straight_line": clip.straight_line_error}
    return {**facts, "methods": methods, "extension": extension}


def _figures(
    inside: Frames, clip: _Clip, through: Frames | None, sprite: NDArray[np.uint8], height: int
) -> dict[str, float]:
    """The metrics of the inner frames of a clip; the flow is that of the whole clip with its true ends."""
    truth = clip.frames[1:-1]
    whole = np.concatenate([clip.frames[:1], inside, clip.frames[-1:]])
    found = match_actor(whole, sprite, height)
    errors = np.hypot(found.x - clip.path.x, found.y - clip.path.y)[1:-1]
    return {
        "psnr": psnr(inside, truth),
        "psnr_autoencoder": float("nan") if through is None else psnr(inside, through[1:-1]),
        "flow_error": flow_error(whole, clip.frames),
        "sharpness": sharpness(inside) / max(sharpness(truth), 1e-9),
        "actor_error": float(np.median(errors)) * clip.scale,
    }


def _extended(fill: Fill, frames: Frames, times: Sequence[float]) -> dict[str, float]:
    """PSNR of the frames that a method adds after the first CONTEXT ones, and before the last CONTEXT ones."""
    count = min(CONTEXT, len(frames) - 1)
    forward = fill(frames[:count], times[:count], times[count:])
    backward = fill(frames[-count:], times[-count:], times[:-count])
    return {"forward": psnr(forward, frames[count:]), "backward": psnr(backward, frames[:-count])}


def _rates(request: InterpolationRequest, fill: Fill) -> dict[str, Any]:
    """Stills set in motion at several frame rates: whether the way from frame to frame follows the time between."""

    def moved(clip: LabelledClip, fps: float) -> Frames:
        first = clip.read(1, request.fps)[0]
        times = [index / fps for index in range(request.num_frames)]
        return np.concatenate([first, fill(first, times[:1], times[1:])])

    clips = request.clips[:_RATE_CLIPS]
    return evaluate_rates((clip.path.name, fps, moved(clip, fps)) for fps in RATES for clip in clips)


def _means(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    def values(name: str, metric: str) -> NDArray[np.float64]:
        return np.array([line["methods"][name][metric] for line in lines if name in line["methods"]])

    return {name: {metric: bootstrap_mean(values(name, metric)) for metric in METRICS} for name in names}


def _extension_means(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    moving = [line["extension"] for line in lines if line["bucket"] != "static"]

    def mean(name: str, side: str) -> dict[str, Any]:
        return bootstrap_mean(np.array([extension[name][side] for extension in moving]))

    return {name: {side: mean(name, side) for side in ("forward", "backward")} for name in names}
