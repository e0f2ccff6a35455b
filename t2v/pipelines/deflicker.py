"""Less flicker in generated videos: non-local means over time, on the latents.

Buades, Coll and Morel, "A non-local algorithm for image denoising" (CVPR 2005), whose window is here the same place in
other frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 15  # frames to either side that a frame is averaged with
_PATCH = 3  # latent pixels along a side of the patches that are compared


def deflicker(latents: Tensor, strength: float) -> Tensor:
    """Average each place over the frames that look alike there, so that what should stand still does.

    The weight of another frame, at most REACH away, is exp(-d / (2 strength^2)): d is the mean squared difference of
    the two frames over channels and over the patch round the place, as far as it lies in the picture. That is 1 for
    the frame itself, 0.61 where the patches differ by `strength`, 0.01 at three times as much. So what moves is left
    as it is, unless it is as faint as flicker or, at a high frame rate, as small from frame to frame.

    Args:
        latents: (B, C, F, h, w) with about unit variance, as the U-Net sees them.
        strength: at least 0.001, in units of the latents.

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
