"""The levels of the video U-Net, with the keys of the public format and temporal modules beside."""

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from t2v.errors import InputError
from t2v.models.unet_config import MotionConfig, VideoUNetConfig
from t2v.nn.resnet import Downsample, ResnetBlock, Upsample
from t2v.nn.spatial_attention import SpatialTransformer
from t2v.nn.temporal_attention import TemporalAttention


class Level(nn.Module):
    """What the down, middle and up blocks share: resnets, each followed by its attentions where there are any."""

    resnets: nn.ModuleList
    attentions: nn.ModuleList
    temporal_convs: nn.ModuleList  # one after each resnet, or none
    temporal_attentions: nn.ModuleList

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_heads = num_heads
        self.gradient_checkpointing = False
        self.skips_single_frame = True  # whether a single frame passes temporal attention by
        self.resnets = nn.ModuleList()
        self.attentions = nn.ModuleList()
        self.temporal_convs = nn.ModuleList()
        self.temporal_attentions = nn.ModuleList()

    def add_temporal_attention(self, motion: MotionConfig) -> None:
        """Add temporal attention after each spatial attention, or each resnet if so configured; at first identity."""
        count = len(self.attentions)
        if motion.attention_in_all_levels and count == 0:
            count = len(self.resnets)
        num_heads = motion.num_attention_heads or self.num_heads
        if count and self.channels % num_heads:
            raise InputError(
                f"motion config: num_attention_heads is {num_heads}, which does not divide {self.channels} channels"
            )
        self.temporal_attentions.extend(TemporalAttention(self.channels, num_heads) for _ in range(count))

    def _resnet(self, i: int, x: torch.Tensor, time_embedding: torch.Tensor, num_frames: int) -> torch.Tensor:
        x = self._run(self.resnets[i], x, time_embedding, num_frames)
        return self._run(self.temporal_convs[i], x, num_frames) if len(self.temporal_convs) else x

    def _attend(
        self, i: int, x: torch.Tensor, text: torch.Tensor, num_frames: int, positions: torch.Tensor | None
    ) -> torch.Tensor:
        if len(self.attentions):
            x = self._run(self.attentions[i], x, text)
        if len(self.temporal_attentions) and (num_frames > 1 or not self.skips_single_frame):
            x = self._run(self.temporal_attentions[i], x, num_frames, positions)
        return x

    def _run(self, module: Callable[..., torch.Tensor], *args: torch.Tensor | int | None) -> torch.Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False)
        return module(*args)


def _resnet(config: VideoUNetConfig, in_channels: int, out_channels: int) -> ResnetBlock:
    return ResnetBlock(in_channels, out_channels, config.time_channels, config.norm_num_groups, config.norm_eps)


def _transformer(config: VideoUNetConfig, channels: int, num_heads: int) -> SpatialTransformer:
    return SpatialTransformer(
        channels,
        config.cross_attention_dim,
        num_heads,
        num_layers=config.transformer_layers_per_block,
        num_groups=config.norm_num_groups,
        use_linear_projection=config.use_linear_projection,
        upcast=config.upcast_attention,
    )


class DownLevel(Level):
    """`down_blocks.i`: DownBlock2D or CrossAttnDownBlock2D."""

    def __init__(self, config: VideoUNetConfig, index: int) -> None:
        channels, num_heads = config.block_out_channels[index], config.heads_per_level[index]
        super().__init__(channels, num_heads)
        in_channels = config.block_out_channels[max(index - 1, 0)]
        for i in range(config.layers_per_block):
            self.resnets.append(_resnet(config, in_channels if i == 0 else channels, channels))
            if config.down_block_types[index] == "CrossAttnDownBlock2D":
                self.attentions.append(_transformer(config, channels, num_heads))
        self.downsamplers = nn.ModuleList()
        if index < len(config.block_out_channels) - 1:
            self.downsamplers.append(Downsample(channels, config.downsample_padding))

    def forward(
        self,
        x: torch.Tensor,
        time_embedding: torch.Tensor,
        text: torch.Tensor,
        num_frames: int,
        positions: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns the output and what the up blocks take over the skip connections."""
        skips = []
        for i in range(len(self.resnets)):
            x = self._resnet(i, x, time_embedding, num_frames)
            x = self._attend(i, x, text, num_frames, positions)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x, num_frames)
            skips.append(x)
        return x, skips


class MidLevel(Level):
    """`mid_block`: UNetMidBlock2DCrossAttn, or UNetMidBlock2D (one resnet)."""

    def __init__(self, config: VideoUNetConfig) -> None:
        channels, num_heads = config.block_out_channels[-1], config.heads_per_level[-1]
        super().__init__(channels, num_heads)
        self.resnets.append(_resnet(config, channels, channels))
        if config.mid_block_type == "UNetMidBlock2DCrossAttn":
            self.attentions.append(_transformer(config, channels, num_heads))
            self.resnets.append(_resnet(config, channels, channels))

    def forward(
        self,
        x: torch.Tensor,
        time_embedding: torch.Tensor,
        text: torch.Tensor,
        num_frames: int,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = self._resnet(0, x, time_embedding, num_frames)
        x = self._attend(0, x, text, num_frames, positions)
        for i in range(1, len(self.resnets)):
            x = self._resnet(i, x, time_embedding, num_frames)
        return x


class UpLevel(Level):
    """`up_blocks.i`: UpBlock2D or CrossAttnUpBlock2D; index 0 is the innermost level."""

    def __init__(self, config: VideoUNetConfig, index: int) -> None:
        outward = tuple(reversed(config.block_out_channels))
        channels, num_heads = outward[index], tuple(reversed(config.heads_per_level))[index]
        super().__init__(channels, num_heads)
        before, after = outward[max(index - 1, 0)], outward[min(index + 1, len(outward) - 1)]
        for i in range(config.layers_per_block + 1):
            skip_channels = after if i == config.layers_per_block else channels
            self.resnets.append(_resnet(config, (before if i == 0 else channels) + skip_channels, channels))
            if config.up_block_types[index] == "CrossAttnUpBlock2D":
                self.attentions.append(_transformer(config, channels, num_heads))
        self.upsamplers = nn.ModuleList()
        if index < len(outward) - 1:
            self.upsamplers.append(Upsample(channels))

    def forward(
        self,
        x: torch.Tensor,
        skips: list[torch.Tensor],
        time_embedding: torch.Tensor,
        text: torch.Tensor,
        num_frames: int,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Takes its skip connections from the end of `skips`."""
        for i in range(len(self.resnets)):
            x = torch.cat([x, skips.pop()], dim=1)
            x = self._resnet(i, x, time_embedding, num_frames)
            x = self._attend(i, x, text, num_frames, positions)
        for upsampler in self.upsamplers:
            x = upsampler(x, skips[-1].shape[-2:], num_frames)
        return x
