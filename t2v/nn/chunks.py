"""Layers that work on a part of their tokens at a time: less memory, the same arithmetic. For inference alone."""

from collections.abc import Callable

import torch


class Chunked:
    """A layer that can be told how many tokens to work on at once."""

    chunk_size: int | None = None  # frames, or as many tokens as they have; None: all


def by_frames(
    layer: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    text: torch.Tensor,
    chunk_size: int,
) -> torch.Tensor:
    """`layer(images, text)`, for at most `chunk_size` frames at a time.

    Args:
        layer: treats each frame on its own; its output has the shape of its images.
        images: (B*F, C, H, W).
        text: (B, L, D) for all frames of a video, or (B*F, L, D).
    """
    if len(text) < len(images):
        videos = images.split(len(images) // len(text))
        parts = [
            (part, words)
            for video, words in zip(videos, text.split(1), strict=True)
            for part in video.split(chunk_size)
        ]
    else:
        parts = list(zip(images.split(chunk_size), text.split(chunk_size), strict=True))
    out, done = torch.empty_like(images), 0
    for part, words in parts:
        out[done : done + len(part)] = layer(part, words)
        done += len(part)
    return out


def by_pixels(layer: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """`layer(tokens)`, for at most as many pixels at a time as have the tokens of `chunk_size` frames.

    Args:
        layer: treats each pixel, with all its frames, on its own; its output has the shape of its tokens.
        tokens: (B, F, N, C), contiguous.
    """
    num_frames, num_pixels = tokens.shape[1:3]
    step = max(1, num_pixels * chunk_size // num_frames)
    out = torch.empty_like(tokens)
    for part, place in zip(tokens.split(step, dim=2), out.split(step, dim=2), strict=True):
        place.copy_(layer(part.contiguous()))
    return out
