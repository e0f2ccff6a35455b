"""Made frames take the colours of the known frames beside them, so that these do not flash."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLUR = 1 / 32  # standard deviation of the low pass, of the width


def low_pass(pictures: Tensor, deviation: float) -> Tensor:
    """Gaussian blur: (N, C, H, W) -> the same; `deviation` in pixels."""
    radius = min(int(3 * deviation + 0.5), min(pictures.shape[2:]) - 1)
    if radius < 1:
        return pictures
    offsets = torch.arange(-radius, radius + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, -1)
    padded = F.pad(pictures, [radius] * 4, mode="reflect")
    across = F.conv2d(padded, kernel[:, :, None, :], groups=pictures.shape[1])
    return F.conv2d(across, kernel[:, :, :, None], groups=pictures.shape[1])


def match_colours(
    made: Tensor, times: Sequence[float], known: Tensor, returned: Tensor, known_times: Sequence[float]
) -> Tensor:
    """Add to each made frame what the model takes from the colours of its known neighbours.

    That is the low pass of known - returned, linear in time between known frames and constant beyond them. Only colour
    and brightness move: detail would leave a ghost.

    Args:
        made: frames (N, C, H, W) at `times`.
        known, returned: the known frames (K, C, H, W) as they are, and as the model gives them back.
    """
    residual = low_pass(known - returned, BLUR * known.shape[-1])
    places = np.interp(times, known_times, np.arange(len(known_times)))
    before = torch.from_numpy(np.floor(places).astype(np.int64))
    after = (before + 1).clamp(max=len(known_times) - 1)
    weight = torch.from_numpy(places - np.floor(places)).to(made)[:, None, None, None]
    return made + (1 - weight) * residual[before] + weight * residual[after]
