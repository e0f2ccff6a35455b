"""Which frames of a training clip are known: one network learns to fill in, to go on in both directions, and to make.

A mask is 1 where a frame is known and 0 where it is to be made; at least one frame always is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from t2v.training.config_sections import MaskMix
from t2v.training.randomness import uniform

# A pattern makes the mask (F,) from the number of frames and two uniform numbers in [0, 1).
Pattern = Callable[[int, float, float], Tensor]


def _known(num_frames: int, places: list[int]) -> Tensor:
    mask = torch.zeros(num_frames)
    mask[places] = 1
    return mask


def _pick(draw: float, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(draw * (high - low + 1))


def strided(num_frames: int, draw: float, _: float) -> Tensor:
    """Every s-th frame, s from 2 to 5, and the last: a higher frame rate."""
    stride = _pick(draw, 2, 5)
    return _known(num_frames, [*range(0, num_frames, stride), num_frames - 1])


def endpoints(num_frames: int, _: float, __: float) -> Tensor:
    """First and last: a pair of images."""
    return _known(num_frames, [0, num_frames - 1])


def first(num_frames: int, draw: float, other: float) -> Tensor:
    """The first c, half of the time one, else 2 to 4: a still that moves, a clip that goes on."""
    count = 1 if draw < 0.5 else _pick(other, 2, min(4, num_frames - 1))
    return _known(num_frames, list(range(count)))


def last(num_frames: int, draw: float, other: float) -> Tensor:
    """The last c, as `first`: what came before."""
    return first(num_frames, draw, other).flip(0)


def both_ends(num_frames: int, draw: float, _: float) -> Tensor:
    """c at both ends, 2 to 4: a gap in a clip, with its motion before and after."""
    count = _pick(draw, 2, max(2, min(4, (num_frames - 1) // 2)))
    return torch.maximum(_known(num_frames, list(range(count))), _known(num_frames, list(range(-count, 0))))


def scattered(num_frames: int, draw: float, other: float) -> Tensor:
    """1 to 4 frames anywhere (arXiv 2206.07696)."""
    order = torch.randperm(num_frames, generator=torch.Generator().manual_seed(int(other * 2**24)))
    return _known(num_frames, order[: _pick(draw, 1, min(4, num_frames - 1))].tolist())


def none(num_frames: int, _: float, __: float) -> Tensor:
    """No frame: plain generation, and the null of guidance by frames."""
    return torch.zeros(num_frames)


PATTERNS: dict[str, Pattern] = {
    "strided": strided,
    "endpoints": endpoints,
    "first": first,
    "last": last,
    "both_ends": both_ends,
    "scattered": scattered,
    "none": none,
}


def draw_masks(keys: Tensor, num_frames: int, mix: MaskMix) -> tuple[Tensor, list[str]]:
    """Masks (B, F), and the names of their patterns, in the proportions of the mix.

    Args:
        keys: int64 (B,), of the samples' random numbers.
        num_frames: at least 5, so that every pattern leaves a frame to be made.
    """
    shares = mix.model_dump()
    names = list(shares)
    bounds = torch.tensor(list(shares.values()), dtype=torch.float64).cumsum(0)
    draws = uniform(keys, 3).cpu()
    chosen = torch.searchsorted(bounds / bounds[-1], draws[:, 0].double(), right=True).clamp(max=len(names) - 1)
    patterns = [names[place] for place in chosen.tolist()]
    masks = [PATTERNS[name](num_frames, *pair) for name, pair in zip(patterns, draws[:, 1:].tolist(), strict=True)]
    return torch.stack(masks).to(keys.device), patterns
