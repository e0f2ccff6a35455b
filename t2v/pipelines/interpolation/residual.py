"""What the model loses of the known frames is given back to the made ones: colours, and detail of what stands still."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR_BLUR = 1 / 32  # standard deviation of the low pass, of the width
_LIKENESS_BLUR = 1 / 64
_ALIKE = 0.3  # root mean square difference, pixels from -1 to 1, at which detail is taken over by 1 / e


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


@dataclass(frozen=True)
class KnownFrames:
    """Frames that are known, from -1 to 1, and what the model makes of them."""

    times: Sequence[float]  # seconds, ascending
    pictures: Tensor  # (K, 3, H, W)
    small: Tensor  # (K, 3, h, w): at the size the network works at
    returned: Tensor  # (K, 3, h, w): as the autoencoder gives them back


def give_back(made: Tensor, times: Sequence[float], known: KnownFrames) -> Iterator[Tensor]:
    """Made frames with what the model takes from their known neighbours, at the size of these.

    The low pass of what is lost, colour and brightness, is added everywhere, so that made frames do not flash beside
    known ones; linear in time between known frames and constant beyond them. The rest of it, detail, is added where a
    made frame is like the neighbour as the model returns it: where nothing moved. Elsewhere it would leave a ghost.

    Args:
        made: frames (N, 3, h, w) from -1 to 1 at `times`.

    Yields: each frame, (3, H, W).
    """
    width, size = known.small.shape[-1], known.pictures.shape[2:]
    colour = low_pass(known.small - known.returned, COLOUR_BLUR * width)
    detail = known.pictures - _scaled(known.returned + colour, size)
    for frame, place in zip(made, np.interp(times, known.times, np.arange(len(known.times))), strict=True):
        before = int(place)
        pair = [before, min(before + 1, len(known.times) - 1)]
        shares = torch.tensor([before + 1 - place, place - before]).to(frame)[:, None, None, None]
        likeness = _likeness(frame, known.returned[pair], _LIKENESS_BLUR * width)
        near = shares * likeness
        near = near / near.sum(0).clamp(min=1e-6) * likeness.amax(0)
        coloured = frame + (shares * colour[pair]).sum(0)
        yield _scaled(coloured[None], size)[0] + (_scaled(near, size) * detail[pair]).sum(0)


def _likeness(frame: Tensor, others: Tensor, blur: float) -> Tensor:
    """How like a frame (C, H, W) is to others (N, C, H, W) round each pixel: (N, 1, H, W) from 0 to 1."""
    difference = low_pass((frame - others).square().mean(1, keepdim=True), blur)
    return torch.exp(-difference / _ALIKE**2)


def _scaled(pictures: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(pictures, tuple(size), mode="bicubic", antialias=True)
