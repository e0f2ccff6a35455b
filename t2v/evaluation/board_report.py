"""What the scoreboard says: figures with intervals, the gap between seen and held-out pairs, targets, and the sheet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v.evaluation.board import HELD_OUT, INDEPENDENT, RENDERED, RENDERED_SEEN, ROWS, SEEN, SHARED, Judged, of_row
from t2v.evaluation.frechet import frechet_distance
from t2v.evaluation.gate import Gate, make_gate
from t2v.evaluation.intervals import DRAWS, Figure, mean_figure, statistic_figure
from t2v.evaluation.sheet import contact_sheet, strip

SHUFFLED = "verbs_shuffled"
JUDGEMENTS = ("actor", "scene", "verb", "path_verb")
MEASURES = (*JUDGEMENTS, "match", "flicker", "distance", "seconds")
GAPS = ("actor", "scene", "verb")
TARGETS = {"actor": 0.85, "scene": 0.95, "verb": 0.80}  # at least, on held-out pairs
MOST_FLICKER = 1.3  # times that of rendered clips
MOST_GAP = 0.05  # of seen over held-out pairs, less the judge's own gap: that of rendered clips

_SHEET_ROWS = ({HELD_OUT: 4, INDEPENDENT: 3, SHARED: 1, RENDERED: 2}, {SEEN: 8, RENDERED_SEEN: 2})  # frames of each

Figures = dict[str, Figure]
"""By "row.measure", as in "held_out.actor"."""


def board_figures(judged: Sequence[Judged], reference: NDArray[np.float64]) -> Figures:
    """Every measure of every row, the verbs of held-out videos by others' captions, and the gaps.

    Args:
        reference: features (N, D) of rendered clips that distances are measured to.
    """
    figures: Figures = {}
    for row in ROWS:
        videos = of_row(judged, row)
        figures |= {f"{row}.{name}": _figure(videos, name) for name in MEASURES if name != "distance"}
        figures[f"{row}.distance"] = _distance(np.array([video.features for video in videos]), reference)
    held_out = of_row(judged, HELD_OUT)
    figures |= {
        f"{SHUFFLED}.{name}": mean_figure(_by_others_captions(held_out, name)) for name in ("verb", "path_verb")
    }
    return figures | {f"gap.{name}": _gap(judged, name) for name in GAPS}


def _values(videos: Sequence[Judged], name: str) -> NDArray[np.float64]:
    """A measure of each video (N,); what was not seen is NaN."""
    values = [video.right[name] if name in JUDGEMENTS else getattr(video, name) for video in videos]
    return np.array([np.nan if value is None else float(value) for value in values])


def _figure(videos: Sequence[Judged], name: str) -> Figure:
    return mean_figure(_values(videos, name))


def _distance(features: NDArray[np.float64], reference: NDArray[np.float64]) -> Figure:
    """World-Frechet distance of features (N, D): the recogniser's, so never to be called FVD.

    With fewer than some hundred videos it mostly tells which captions were drawn: read it beside the rendered clips'.
    """
    value = frechet_distance(features, reference)
    return statistic_figure(value, lambda chosen: frechet_distance(features[chosen], reference), len(features))


def _by_others_captions(videos: Sequence[Judged], name: str) -> NDArray[np.float64]:
    """Each video judged by the verbs of all other captions: the share of them it would be right for (N,)."""
    verbs, named = np.array([video.clip.verb for video in videos]), [getattr(video, name) for video in videos]
    return np.array([np.mean(np.delete(verbs, i) == named[i]) for i in range(len(videos))])


def _gap(judged: Sequence[Judged], name: str) -> Figure:
    """The mean of seen over that of held-out pairs, less the same of rendered clips, which is the judge's own gap.

    With a percentile interval for which each row is resampled by itself.
    """
    rows = [_values(of_row(judged, row), name) for row in (SEEN, HELD_OUT, RENDERED_SEEN, RENDERED)]
    rng = np.random.default_rng(0)
    seen, held_out, *rendered = (values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(1) for values in rows)
    low, high = np.percentile(seen - held_out - (rendered[0] - rendered[1]), [2.5, 97.5])
    seen, held_out, *rendered = (float(values.mean()) for values in rows)
    value = seen - held_out - (rendered[0] - rendered[1])
    return Figure(value, float(low), float(high), sum(len(values) for values in rows))


def gates(figures: Figures) -> list[Gate]:
    """The targets, each with the value that was reached."""
    found = [
        make_gate(f"{name}, held-out pairs", figures[f"{HELD_OUT}.{name}"].value, at_least=bound)
        for name, bound in TARGETS.items()
    ]
    flicker, steady = (figures[f"{row}.flicker"].value for row in (HELD_OUT, RENDERED))
    ratio = None if flicker is None or not steady else flicker / steady
    found.append(make_gate("flicker over that of rendered clips", ratio, at_most=MOST_FLICKER))
    gap = "gap of seen over held-out pairs, less that of rendered clips"
    return found + [make_gate(f"{gap}, {name}", figures[f"gap.{name}"].value, at_most=MOST_GAP) for name in GAPS]


def board_sheet(judged: Sequence[Judged]) -> NDArray[np.uint8]:
    """Frames of every video that was judged, each row with the caption and what was seen: uint8 (H, W, 3).

    Held-out captions: the model's video, the image model's with independent and with shared noise, the rendered clip.
    Seen ones: the model's video, the rendered clip.
    """
    captions, strips = [], []
    for shown in _SHEET_ROWS:
        for videos in zip(*(of_row(judged, row) for row in shown), strict=True):
            captions.append(_title(videos[0]))
            strips.append(_side_by_side(videos, list(shown.values())))
    return contact_sheet(captions, strips)


def _side_by_side(videos: Sequence[Judged], counts: Sequence[int]) -> NDArray[np.uint8]:
    """So many frames of each of the videos, all of the size of the first: uint8 (N, H, W, 3)."""
    height, width = videos[0].frames.shape[1:3]
    frames = [frame for video, count in zip(videos, counts, strict=True) for frame in strip(video.frames, count)]
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames])


def _title(video: Judged) -> str:
    """The caption, and what the judges say, in capitals where they differ from it."""
    words = [
        value.replace("_", " ") if right else value.replace("_", " ").upper()
        for value, right in zip((getattr(video, name) for name in JUDGEMENTS), video.right.values(), strict=True)
    ]
    actor, scene, verb, path_verb = words
    kind = video.row.replace("_", "-")
    return f"{kind}, seed {video.seed}: {video.clip.caption}  >  {actor}, {scene}, {verb}; by path {path_verb}"
