"""Made videos against the true ones, frame by frame: interpolation, reconstruction."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from t2v.data.sources import Skipped, find_sources
from t2v.data.transforms import to_model_range
from t2v.data.video_io import VideoInfo, VideoPath, VideoReader
from t2v.errors import InputError
from t2v.evaluation.frame_metrics import Frames, flow_error, psnr, sharpness, ssim
from t2v.evaluation.intervals import mean_figure
from t2v.evaluation.result import Protocol, Result
from t2v.evaluation.temporal_metrics import warping_error
from t2v.models.lpips import LPIPS, MIN_SIZE
from t2v.models.published_weights import WeightsFile

Picture = NDArray[np.uint8]  # (H, W, 3)
_SSIM_SIZE = 11  # pixels of its window
_SETTINGS: Mapping[str, dict[str, Any]] = {
    "PSNR": {"mean of": "frames, each at most 60 dB"},
    "SSIM": {"window": "Gaussian, 11 pixels, without the edges"},
    "sharpness ratio": {},
    "tOF": {"flow": "Farneback"},
    "warping error": {"flow": "Farneback, of the true video"},
}
_LPIPS = "LPIPS (alex)"
_TRUE_SHARPNESS = "sharpness of the truth"


class _Means:
    """Running means of figures; NaN values are left out."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total, count) if math.isnan(value) else (total + value, count + 1)

    def values(self) -> dict[str, float]:
        return {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}


@dataclass(frozen=True)
class PairedMetrics:
    """What is measured of each pair.

    Attributes:
        skip_ends: leave first and last frame out of the measures of pictures, as they were given to the method.
        lpips: the files of its two parts, and the distance made of them.
    """

    skip_ends: bool = False
    lpips: tuple[WeightsFile, WeightsFile, LPIPS] | None = None

    def __call__(self, made: Iterable[Picture], truth: Iterable[Picture], num_frames: int) -> dict[str, float]:
        """Figures of a video of `num_frames` frames, uint8 (H, W, 3), both of one size; NaN where OpenCV is missing.

        Two frames of each are in memory at a time.
        """
        ends = (0, num_frames - 1) if self.skip_ends else ()
        means = _Means()
        before: tuple[Picture, Picture] | None = None
        for index, (frame, true) in enumerate(zip(made, truth, strict=True)):
            if index not in ends:
                means.add(self._of_picture(frame[None], true[None]))
            if before is not None:
                clips = np.stack([before[0], frame]), np.stack([before[1], true])
                means.add({"tOF": flow_error(*clips), "warping error": warping_error(*clips)})
            before = frame, true
        found = means.values()
        found["sharpness ratio"] /= max(found.pop(_TRUE_SHARPNESS), 1e-9)
        return found

    def _of_picture(self, frame: Frames, true: Frames) -> dict[str, float]:
        found = {"PSNR": psnr(frame, true), "SSIM": ssim(frame, true)}
        found |= {"sharpness ratio": sharpness(frame), _TRUE_SHARPNESS: sharpness(true)}
        if self.lpips is not None:
            pictures = (to_model_range(torch.from_numpy(pixels)) for pixels in (frame, true))
            with torch.inference_mode():
                found[_LPIPS] = float(self.lpips[2](*pictures))
        return found

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Of each metric, for the protocol."""
        if self.lpips is None:
            return dict(_SETTINGS)
        trunk, linear, _ = self.lpips
        return {**_SETTINGS, _LPIPS: {"trunk": trunk.record, "linear": linear.record}}


def evaluate_pairs(
    made: Path,
    truth: Path,
    metrics: PairedMetrics,
    seed: int = 0,
    on_pair: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Measure every video below `made` against that of the same name, but for its extension, below `truth`.

    Raises:
        InputError: a video is broken, has no true one, or has another number or size of frames.
    """
    pairs = _matched(made, truth)
    lines: list[dict[str, Any]] = []
    infos: list[tuple[VideoInfo, VideoInfo]] = []
    pixels = hashlib.sha256()
    for name, own_path, true_path in pairs:
        with VideoReader(own_path) as own, VideoReader(true_path) as true:
            _check(name, own.info, true.info, metrics)
            found = metrics(own, _hashed(true, pixels), own.num_frames)
            own_info, true_info = own.info, true.info
        lines.append({"video": name, **found})
        infos.append((own_info, true_info))
        on_pair(len(lines), len(pairs))
    figures = {name: mean_figure(np.array([line[name] for line in lines]), seed) for name in metrics.settings}
    figures = {name: figure for name, figure in figures.items() if figure.n}
    protocol = Protocol(
        num_videos=len(lines),
        num_frames=_common(own.num_frames for own, _ in infos),
        frame_stride=1,
        fps=_common(round(float(true.fps), 3) for _, true in infos),
        size=_common((own.height, own.width) for own, _ in infos),
        codec={
            key: ", ".join(sorted({pair[i].codec for pair in infos})) for i, key in enumerate(("videos", "reference"))
        },
        reference={"num_videos": len(lines), "pixels_sha256": pixels.hexdigest()},
        seeds={"resampling": seed},
        settings={"ends": "left out of PSNR, SSIM, LPIPS and sharpness" if metrics.skip_ends else "measured"},
        metrics={name: metrics.settings[name] for name in figures},
    )
    return Result(protocol, figures, {"videos": str(made), "truth": str(truth)}, {"videos": lines})


def _matched(made: Path, truth: Path) -> list[tuple[str, VideoPath, VideoPath]]:
    own, true = _by_name(made), _by_name(truth)
    if missing := [name for name in own if name not in true]:
        raise InputError(f"{truth} has no video {missing[0]}, which {made} has: name both alike")
    return [(name, path, true[name]) for name, path in own.items()]


def _by_name(root: Path) -> dict[str, VideoPath]:
    found: dict[str, VideoPath] = {}
    for source in find_sources(root):
        if isinstance(source, Skipped):
            raise InputError(source.reason)
        if source.is_stretch:
            raise InputError(f"{root} lists a stretch of {source.path}: whole videos are compared; cut it to a file")
        inside = source.path.relative_to(root) if isinstance(source.path, Path) else Path(source.path.name)
        name = str(inside.with_suffix("") if inside.suffix else inside)
        if name in found:
            raise InputError(f"{root} has {name} twice, {found[name]} and {source.path}: leave one of them")
        found[name] = source.path
    if not found:
        raise InputError(f"no videos in {root}: check the path")
    return found


def _hashed(frames: Iterable[Picture], digest: "hashlib._Hash") -> Iterator[Picture]:
    """The frames, whose pixels go into the digest as they pass."""
    for frame in frames:
        digest.update(frame.tobytes())
        yield frame


def _check(name: str, own: VideoInfo, true: VideoInfo, metrics: PairedMetrics) -> None:
    sizes = [f"{info.num_frames} frames of {info.width}x{info.height}" for info in (own, true)]
    if sizes[0] != sizes[1]:
        raise InputError(f"{name} has {sizes[0]}, the true one {sizes[1]}: they are compared frame by frame")
    smallest = MIN_SIZE if metrics.lpips is not None else _SSIM_SIZE
    if min(own.width, own.height) < smallest:
        raise InputError(f"{name} is {own.width}x{own.height}, smaller than the {smallest} pixels that are compared")
    fewest = 3 if metrics.skip_ends else 2
    if own.num_frames < fewest:
        raise InputError(f"{name} has {own.num_frames} frames, {fewest} at least are compared")


def _common(values: Any) -> Any:
    """The one value that all have, or None."""
    different = set(values)
    return different.pop() if len(different) == 1 else None
