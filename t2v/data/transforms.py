"""Pictures to tensors: resize, crop, scale to [-1, 1]."""

from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def fit_square(picture: np.ndarray, resolution: int) -> np.ndarray:
    """Resize the shorter side and cut the centre square: uint8 (H, W, 3) -> (resolution, resolution, 3)."""
    height, width, _ = picture.shape
    if height == width == resolution:
        return picture
    scale = resolution / min(height, width)
    width, height = (max(resolution, round(side * scale)) for side in (width, height))
    resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
    top, left = (height - resolution) // 2, (width - resolution) // 2
    return resized[top : top + resolution, left : left + resolution]


def cover_size(size: tuple[int, int], target: tuple[int, int], pixel_aspect: Fraction = Fraction(1)) -> tuple[int, int]:
    """The (height, width) of a picture that is resized until it just covers `target`, its shape kept.

    Args:
        size: (height, width) of the picture in pixels that are `pixel_aspect` times as wide as high.
        target: (height, width) of square pixels.
    """
    height, width = size[0], size[1] * pixel_aspect
    scale = max(Fraction(target[0]) / height, target[1] / width)
    return max(target[0], round(height * scale)), max(target[1], round(width * scale))


def cut(frames: np.ndarray, size: tuple[int, int], place: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """The same window of each frame: (F, H, W, 3) -> (F, *size, 3), a view.

    Args:
        size: (height, width), at most (H, W).
        place: of the window, down and across: 0 is the first possible row or column, just below 1 the last.
    """
    spare = [have - want for have, want in zip(frames.shape[1:3], size, strict=True)]
    top, left = (int(share * (pixels + 1)) for share, pixels in zip(place, spare, strict=True))
    return frames[:, top : top + size[0], left : left + size[1]]


def crop(pixels: Tensor, tops: Tensor, lefts: Tensor, size: int) -> Tensor:
    """A square from each picture: (B, H, W, 3), corners (B,) -> (B, size, size, 3)."""
    corners = zip(tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack(
        [picture[top : top + size, left : left + size] for picture, (top, left) in zip(pixels, corners, strict=True)]
    )


def to_model_range(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) -> fp32 (N, 3, H, W) in [-1, 1], a channels_last view."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3) on the CPU."""
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
