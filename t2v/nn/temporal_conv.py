"""The time half of a pseudo-3D convolution (Make-A-Video, section 3.2.1)."""

import torch
from torch import nn

from t2v.ops import temporal_conv, temporal_conv_with_statistics


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

    def forward(self, x: torch.Tensor, num_frames: int, residual: torch.Tensor | None = None) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last -> the same; `residual`, of this shape, is added."""
        return temporal_conv(x, self.weight, self.bias, num_frames, residual)

    def with_statistics(
        self, x: torch.Tensor, num_frames: int, shift: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The convolution plus `shift`, (B, C), and the statistics for a group norm, where they come with it."""
        return temporal_conv_with_statistics(x, self.weight, self.bias, num_frames, shift)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size=3"
