"""Encoder and decoder of the Stable Diffusion autoencoder, with the state-dict keys of its public format.

All tensors are `(N, C, H, W)`, in channels_last memory on the way through; the residual blocks are those of
"High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752, appendix G) without a time embedding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from t2v.nn.enlarge import enlarge

NORM_EPS = 1e-6
NARROW_GROUP = 16  # channels of a group that fill a vector register in bfloat16


class _NarrowGroupNorm(torch.autograd.Function):
    """GroupNorm whose backward runs on contiguous copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float) -> Tensor:
        shape = (len(x), x.shape[1], x.shape[2] * x.shape[3], num_groups)
        out, mean, rstd = torch.ops.aten.native_group_norm(x, weight, bias, *shape, eps)
        ctx.save_for_backward(x, mean, rstd, weight)
        ctx.shape = shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight = ctx.saved_tensors
        args = (grad.contiguous(), x.contiguous(), mean, rstd, weight, *ctx.shape, [True] * 3)
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_group_norm_backward(*args)
        return grad_x.contiguous(memory_format=torch.channels_last), grad_weight, grad_bias, None, None


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm with a fast backward for narrow groups on the CPU.

    PyTorch's own, in bfloat16 and channels_last, takes up to 25 times as long as in contiguous memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.num_channels < NARROW_GROUP * self.num_groups
        if narrow and x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.is_grad_enabled():
            return _NarrowGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class ResnetBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, plus the input (through a 1x1 convolution where channels change)."""

    def __init__(self, in_channels: int, out_channels: int, norm_num_groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(norm_num_groups, in_channels, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(norm_num_groups, out_channels, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class AttentionBlock(nn.Module):
    """Single-head self-attention over the positions of one frame, plus the input."""

    def __init__(self, channels: int, norm_num_groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(norm_num_groups, channels, eps=NORM_EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(self.group_norm(x), "n c h w -> n 1 (h w) c")
        out = F.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + rearrange(self.to_out[0](out), "n 1 (h w) c -> n c h w", h=x.shape[2])


class Downsample(nn.Module):
    """3x3 convolution with stride 2, padded on the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return self.conv(enlarge(x, (2 * height, 2 * width)))


class MidBlock(nn.Module):
    """Residual block, optional attention, residual block."""

    def __init__(self, channels: int, norm_num_groups: int, add_attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, norm_num_groups) for _ in range(2)])
        self.attentions = nn.ModuleList([AttentionBlock(channels, norm_num_groups)] if add_attention else [])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


def _resnets(in_channels: int, out_channels: int, num_layers: int, norm_num_groups: int) -> nn.ModuleList:
    channels = [in_channels] + [out_channels] * num_layers
    return nn.ModuleList([ResnetBlock(channels[i], channels[i + 1], norm_num_groups) for i in range(num_layers)])


class DownBlock(nn.Module):
    """Residual blocks, then a halving of height and width in all but the last block."""

    def __init__(self, in_channels: int, out_channels: int, num_layers: int, norm_num_groups: int, last: bool) -> None:
        super().__init__()
        self.resnets = _resnets(in_channels, out_channels, num_layers, norm_num_groups)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(out_channels)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in [*self.resnets, *self.downsamplers]:
            x = layer(x)
        return x


class UpBlock(nn.Module):
    """Residual blocks, then a doubling of height and width in all but the last block."""

    def __init__(self, in_channels: int, out_channels: int, num_layers: int, norm_num_groups: int, last: bool) -> None:
        super().__init__()
        self.resnets = _resnets(in_channels, out_channels, num_layers, norm_num_groups)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(out_channels)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in [*self.resnets, *self.upsamplers]:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Frames `(N, in_channels, H, W)` to moments `(N, out_channels, H / f, W / f)`, f = 2^(levels - 1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: tuple[int, ...],
        layers_per_block: int,
        norm_num_groups: int,
        mid_block_add_attention: bool,
    ) -> None:
        super().__init__()
        widths = (block_out_channels[0], *block_out_channels)
        num_levels = len(block_out_channels)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            [
                DownBlock(widths[i], widths[i + 1], layers_per_block, norm_num_groups, last=i == num_levels - 1)
                for i in range(num_levels)
            ]
        )
        self.mid_block = MidBlock(widths[-1], norm_num_groups, mid_block_add_attention)
        self.conv_norm_out = GroupNorm(norm_num_groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """Latents `(N, in_channels, h, w)` to frames `(N, out_channels, h * f, w * f)`, f = 2^(levels - 1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: tuple[int, ...],
        layers_per_block: int,
        norm_num_groups: int,
        mid_block_add_attention: bool,
    ) -> None:
        super().__init__()
        widths = (block_out_channels[-1], *reversed(block_out_channels))
        num_levels = len(block_out_channels)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], norm_num_groups, mid_block_add_attention)
        self.up_blocks = nn.ModuleList(
            [
                UpBlock(widths[i], widths[i + 1], layers_per_block + 1, norm_num_groups, last=i == num_levels - 1)
                for i in range(num_levels)
            ]
        )
        self.conv_norm_out = GroupNorm(norm_num_groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z)
        x = self.mid_block(x)
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
