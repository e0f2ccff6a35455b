"""What the model loses of the known frames is given back: colours, the pixels of what stands still, sharpness."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR_BLUR = 1 / 32  # standard deviation of the low pass, of the width
_LIKENESS_BLUR = 1 / 64
_ALIKE = 0.25  # root mean square difference, pixels from -1 to 1, at which a picture's share has fallen to 1 / e
_REGION = 1 / 8  # standard deviation of the window, of the width, over which sharpness is compared
_SHARPEST = 2.0  # times the detail that may be added


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


@dataclass(frozen=True)
class Guesses:
    """What may be in place of the frames that the network made: a cross-fade, or pictures moved by flow."""

    pictures: Iterable[Tensor]  # (3, H, W) each
    returned: Tensor  # (N, 3, h, w): what the network was shown of them, decoded


def give_back(made: Tensor, times: Sequence[float], known: KnownFrames, guesses: Guesses) -> Iterator[Tensor]:
    """Made frames with what the model takes from their known neighbours, at the size of these.

    The low pass of what is lost, colour and brightness, is added everywhere, so that made frames do not flash beside
    known ones; linear in time between known frames and constant beyond them. Where a made frame is like a neighbour, or
    like what was guessed for it, as the model returns these, their own pixels take its place: what stands still stays
    as it is in the known frames. Elsewhere they would leave a ghost. Where the outcome is softer than the neighbours
    round there, what is not theirs is sharpened, so that a video is not sharp and soft by turns.

    Pixels may leave the range a little.

    Args:
        made: frames (N, 3, h, w) from -1 to 1 at `times`.

    Yields: each frame, (3, H, W).
    """
    width, size = known.small.shape[-1], known.pictures.shape[2:]
    colour = low_pass(known.small - known.returned, COLOUR_BLUR * width)
    detail = _regional(_laplacian(known.pictures).square(), known.small.shape[2:])
    places = np.interp(times, known.times, np.arange(len(known.times)))
    for frame, place, guess, returned_guess in zip(made, places, guesses.pictures, guesses.returned, strict=True):
        before = int(place)
        pair = [before, min(before + 1, len(known.times) - 1)]
        shares = torch.tensor([before + 1 - place, place - before]).to(frame)[:, None, None, None]
        pictures = torch.cat([known.pictures[pair], guess[None]])
        returned = torch.cat([known.returned[pair], returned_guess[None]])
        likeness = _likeness(frame, returned, _LIKENESS_BLUR * width)
        near = torch.cat([shares, torch.ones_like(shares[:1])]) * likeness
        near = near / near.sum(0).clamp(min=1e-6) * likeness.amax(0)
        own = 1 - (shares * likeness[:2]).sum(0, keepdim=True)  # 0 where both neighbours show the same
        near, own = (F.interpolate(values, size, mode="bilinear", antialias=True) for values in (near, own))
        coloured = (frame + (shares * colour[pair]).sum(0))[None]
        coloured = F.interpolate(coloured, size, mode="bicubic", antialias=True)[0]
        mixed = coloured * (1 - near.sum(0)) + (near * pictures).sum(0)
        yield _sharpened(mixed[None], own, (shares * detail[pair]).sum(0))[0]


def _likeness(frame: Tensor, others: Tensor, blur: float) -> Tensor:
    """How like a frame (C, H, W) is to others (N, C, H, W) round each pixel: (N, 1, H, W) from 0 to 1."""
    difference = low_pass((frame - others).square().mean(1, keepdim=True), blur)
    return torch.exp(-difference / _ALIKE**2)


def _sharpened(picture: Tensor, own: Tensor, detail: Tensor) -> Tensor:
    """A picture (1, C, H, W), with as much of what a blur takes from it that its mean squared Laplacian is `detail`.

    Round each pixel by itself, and never softer: with p the picture and m what the blur takes, the amount a solves
    mean(L(p + a m)^2) = detail.

    Args:
        own: (1, 1, H, W), 1 where the picture may change, 0 where it must not.
        detail: (1, h, w), of `_regional`.
    """
    lost = own * (picture - F.avg_pool2d(_padded(picture), 3, stride=1))
    before, added = _laplacian(picture), _laplacian(lost)
    size = detail.shape[1:]
    square, linear, constant = (_regional(v, size) for v in (added * added, added * before, before * before))
    missing = (detail - constant).clamp(min=0)
    amount = missing / (linear + (linear.square() + square * missing).sqrt()).clamp(min=1e-12)
    amount = F.interpolate(amount.clamp(0, _SHARPEST), picture.shape[2:], mode="bilinear", antialias=True)
    return picture + amount * lost


def _laplacian(pictures: Tensor) -> Tensor:
    """Of the brightness: (N, C, H, W) -> (N, 1, H, W)."""
    x = _padded(pictures.mean(1, keepdim=True))
    beside = x[..., 1:-1, :-2] + x[..., 1:-1, 2:] + x[..., :-2, 1:-1] + x[..., 2:, 1:-1]
    return beside - 4 * x[..., 1:-1, 1:-1]


def _padded(pictures: Tensor) -> Tensor:
    return F.pad(pictures, [1] * 4, mode="replicate")


def _regional(values: Tensor, size: Sequence[int]) -> Tensor:
    """Means round each place: (N, 1, H, W) -> (N, 1, *size)."""
    return low_pass(F.interpolate(values, tuple(size), mode="area"), _REGION * size[1])
