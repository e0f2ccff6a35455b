"""Random numbers that do not depend on the device or on the batch."""

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
