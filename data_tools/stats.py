"""A manifest in numbers."""

from collections import Counter

import numpy as np

from t2v.data.manifest import ClipRow

_PERCENTS = (0, 5, 25, 50, 75, 95, 100)
_MOST_REASONS = 20
SCORE_MEANINGS = {
    "motion": "mean optical flow, picture widths per second",
    "static": "share of frames that repeat the last",
    "black": "mean share of black pixels",
    "white": "mean share of white pixels",
    "sharpness": "median variance of the Laplacian",
    "flicker": "mean jump of brightness there and back",
    "letterbox": "share of the picture under dark bars",
    "text": "share of the time with text or a watermark",
    "duplicate": "likeness to an earlier clip, 0 below 0.9",
    "aesthetic": "LAION's predictor, about 1 to 10",
    "clip": "cosine of frames and caption in CLIP's space",
}  # of the columns score_*


def outcome(rows: list[ClipRow]) -> dict[str, Counter[str]]:
    """How many rows are filtered and how many failed, by reason."""
    left_out = [reason_left_out(row) for row in rows]
    return {word: Counter(reason for other, reason in left_out if other == word) for word in ("filtered", "failed")}


def reason_left_out(row: ClipRow) -> tuple[str, str]:
    """("filtered" or "failed", the reason); of a row that is kept ("kept", "")."""
    if row.error is not None:
        return "failed", row.error
    return ("filtered", row.extra["filtered"]) if row.extra.get("filtered") else ("kept", "")


def outcome_lines(rows: list[ClipRow]) -> list[str]:
    """Clips kept, filtered and failed, with the hours of the first and the reasons of the others."""
    kept = [row for row in rows if row.is_usable]
    lines = [f"kept      {len(kept):8d}  {sum(row.end - row.start for row in kept) / 3600:.3f} h"]
    for word, reasons in outcome(rows).items():
        lines.append(f"{word:9} {reasons.total():8d}")
        lines += [f"          {count:8d}  {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
        if len(reasons) > _MOST_REASONS:
            lines.append(f"                    and {len(reasons) - _MOST_REASONS} other reasons")
    return lines


def score_columns(rows: list[ClipRow]) -> dict[str, np.ndarray]:
    """Values of every score_ column over the rows that have one, float64."""
    names = sorted({name for row in rows for name in row.extra if name.startswith("score_")})
    values = {name: [row.extra.get(name) for row in rows] for name in names}
    return {name: np.array([v for v in column if v is not None], float) for name, column in values.items()}


def score_lines(rows: list[ClipRow]) -> list[str]:
    """Percentiles of every score of the rows that are kept."""
    columns = score_columns([row for row in rows if row.is_usable])
    lines = [f"{'percentile':20}" + "".join(f"{percent:>10}" for percent in _PERCENTS)] if columns else []
    for name, values in columns.items():
        if len(values):
            lines.append(f"{name:20}" + "".join(f"{value:10.4g}" for value in np.percentile(values, _PERCENTS)))
    return lines
