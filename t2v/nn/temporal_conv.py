"""Convolutions over frames: the time half of a pseudo-3D convolution, and the residual block of ModelScope."""

import torch
from torch import nn

from t2v.nn.norm import NormSiLU, over_frames
from t2v.ops import add, temporal_conv, temporal_conv_with_statistics


class TemporalConv(nn.Module):
    """Convolution over frames, kernel 3, identity at initialisation (Dirac weight, zero bias; Make-A-Video, 3.2.1).

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


class TemporalConvBlock(nn.Module):
    """Four times norm, SiLU and convolution over frames, plus the input (ModelScope, arXiv 2308.06571, section 3.1).

    The statistics of the norms are those of all frames together.
    """

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(NormSiLU(num_groups, channels) for _ in range(4))
        self.convs = nn.ModuleList(TemporalConv(channels) for _ in range(4))

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last -> the same."""
        hidden = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            hidden = conv(over_frames(norm, hidden, num_frames), num_frames)
        return add(hidden, x)
