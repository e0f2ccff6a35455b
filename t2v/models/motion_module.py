"""The temporal transformer of AnimateDiff (arXiv 2307.04725): attention over the frames of each pixel.

At first it changes nothing (zero output projection), which is how AnimateDiff's training starts. The names of its
parameters are those of diffusers' MotionAdapter.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from t2v.models.unet_config import MotionConfig
from t2v.nn.chunks import Chunked, by_pixels
from t2v.nn.embeddings import sinusoidal_embedding
from t2v.nn.norm import Norm
from t2v.nn.spatial_attention import Attention, FeedForward
from t2v.ops import add, temporal_attention, to_images, to_tokens


@dataclass(frozen=True)
class AnimateDiffConfig(MotionConfig):
    """The motion modules of a file. Where it does not say so, they were trained on 16 frames, whatever the length of
    their table of positions.

    As with all motion here, a single frame skips them; diffusers runs them on it, too.
    """

    num_attention_heads: int | None = 8
    attention_in_all_levels: bool = True
    temporal_conv: bool = False
    fps_conditioning: bool = False
    version: str = "v3"
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    num_layers: int = 1  # transformer blocks in a module
    norm_num_groups: int = 32
    max_length: int = 32  # frames in the table of positions
    mid_block: bool = False  # also a module in the middle of the U-Net
    norm_over_frames: bool = True  # see MotionModule

    @property
    def layers(self) -> str:
        """The kind of temporal layers, for people."""
        return f"attention of AnimateDiff {self.version}"

    def to_adapter(self) -> dict[str, Any]:
        """`config.json` of diffusers' MotionAdapter."""
        return {
            "_class_name": "MotionAdapter",
            "block_out_channels": list(self.block_out_channels),
            "motion_layers_per_block": self.layers_per_block,
            "motion_transformer_layers_per_block": self.num_layers,
            "motion_mid_block_layers_per_block": 1,
            "motion_transformer_layers_per_mid_block": 1,
            "motion_num_attention_heads": self.num_attention_heads,
            "motion_norm_num_groups": self.norm_num_groups,
            "motion_max_seq_length": self.max_length,
            "use_motion_mid_block": self.mid_block,
            "conv_in_channels": None,
        }


def frame_positions(positions: torch.Tensor, channels: int) -> torch.Tensor:
    """Sinusoids of frame numbers (...,), sines at even channels and cosines at odd ones: (..., channels), float32."""
    encoding = sinusoidal_embedding(positions.flatten(), channels)
    return torch.stack(encoding.chunk(2, dim=-1), dim=-1).flatten(-2).unflatten(0, positions.shape)


class FrameAttention(Attention):
    """Self-attention over frames, with the keys of the public format."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__(channels, channels, num_heads, upcast=False)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """x: (B, F, N, C), context: x -> (B, F, N, C)."""
        q, k, v = (to(x).unflatten(-1, (self.num_heads, -1)) for to in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](temporal_attention(q, k, v))


class FrameTransformerBlock(nn.Module):
    """Two self-attentions over frames and a gated feed-forward; pre-norm residuals, positions before each attention."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = FrameAttention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = FrameAttention(channels, num_heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
        """x: (B, F, N, C); positions: (F, 1, C), (B, F, 1, C) or None -> the shape of x."""
        for norm, attention in ((self.norm1, self.attn1), (self.norm2, self.attn2)):
            normed = norm(x) if positions is None else add(norm(x), positions)
            x = add(attention(normed, normed), x)
        return add(self.ff(self.norm3(x)), x)


class MotionModule(Chunked, nn.Module):
    """GroupNorm, projection in, transformer blocks over frames, projection out, residual.

    The statistics of the GroupNorm are those of all frames together, as in diffusers (`norm_over_frames`), or of each
    frame, as in AnimateDiff's own code. ModelScope's transformers over frames are the same, without positions.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_layers: int,
        num_groups: int,
        norm_over_frames: bool = True,
        inner_channels: int | None = None,  # of the transformer blocks; None: as many as outside
        has_positions: bool = True,
    ) -> None:
        super().__init__()
        inner = inner_channels or channels
        self.norm_over_frames = norm_over_frames
        self.has_positions = has_positions
        self.norm = Norm(num_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList(FrameTransformerBlock(inner, num_heads) for _ in range(num_layers))
        self.proj_out = nn.Linear(inner, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: torch.Tensor, num_frames: int, positions: torch.Tensor | None = None) -> torch.Tensor:
        """x: (B*F, C, H, W), channels_last; positions: (B, F), None for 0 .. F-1 -> the same as x."""
        h, w = x.shape[-2:]
        frames = to_images(to_tokens(x, num_frames), num_frames * h, w) if self.norm_over_frames else x
        hidden = self.proj_in(to_tokens(self.norm(frames), 1).view(-1, num_frames, h * w, x.shape[1]))
        encoding = None
        if self.has_positions:
            positions = torch.arange(num_frames, device=x.device) if positions is None else positions
            encoding = frame_positions(positions, hidden.shape[-1]).to(hidden.dtype)[..., None, :]
        for block in self.transformer_blocks:
            transform = partial(block, positions=encoding)
            hidden = transform(hidden) if self.chunk_size is None else by_pixels(transform, hidden, self.chunk_size)
        return add(to_images(self.proj_out(hidden), h, w), x)
