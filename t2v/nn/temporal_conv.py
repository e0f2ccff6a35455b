"""The time half of a pseudo-3D convolution (Make-A-Video, section 3.2.1)."""

import torch
from torch import nn

from t2v.ops import temporal_conv


class TemporalConv(nn.Module):
    """Convolution over frames, kernel 3, identity at initialisation (Dirac weight, zero bias).

    It stands after a spatial convolution, in a module of its own, so that the keys of the image model stay as they are.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 1))
        self.bias = nn.Parameter(torch.empty(channels))
        nn.init.dirac_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last -> the same."""
        return temporal_conv(x, self.weight, self.bias, num_frames)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size=3"
