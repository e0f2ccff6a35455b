"""Embeddings of timesteps, frame rates and frame positions."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def sinusoidal_embedding(
    values: torch.Tensor, dim: int, *, flip_sin_to_cos: bool = False, freq_shift: float = 0.0
) -> torch.Tensor:
    """Sinusoids of real numbers with geometric frequencies 1 ... 1/10000 (Vaswani et al. 2017; DDPM's timesteps).

    Args:
        values: (N,), any real dtype; computed in float32.
        dim: even size of the encoding.
        flip_sin_to_cos: cosines first.
        freq_shift: the last frequency is 10000^-(half - 1) / (half - freq_shift), half = dim / 2.
    Returns: (N, dim), float32, [sin | cos].
    """
    half = dim // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / (half - freq_shift)
    angles = values[:, None].float() * torch.exp(exponent)[None]
    parts = (torch.cos(angles), torch.sin(angles)) if flip_sin_to_cos else (torch.sin(angles), torch.cos(angles))
    return torch.cat(parts, dim=-1)


class TimestepEmbedding(nn.Module):
    """Two linear layers with SiLU between, on a sinusoidal encoding: (N, in_channels) -> (N, out_channels)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)

    def forward(self, encoding: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.silu(self.linear_1(encoding)))


class FpsEmbedding(nn.Module):
    """What the frame rate adds to the time embedding, at first zero: (N,) frames per second -> (N, out_channels)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.linear_1 = nn.Linear(in_channels, out_channels)
        self.linear_2 = nn.Linear(out_channels, out_channels)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, fps: torch.Tensor) -> torch.Tensor:
        encoding = sinusoidal_embedding(fps, self.in_channels).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(encoding)))
