"""Residual convolution blocks and resampling of the Stable Diffusion U-Net, with temporal convolutions beside.

A module made here is spatial; `add_temporal` gives it its temporal convolutions, which are skipped for a single frame.
"""

import torch
from torch import nn
from torch.nn import functional as F

from t2v.nn.enlarge import enlarge
from t2v.nn.norm import NormSiLU
from t2v.nn.temporal_conv import TemporalConv
from t2v.ops import add, add_to_frames


def pseudo_conv3d(
    conv: nn.Module,
    temporal: TemporalConv | None,
    x: torch.Tensor,
    num_frames: int,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """A spatial convolution, then its temporal one if there is one and something to mix, plus the residual if given.

    x: (B*F, C, H, W), channels_last -> (B*F, O, H', W'), channels_last.
    """
    x = conv(x)
    if temporal is not None and num_frames > 1:
        return temporal(x, num_frames, residual)
    return x if residual is None else add(x, residual)


class ResnetBlock(nn.Module):
    """Norm, SiLU, convolution, time embedding, norm, SiLU, convolution, shortcut."""

    def __init__(self, in_channels: int, out_channels: int, time_channels: int, num_groups: int, eps: float) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.norm1 = NormSiLU(num_groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = NormSiLU(num_groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.temporal_conv1: TemporalConv | None = None
        self.temporal_conv2: TemporalConv | None = None

    def add_temporal(self) -> None:
        """Add the temporal convolutions, identity-initialised."""
        self.temporal_conv1 = TemporalConv(self.out_channels)
        self.temporal_conv2 = TemporalConv(self.out_channels)

    def forward(self, x: torch.Tensor, time_embedding: torch.Tensor, num_frames: int) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last; time_embedding: (B, E) after SiLU -> (B*F, O, H, W), channels_last."""
        hidden, statistics = self._embed(self.norm1(x), self.time_emb_proj(time_embedding), num_frames)
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return pseudo_conv3d(self.conv2, self.temporal_conv2, self.norm2(hidden, statistics), num_frames, shortcut)

    def _embed(self, x: torch.Tensor, shift: torch.Tensor, num_frames: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The first convolution plus the time's shift, and what it knows of the statistics of its result."""
        x = self.conv1(x)
        if self.temporal_conv1 is None or num_frames == 1:
            return add_to_frames(x, shift, num_frames), None
        return self.temporal_conv1.with_statistics(x, num_frames, shift)


class Downsample(nn.Module):
    """Half the height and width by a strided convolution; padding 0 pads right and bottom by one."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.channels = channels
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.temporal_conv: TemporalConv | None = None

    def add_temporal(self) -> None:
        """Add the temporal convolution, identity-initialised."""
        self.temporal_conv = TemporalConv(self.channels)

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        if self.padding == 0:
            x = F.pad(x, (0, 1, 0, 1))
        return pseudo_conv3d(self.conv, self.temporal_conv, x, num_frames)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to a given size, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.temporal_conv: TemporalConv | None = None

    def add_temporal(self) -> None:
        """Add the temporal convolution, identity-initialised."""
        self.temporal_conv = TemporalConv(self.channels)

    def forward(self, x: torch.Tensor, size: tuple[int, int], num_frames: int) -> torch.Tensor:
        return pseudo_conv3d(self.conv, self.temporal_conv, enlarge(x, size), num_frames)
