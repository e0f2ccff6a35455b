"""A model's motion against the world's: generated videos and rendered clips measured alike, verb by verb."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.labelled_clips import ActorPictures, LabelledClip
from t2v.evaluation.matching import ActorPath, match_actor
from t2v.evaluation.motion import (
    RESOLUTION,
    background_difference,
    foreground_centroid,
    frame_difference,
    path_measures,
)
from t2v.evaluation.verbs import FEATURES, VerbClassifier, features, leave_one_out_accuracy
from t2v.pipelines.settings import GenerationOptions
from t2v.pipelines.text_to_video import TextToVideoPipeline

METHODS = ("match", "centroid")
JUDGED = ("path_speed", "vertical_range", "sway_range")  # displacement, bounce, sway
TOLERANCE = 0.2  # of the rendered measure, where that is more than the measure's resolution
_NEAR = 4.0  # px: a place this near to the true one counts as found

Measures = dict[str, float | None]


@dataclass(frozen=True)
class Observation:
    """What is measured in one clip, rendered or generated."""

    verb: str
    caption: str
    measures: dict[str, Measures]  # by method
    score: float  # mean gain of the match: low for an actor that is not to be recognised
    frame_difference: float
    background_difference: float | None
    seed: int | None = None  # of a generated one
    errors: dict[str, list[float]] | None = None  # of a rendered one, by method: px per frame from the true centre


@dataclass(frozen=True)
class MotionRequest:
    """What to measure: `num_videos` captions of the clips, video i made with seed + i."""

    clips: Sequence[LabelledClip]
    pictures: ActorPictures
    num_frames: int
    fps: float


def observe_rendered(request: MotionRequest, clip: LabelledClip) -> Observation:
    """Measure a rendered clip, and how far both methods are from the truth."""
    frames, truth = clip.read(request.num_frames, request.fps)
    paths = _paths(frames, request.pictures(clip.actor), clip.height)
    errors = {name: np.hypot(path.x - truth.x, path.y - truth.y).tolist() for name, path in paths.items()}
    return _observation(clip, frames, {**paths, "truth": truth}, request.fps, None, errors)


def observe_generated(
    request: MotionRequest, clip: LabelledClip, pipe: TextToVideoPipeline, seed: int, options: GenerationOptions
) -> Observation:
    """Generate a video from a clip's caption and measure it."""
    video = pipe(clip.caption, seed=seed, **options)
    paths = _paths(video.frames, request.pictures(clip.actor), clip.height)
    return _observation(clip, video.frames, paths, request.fps, seed, None)


def _paths(frames: NDArray[np.uint8], picture: NDArray[np.uint8], height: int) -> dict[str, ActorPath]:
    return {"match": match_actor(frames, picture, height), "centroid": foreground_centroid(frames, height)}


def _observation(
    clip: LabelledClip,
    frames: NDArray[np.uint8],
    paths: dict[str, ActorPath],
    fps: float,
    seed: int | None,
    errors: dict[str, list[float]] | None,
) -> Observation:
    return Observation(
        clip.verb,
        clip.caption,
        {name: path_measures(path, fps) for name, path in paths.items()},
        float(paths["match"].score.mean()),
        frame_difference(frames),
        background_difference(frames),
        seed,
        errors,
    )


def motion_report(
    rendered: Sequence[Observation], generated: Sequence[Observation], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Everything found, as plain values for JSON; what was generated is null when nothing was."""
    verbs = sorted({observation.verb for observation in rendered})
    classifiers = {method: VerbClassifier.fit(_points(rendered, method), _labels(rendered)) for method in METHODS}
    report: dict[str, Any] = {
        "protocol": {
            **protocol,
            "num_generated": len(generated),
            "num_rendered": len(rendered),
            "seeds": [observation.seed for observation in generated],
            "resolution": RESOLUTION,
            "tolerance": TOLERANCE,
            "units": "pixels of the rendered clips, seconds, degrees; differences of frames from 0 to 255",
        },
        "method_error_on_rendered": {method: _errors(rendered, method) for method in METHODS},
        "verb_from_motion": {
            method: _recognition(rendered, generated, method, classifiers[method]) for method in METHODS
        },
        **_steadiness(rendered, generated),
        "verbs": {
            verb: _verb_report(
                [o for o in rendered if o.verb == verb], [o for o in generated if o.verb == verb], classifiers
            )
            for verb in verbs
        },
        "generated": [asdict(observation) for observation in generated],
    }
    return _rounded(report)


def _points(observations: Sequence[Observation], method: str) -> NDArray[np.float64]:
    points = [features(observation.measures[method]) for observation in observations]
    return np.array(points).reshape(len(points), len(FEATURES))


def _labels(observations: Iterable[Observation]) -> list[str]:
    return [observation.verb for observation in observations]


def _errors(rendered: Sequence[Observation], method: str) -> dict[str, float]:
    """How far the method is from the truth on rendered clips, in pixels."""
    errors = np.concatenate([observation.errors[method] for observation in rendered if observation.errors])
    return {
        "median": float(np.median(errors)),
        "p90": float(np.percentile(errors, 90)),
        f"share_within_{_NEAR:g}_px": float((errors < _NEAR).mean()),
    }


def _recognition(
    rendered: Sequence[Observation], generated: Sequence[Observation], method: str, classifier: VerbClassifier
) -> dict[str, Any]:
    """How often the nearest verb is the true one."""
    named = classifier.predict(_points(generated, method)) if generated else []
    right = [name == verb for name, verb in zip(named, _labels(generated), strict=True)]
    return {
        "features": list(FEATURES),
        "chance": 1 / len(classifier.verbs),
        "rendered_leave_one_out": leave_one_out_accuracy(_points(rendered, method), _labels(rendered)),
        "generated": float(np.mean(right)) if right else None,
        "generated_named": named,
    }


def _steadiness(rendered: Sequence[Observation], generated: Sequence[Observation]) -> dict[str, dict[str, Any]]:
    """Frame and background differences of both kinds."""
    return {
        name: _compare([getattr(o, name) for o in rendered], [getattr(o, name) for o in generated])
        for name in ("frame_difference", "background_difference")
    }


def _compare(rendered: Sequence[float | None], generated: Sequence[float | None]) -> dict[str, float | None]:
    """Means of both kinds, the standard error of the generated mean, and their ratio; None where nothing was seen."""
    real, made = ([value for value in values if value is not None] for values in (rendered, generated))
    real_mean, made_mean = (float(np.mean(values)) if values else None for values in (real, made))
    return {
        "rendered": real_mean,
        "generated": made_mean,
        "generated_standard_error": float(np.std(made, ddof=1) / len(made) ** 0.5) if len(made) > 1 else None,
        "ratio": made_mean / real_mean if made_mean is not None and real_mean else None,
    }


def _verb_report(
    rendered: Sequence[Observation], generated: Sequence[Observation], classifiers: dict[str, VerbClassifier]
) -> dict[str, Any]:
    """One verb: its measures by both methods, and what they say."""
    measures = {method: _measures(rendered, generated, method) for method in METHODS}
    return {
        "num_rendered": len(rendered),
        "num_generated": len(generated),
        "score": _compare([o.score for o in rendered], [o.score for o in generated]),
        **_steadiness(rendered, generated),
        "measures": measures,
        "verdict": {method: _verdict(generated, measures[method], classifiers[method], method) for method in METHODS},
    }


def _measures(rendered: Sequence[Observation], generated: Sequence[Observation], method: str) -> dict[str, Any]:
    """Every measure in both kinds, in the true path, and whether they agree."""
    found = {}
    for name, resolution in RESOLUTION.items():
        values = _compare([o.measures[method][name] for o in rendered], [o.measures[method][name] for o in generated])
        truth = _compare([o.measures["truth"][name] for o in rendered], [])["rendered"]
        found[name] = {**values, "truth": truth, "within": _agrees(values["rendered"], values["generated"], resolution)}
    return found


def _agrees(rendered: float | None, generated: float | None, resolution: float) -> bool | None:
    if rendered is None or generated is None:
        return None
    return abs(generated - rendered) <= max(TOLERANCE * abs(rendered), resolution)


def _verdict(
    generated: Sequence[Observation], measures: dict[str, Any], classifier: VerbClassifier, method: str
) -> dict[str, Any]:
    """Whether displacement, bounce and sway are the verb's, and how many videos move more like it than not at all."""
    if not generated:
        return {"within_tolerance": None, "outside": [], "moves_like_verb": None, "share_like_verb": None}
    outside = [name for name in JUDGED if not measures[name]["within"]]
    nearer = classifier.nearer_than_rest(_points(generated, method), generated[0].verb)
    share = None if nearer is None else float(nearer.mean())
    return {
        "within_tolerance": not outside,
        "outside": outside,
        "moves_like_verb": None if share is None else share > 0.5,
        "share_like_verb": share,
    }


def _rounded(value: Any) -> Any:
    """Floats of nested values with 4 decimals."""
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


Progress = Callable[[int, int], None]
"""Called with the number of clips done and to do."""


def evaluate_motion(
    request: MotionRequest,
    captions: Sequence[LabelledClip],
    pipe: TextToVideoPipeline | None,
    options: GenerationOptions,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Measure all rendered clips of the request, and one generated video for each of `captions`."""
    rendered, generated = [], []
    protocol: dict[str, Any] = {"num_frames": request.num_frames, "fps": request.fps}
    if pipe is not None:
        protocol |= {**pipe.facts, "settings": replace(pipe.defaults, **options).to_dict()}
    total = len(request.clips) + len(captions)
    for clip in request.clips:
        rendered.append(observe_rendered(request, clip))
        progress(len(rendered), total)
    for index, clip in enumerate(captions):
        assert pipe is not None, "captions need a model"
        generated.append(observe_generated(request, clip, pipe, seed + index, options))
        progress(len(rendered) + len(generated), total)
    return motion_report(rendered, generated, protocol)
