"""Nearest-neighbour enlargement of feature maps."""

import torch
from einops import rearrange, repeat
from torch.nn import functional as F


def enlarge(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Nearest-neighbour enlargement, (N, C, H, W) to (N, C, *size).

    In a compiled network doubling, also to one row or column less, is done by views, and the result is channels_last.
    Compiled for the CPU in bfloat16, `F.interpolate` may pass no gradient on, and what lies below silently stays as it
    is: between convolutions torch 2.13 reads the gradient together with its zeros, before the scatter that fills it.
    """
    doubles = all(0 <= 2 * before - after <= 1 for before, after in zip(images.shape[-2:], size, strict=True))
    if not (torch.compiler.is_compiling() and doubles):
        return F.interpolate(images, size=size, mode="nearest")
    doubled = repeat(images, "n c h w -> n (h p) (w q) c", p=2, q=2)[:, : size[0], : size[1]]
    return rearrange(doubled.contiguous(), "n h w c -> n c h w")
