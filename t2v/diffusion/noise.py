"""Random numbers that do not depend on the device or on the batch, and noise that the frames of a video share."""

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]


def randn(shape: Sequence[int], generator: Generators) -> Tensor:
    """Standard normal numbers of `shape` (B, ...), fp32 on the CPU.

    Args:
        generator: one CPU generator for the whole batch, or a sequence of B, one per item.
    """
    if isinstance(generator, torch.Generator):
        return torch.randn(tuple(shape), generator=generator)
    assert len(generator) == shape[0], f"{len(generator)} generators for a batch of {shape[0]}"
    return torch.stack([torch.randn(tuple(shape[1:]), generator=item) for item in generator])


def share_noise(noise: Tensor, shared_noise: float) -> Tensor:
    """Make the frames of a video share part of their noise, as the mixed noise prior of arXiv 2305.10474 (section 4.1).

    Each frame stays standard normal; two frames correlate by `shared_noise`, alpha^2 / (1 + alpha^2) of the paper. The
    symmetric square root of that covariance does it, so that no further random numbers are needed.

    Args:
        noise: standard normal (B, C, F, h, w).
        shared_noise: share of the variance that all frames have in common, 0 (independent) to below 1.
    """
    if shared_noise == 0:
        return noise
    assert noise.ndim == 5, f"noise of a video is (B, C, F, h, w), got {tuple(noise.shape)}"
    num_frames = noise.shape[2]
    own = (1 - shared_noise) ** 0.5
    common = ((1 - shared_noise + shared_noise * num_frames) ** 0.5 - own) / num_frames
    return own * noise + common * noise.sum(2, keepdim=True)
