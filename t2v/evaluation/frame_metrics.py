"""How near made frames are to the true ones: pixels in, numbers out."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Frames = NDArray[np.uint8]


def psnr(frames: Frames, truth: Frames) -> float:
    """Mean over frames of the peak signal-to-noise ratio in dB, at most 60: uint8 (F, H, W, 3), both."""
    errors = np.square(frames.astype(np.float64) - truth).mean((1, 2, 3))
    return float(np.minimum(60.0, 10 * np.log10(255**2 / np.maximum(errors, 1e-9))).mean())


def ssim(frames: Frames, truth: Frames) -> float:
    """Mean structural similarity of uint8 (F, H, W, 3), at least 11x11 pixels, over channels and frames; 1 is equal.

    Gaussian window of 11 pixels and deviation 1.5, without the pixels that it does not fit around (Wang et al., "Image
    Quality Assessment: From Error Visibility to Structural Similarity", 2004).
    """
    x, y = (torch.from_numpy(np.ascontiguousarray(values)).permute(0, 3, 1, 2).double() for values in (frames, truth))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variances = _window_mean(x * x) - mean_x**2 + _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return float(index.mean())


def _window_mean(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H - 10, W - 10), weighted by SSIM's window."""
    places = torch.arange(11, dtype=images.dtype) - 5
    weights = torch.exp(-(places**2) / (2 * 1.5**2))
    window = (weights / weights.sum()).expand(images.shape[1], 1, 1, 11)
    across = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(across, window.transpose(2, 3), groups=images.shape[1])


def sharpness(frames: Frames) -> float:
    """Mean squared Laplacian of the brightness of frames (F, H, W, 3)."""
    grey = frames.astype(np.float64).mean(-1)
    middle = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * middle
    return float(np.square(laplacian).mean())


def flow(first: Frames, second: Frames) -> NDArray[np.float32] | None:
    """Optical flow from one frame (H, W, 3) to another by Farneback's method: (H, W, 2) pixels; None without OpenCV."""
    try:
        import cv2
    except ImportError:
        return None
    opencv: Any = cv2
    grey = [opencv.cvtColor(np.ascontiguousarray(frame), opencv.COLOR_RGB2GRAY) for frame in (first, second)]
    found: NDArray[np.float32] = opencv.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    return found


def flow_error(frames: Frames, truth: Frames) -> float:
    """tOF: mean absolute difference of the optical flows of two clips (arXiv 1811.09393); NaN without OpenCV."""
    errors = []
    for made_pair, true_pair in zip(pairwise(frames), pairwise(truth), strict=True):
        made, true = flow(*made_pair), flow(*true_pair)
        if made is None or true is None:
            return float("nan")
        errors.append(np.abs(made - true).mean())
    return float(np.mean(errors))


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0, draws: int = 2000) -> dict[str, float | int | None]:
    """Mean of values (N,) with a 95% interval by resampling; NaN values are left out."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": 0}
    chosen = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(values[chosen].mean(1), [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}
