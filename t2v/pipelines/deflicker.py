"""Less flicker in generated videos: non-local means (Buades, Coll and Morel, 2005) over time, on the latents."""

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 15  # frames to either side that a frame is averaged with
_PATCH = 3  # latent pixels along a side of the patches that are compared


def deflicker(latents: Tensor, strength: float) -> Tensor:
    """Average each place over the frames that look alike there, so that what should stand still does.

    The weight of another frame is exp(-d / (2 strength^2)), d the mean squared difference of the two frames over
    channels and a patch round the place. What changes by much more than `strength`, as where something moves, is left
    as it is; what changes by much less is averaged over time.

    Args:
        latents: (B, C, F, h, w) with about unit variance, as the U-Net sees them.
        strength: above 0, in units of the latents.

    Returns:
        (B, C, F, h, w).
    """
    total, weight = latents.clone(), torch.ones_like(latents[:, :1])
    for distance in range(1, min(REACH, latents.shape[2] - 1) + 1):
        earlier, later = latents[:, :, :-distance], latents[:, :, distance:]
        difference = (later - earlier).square().mean(1)  # (B, F - distance, h, w)
        difference = F.avg_pool2d(difference, _PATCH, 1, _PATCH // 2, count_include_pad=False)
        likeness = torch.exp(-difference / (2 * strength**2))[:, None]
        total[:, :, distance:] += likeness * earlier
        total[:, :, :-distance] += likeness * later
        weight[:, :, distance:] += likeness
        weight[:, :, :-distance] += likeness
    return total / weight
