"""How steady a video is from frame to frame: pixels in, numbers out."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v.evaluation.frame_metrics import Frames, flow


def flicker(frames: Frames) -> float:
    """Mean absolute difference of neighbouring frames, in grey levels: uint8 (F, H, W, 3), F at least 2.

    Motion counts as well, so compare only with videos that move as much. VBench's temporal flickering is
    1 - flicker / 255, on videos that it found to be still.
    """
    return float(np.mean([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(frames)]))


def warping_error(frames: Frames, flow_of: Frames | None = None) -> float:
    """Mean squared difference, colours in [0, 1], of each frame and the next one warped onto it; NaN without OpenCV.

    Pixels whose flow there and flow back disagree are left out as covered (Lai et al., "Learning Blind Video Temporal
    Consistency", arXiv 1808.00449, equation 8; the flow is Farneback's instead of a network's, and motion boundaries
    are not left out).

    Args:
        frames: uint8 (F, H, W, 3), F at least 2.
        flow_of: the video whose motion is true, of that shape; None: the frames themselves.
    """
    guides = frames if flow_of is None else flow_of
    errors = []
    for (first, second), (guide, next_guide) in zip(pairwise(frames), pairwise(guides), strict=True):
        there, back = flow(guide, next_guide), flow(next_guide, guide)
        if there is None or back is None:
            return float("nan")
        visible = _is_visible(there, _warp(back, there))
        difference = np.square(_warp(second.astype(np.float32), there) - first) / 255**2
        errors.append(float(difference[visible].mean()) if visible.any() else float("nan"))
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")


def _warp(image: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """image (H, W, C) as seen from where `flow` (H, W, 2), in pixels, starts."""
    import cv2

    opencv: Any = cv2
    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    places = columns + flow[..., 0], rows + flow[..., 1]
    warped: NDArray[np.float32] = opencv.remap(image, *places, opencv.INTER_LINEAR, borderMode=opencv.BORDER_REPLICATE)
    return warped


def _is_visible(there: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the flow back leads to where the flow there started (Sundaram et al. 2010, equation 5)."""
    rows, columns = np.indices(there.shape[:2])
    x, y = columns + there[..., 0], rows + there[..., 1]
    inside = (x >= 0) & (x <= there.shape[1] - 1) & (y >= 0) & (y <= there.shape[0] - 1)
    lengths = np.square(there).sum(-1) + np.square(back).sum(-1)
    agrees: NDArray[np.bool_] = np.square(there + back).sum(-1) < 0.01 * lengths + 0.5
    return agrees & inside
