"""Prompts that change over a video: text embeddings between key frames."""

from collections.abc import Sequence

import torch
from torch import Tensor


def embeds_of_frames(embeds: Tensor, key_frames: Sequence[int], num_frames: int) -> Tensor:
    """Linear interpolation between the embeddings of key frames; the last one holds to the end.

    Args:
        embeds: (K, L, D), of the key frames.
        key_frames: K frame numbers in rising order, the first of them 0.

    Returns:
        (F, L, D), in the dtype of embeds.
    """
    assert key_frames[0] == 0 and list(key_frames) == sorted(set(key_frames)), key_frames
    keys = torch.tensor(key_frames, dtype=torch.float32)
    frames = torch.arange(num_frames, dtype=torch.float32)
    low = torch.searchsorted(keys, frames, right=True) - 1
    high = (low + 1).clamp(max=len(keys) - 1)
    weight = (frames - keys[low]) / (keys[high] - keys[low]).clamp(min=1)
    weight = weight.where(high > low, 0.0).to(embeds.device)[:, None, None]
    return torch.lerp(embeds[low].float(), embeds[high].float(), weight).to(embeds.dtype)
