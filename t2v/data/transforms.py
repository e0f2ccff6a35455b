"""Pictures to tensors: resize, crop, scale to [-1, 1]."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def fit_square(image: Image.Image, resolution: int) -> np.ndarray:
    """Resize the shorter side to `resolution` and cut the centre square: uint8 (resolution, resolution, 3)."""
    image = image.convert("RGB")
    if image.size != (resolution, resolution):
        scale = resolution / min(image.size)
        width, height = (max(resolution, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        left, top = (width - resolution) // 2, (height - resolution) // 2
        image = image.crop((left, top, left + resolution, top + resolution))
    return np.asarray(image)


def fit_frames(frames: np.ndarray, resolution: int) -> np.ndarray:
    """`fit_square` for every frame: uint8 (F, H, W, 3) -> (F, resolution, resolution, 3)."""
    if frames.shape[1:3] == (resolution, resolution):
        return frames
    return np.stack([fit_square(Image.fromarray(frame), resolution) for frame in frames])


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
