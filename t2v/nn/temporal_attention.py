"""Attention over frames (Make-A-Video, section 3.2.2)."""

from functools import partial

import torch
from torch import nn

from t2v.nn.chunks import Chunked, by_pixels
from t2v.nn.embeddings import sinusoidal_embedding
from t2v.ops import add, temporal_attention, to_images, to_tokens


class TemporalAttention(Chunked, nn.Module):
    """Pre-norm residual attention over the frames of each pixel; identity at initialisation (zero output projection).

    Frame positions are sinusoids, added to the normalised input before the projections. The video U-Net
    gives true times, of any spacing; by themselves they count frames.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: torch.Tensor, num_frames: int, positions: torch.Tensor | None = None) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last; positions: (B, F), None for 0 .. F-1 -> the same as x."""
        h, w = x.shape[-2:]
        tokens = to_tokens(x, num_frames)  # (B, F, H*W, C)
        positions = torch.arange(num_frames, device=x.device) if positions is None else positions
        encoding = sinusoidal_embedding(positions.flatten(), tokens.shape[-1]).unflatten(0, positions.shape)
        attend = partial(self._attend, encoding=encoding[..., None, :])
        out = attend(tokens) if self.chunk_size is None else by_pixels(attend, tokens, self.chunk_size)
        return to_images(out, h, w)

    def _attend(self, tokens: torch.Tensor, encoding: torch.Tensor) -> torch.Tensor:
        """tokens: (B, F, N, C); encoding: (F, 1, C) or (B, F, 1, C) -> the shape of tokens."""
        normed = self.norm(tokens)
        normed = add(normed, encoding.to(normed.dtype))
        q, k, v = (to(normed).unflatten(-1, (self.num_heads, -1)) for to in (self.to_q, self.to_k, self.to_v))
        return add(self.to_out(temporal_attention(q, k, v)), tokens)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"
