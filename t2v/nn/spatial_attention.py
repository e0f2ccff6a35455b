"""The transformer of the Stable Diffusion U-Net: self-attention in each frame, cross-attention to the text, GEGLU."""

import torch
from torch import nn

from t2v.nn.chunks import Chunked, by_frames
from t2v.nn.norm import Norm
from t2v.ops import add, attention, geglu, to_images, to_tokens


class Attention(nn.Module):
    """Multi-head attention; keys of the public format (`to_q`, `to_k`, `to_v`, `to_out.0`)."""

    def __init__(self, channels: int, context_channels: int, num_heads: int, upcast: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.upcast = upcast
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x: (B, N, C), context: (B, L, D) -> (B, N, C)."""
        q = self.to_q(x).unflatten(-1, (self.num_heads, -1))
        k = self.to_k(context).unflatten(-1, (self.num_heads, -1))
        v = self.to_v(context).unflatten(-1, (self.num_heads, -1))
        return self.to_out[0](attention(q, k, v, self.upcast))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"


class GEGLU(nn.Module):
    """Linear layer gated by GELU: (..., C) -> (..., inner)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return geglu(self.proj(x))


class FeedForward(nn.Module):
    """GEGLU and a linear layer, four times as wide inside; keys `net.0.proj` and `net.2` of the public format."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Self-attention in each frame, cross-attention to the text, feed-forward; pre-norm residuals."""

    def __init__(self, channels: int, context_channels: int, num_heads: int, upcast: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, num_heads, upcast)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context_channels, num_heads, upcast)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """x: (B*F, H*W, C); text: (B, L, D) for all frames of a video, or (B*F, L, D) -> the shape of x."""
        normed = self.norm1(x)
        x = add(self.attn1(normed, normed), x)
        queries = self.norm2(x).view(text.shape[0], -1, x.shape[-1])  # all frames ask the same keys
        x = add(self.attn2(queries, text).view_as(x), x)
        return add(self.ff(self.norm3(x)), x)


class SpatialTransformer(Chunked, nn.Module):
    """GroupNorm, projection in, transformer blocks, projection out, residual; per frame but for the shared text."""

    def __init__(
        self,
        channels: int,
        context_channels: int,
        num_heads: int,
        *,
        num_layers: int = 1,
        num_groups: int = 32,
        use_linear_projection: bool = False,
        upcast: bool = False,
    ) -> None:
        super().__init__()
        self.use_linear_projection = use_linear_projection
        self.norm = Norm(num_groups, channels, eps=1e-6)
        blocks = (TransformerBlock(channels, context_channels, num_heads, upcast) for _ in range(num_layers))
        self.proj_in: nn.Module
        self.proj_out: nn.Module
        if use_linear_projection:
            self.proj_in, self.proj_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        else:
            self.proj_in, self.proj_out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last; text: (B, L, D) or (B*F, L, D) -> the shape and layout of x."""
        return (
            self._transform(x, text)
            if self.chunk_size is None
            else by_frames(self._transform, x, text, self.chunk_size)
        )

    def _transform(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        h, w = x.shape[-2:]
        hidden = self.norm(x)
        if self.use_linear_projection:
            hidden = self.proj_in(to_tokens(hidden, 1).squeeze(1))
        else:
            hidden = to_tokens(self.proj_in(hidden), 1).squeeze(1)  # (B*F, H*W, C)
        for block in self.transformer_blocks:
            hidden = block(hidden, text)
        if self.use_linear_projection:
            hidden = to_images(self.proj_out(hidden), h, w)
        else:
            hidden = self.proj_out(to_images(hidden, h, w))
        return add(hidden, x)
