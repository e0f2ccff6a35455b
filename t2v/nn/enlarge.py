"""Nearest-neighbour enlargement of feature maps."""

import torch
from torch.nn import functional as F


def enlarge(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Nearest-neighbour enlargement, (N, C, H, W) to (N, C, *size).

    In a compiled network doubling, also to one row or column less, is done by views: compiled for the CPU in bfloat16,
    `F.interpolate` passes no gradient on (torch 2.13 fuses what reads the gradient with its zeros, before the scatter
    that fills it), and everything below would silently stay as it is.
    """
    doubles = all(0 <= 2 * before - after <= 1 for before, after in zip(images.shape[-2:], size, strict=True))
    if not (torch.compiler.is_compiling() and doubles):
        return F.interpolate(images, size=size, mode="nearest")
    pixels = images.permute(0, 2, 3, 1)[:, :, None, :, None]
    doubled = pixels.expand(-1, -1, 2, -1, 2, -1).flatten(3, 4).flatten(1, 2)  # (N, 2H, 2W, C)
    return doubled[:, : size[0], : size[1]].permute(0, 3, 1, 2)
