"""Long videos in overlapping windows of frames, each as long as a network was trained on."""

import math

import torch
from torch import Tensor

from t2v.diffusion.denoiser import ConditionalDenoiser


def window_starts(num_frames: int, length: int, overlap: int) -> list[int]:
    """Where windows of `length` start that cover `num_frames`, evenly spread; neighbours share at least `overlap`."""
    if num_frames <= length:
        return [0]
    count = math.ceil((num_frames - overlap) / (length - overlap))
    return [round(index * (num_frames - length) / (count - 1)) for index in range(count)]


def pyramid(length: int) -> Tensor:
    """Weights of the frames of a window, highest in the middle: 1, 2, ..., 2, 1."""
    rising = torch.arange(1, length + 1)
    return torch.minimum(rising, rising.flip(0)).float()


def in_windows(network: ConditionalDenoiser, length: int, overlap: int) -> ConditionalDenoiser:
    """A network of (B, C, F, h, w) that is run on windows of at most `length` frames, one after another.

    Where windows overlap, their outputs are averaged with pyramid weights, so that each frame is decided by the windows
    that see it from the middle. The noisy frames are shared, which keeps the windows to one video over the steps.

    Args:
        overlap: frames that neighbouring windows share at least, 0 to length - 1.
    """
    assert 0 <= overlap < length

    def windowed(x: Tensor, timestep: Tensor, prompt_embeds: Tensor, /) -> Tensor:
        num_frames = x.shape[2]
        if num_frames <= length:
            return network(x, timestep, prompt_embeds)
        weight = pyramid(length).to(x.device)[:, None, None]
        total, norm = None, torch.zeros(num_frames, 1, 1, device=x.device)
        for start in window_starts(num_frames, length, overlap):
            frames = slice(start, start + length)
            embeds = prompt_embeds[:, frames] if prompt_embeds.ndim == 4 else prompt_embeds
            out = network(x[:, :, frames], timestep, embeds)
            if total is None:
                total = torch.zeros(*out.shape[:2], num_frames, *out.shape[3:], device=out.device)
            total[:, :, frames] += weight * out
            norm[frames] += weight
        assert total is not None
        return (total / norm).to(out.dtype)

    return windowed
