"""Columns for every clip, and no decisions: what is too dull or too dark is for the filter to say."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from data_tools.analysis import Watched, watch
from data_tools.features import FrameFeatures
from data_tools.network_scores import NetworkOptions, with_network_scores
from t2v.data.manifest import ClipRow

_STILL = 0.002  # mean change of a pair of frames that shows nothing new: half a grey level
_TEXT_SHARE = 0.002  # of the picture; less is not a line of text
_TIME_TOLERANCE = 1e-4  # seconds
_HASHED_AT = (0.25, 0.5, 0.75)  # of the clip's length


@dataclass(frozen=True)
class Score:
    """The stage: the clips of a file get their score columns, from one pass over the file.

    Args:
        root: folder that paths are relative to.
        network: weights for scores that need a network; without them there are none.
    """

    root: Path = field(repr=False)
    network: NetworkOptions = field(default_factory=NetworkOptions)

    @property
    def preloaded(self) -> Sequence[str]:
        return self.network.preloaded

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        path = self.root / rows[0].path
        features = FrameFeatures()
        watched = watch(path, [features])
        return with_network_scores([scored(row, features, watched) for row in rows], path, self.network)


def scored(row: ClipRow, features: FrameFeatures, watched: Watched) -> ClipRow:
    """The row with its score columns, or with an error where its frames do not decode."""
    if row.end > watched.end + _TIME_TOLERANCE and watched.damage:
        return replace(row, error=watched.damage)
    start, end = np.searchsorted(watched.timestamps, [row.start, row.end]).tolist()
    if end <= start:
        return replace(row, error=f"no frame between {row.start:g} s and {row.end:g} s")
    scores = clip_scores(features.table(start, end), row.fps or 1.0)
    return replace(row, extra=row.extra | scores | {"hash": clip_hash(features, start, end)})


def clip_scores(table: dict[str, np.ndarray], fps: float) -> dict[str, float]:
    """The score columns of a clip from the numbers of its frames.

    score_motion: mean optical flow, picture widths per second. score_static: share of frames that repeat the last.
    score_black, score_white: mean share of such pixels. score_sharpness: median variance of the Laplacian.
    score_flicker: mean jump of brightness there and back, share of the range. score_letterbox: share of the picture
    under dark bars. score_text: share of the time in which lines of text stand still in it.
    """
    pairs = {name: table[name][1:] for name in ("change", "flow")}
    width = 1 - np.median(table["left"]) - np.median(table["right"])
    height = 1 - np.median(table["top"]) - np.median(table["bottom"])
    text = table["text"][~np.isnan(table["text"])]
    luma = table["luma"]
    scores = {
        "score_motion": _mean(pairs["flow"]) * fps,
        "score_static": _mean(pairs["change"] < _STILL) if len(pairs["change"]) else 1.0,
        "score_black": _mean(table["black"]),
        "score_white": _mean(table["white"]),
        "score_sharpness": float(np.median(table["sharpness"])),
        "score_flicker": _mean(np.minimum(*_jumps(luma))),
        "score_letterbox": float(1 - width * height),
        "score_text": _mean(text > _TEXT_SHARE),
    }
    return {name: round(value, 6) for name, value in scores.items()}


def _jumps(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far frames lie above or below both neighbours: a flicker goes and comes back, a light change does not."""
    inner = luma[1:-1]
    signs = (inner - luma[:-2]) * (inner - luma[2:]) > 0
    return np.abs(inner - luma[:-2]) * signs, np.abs(inner - luma[2:]) * signs


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def clip_hash(features: FrameFeatures, start: int, end: int) -> str:
    """Difference hashes (8 x 8 bits) of three frames, 48 hexadecimal digits; alike for clips that look alike."""
    bits = []
    for share in _HASHED_AT:
        thumbnail = features.thumbnail(start + int((end - 1 - start) * share))
        small = cv2.resize(thumbnail, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
        bits.append(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())
    return b"".join(bits).hex()


_NEAR = 0.9  # share of equal bits from which clips count as near duplicates
_BANDS = 12  # of 16 bits; near duplicates have one of them in common, almost surely


def with_duplicates(rows: list[ClipRow]) -> list[ClipRow]:
    """Columns `score_duplicate`, share of hash bits equal to the nearest earlier clip's, and `duplicate_of`, its id.

    A clip without a near duplicate before it gets 0. Depends on all rows and on their order.
    """
    seen: dict[tuple[int, str], list[int]] = {}
    out = []
    hashes = [np.frombuffer(bytes.fromhex(row.extra.get("hash") or ""), np.uint8) for row in rows]
    for index, row in enumerate(rows):
        if not len(hashes[index]):
            out.append(row)
            continue
        bands = [(band, hashes[index][2 * band : 2 * band + 2].tobytes().hex()) for band in range(_BANDS)]
        others = sorted({other for band in bands for other in seen.get(band, ())})
        score, other = _nearest(hashes, index, others)
        columns = {"score_duplicate": score, "duplicate_of": rows[other].clip_id if other is not None else None}
        out.append(replace(row, extra=row.extra | columns))
        for band in bands:
            seen.setdefault(band, []).append(index)
    return out


def _nearest(hashes: list[np.ndarray], index: int, others: list[int]) -> tuple[float, int | None]:
    if not others:
        return 0.0, None
    differing = np.bitwise_count(np.stack([hashes[other] for other in others]) ^ hashes[index]).sum(1)
    place = int(differing.argmin())
    score = 1 - float(differing[place]) / (8 * len(hashes[index]))
    return (round(score, 4), others[place]) if score >= _NEAR else (0.0, None)
