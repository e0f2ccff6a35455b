"""The video U-Net: the public Stable Diffusion U-Net with temporal modules beside its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2v.models.base import check_state_dict, load_config, load_state_dict, save_model
from t2v.models.unet_blocks import DownLevel, Level, MidLevel, UpLevel
from t2v.models.unet_config import MotionConfig, VideoUNetConfig
from t2v.nn.chunks import Chunked
from t2v.nn.embeddings import FpsEmbedding, TimestepEmbedding, sinusoidal_embedding
from t2v.nn.norm import NormSiLU
from t2v.nn.resnet import Downsample, ResnetBlock, Upsample, pseudo_conv3d
from t2v.nn.temporal_conv import TemporalConv

__all__ = ["MotionConfig", "VideoUNet", "VideoUNetConfig", "is_temporal"]


TIMES_PER_SECOND = 8.0  # the unit in which temporal attention sees times: 16 frames at 8 fps are at 0 .. 15


def is_temporal(name: str) -> bool:
    """Whether a parameter or module of the video U-Net belongs to its motion part, by its dotted name."""
    return any(part.startswith("temporal_") or part == "fps_embedding" for part in name.split("."))


class VideoUNet(nn.Module):
    """Noise prediction for images and videos.

    Without `motion` it is the image U-Net, and a video is a batch of images. With `motion` it has temporal
    convolutions, temporal attention or both, and an fps embedding, all identity-initialised; a single frame skips them.

    Inside, activations are stored as (B, F, H, W, C), contiguous: one copy at entry, one at exit, views between.
    """

    def __init__(self, config: VideoUNetConfig, motion: MotionConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.motion: MotionConfig | None = None
        channels = config.block_out_channels
        levels = range(len(channels))
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], config.time_channels)
        self.down_blocks = nn.ModuleList(DownLevel(config, i) for i in levels)
        self.mid_block = MidLevel(config) if config.mid_block_type else None
        self.up_blocks = nn.ModuleList(UpLevel(config, i) for i in levels)
        self.conv_norm_out = NormSiLU(config.norm_num_groups, channels[0], config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)
        self.temporal_conv_in: TemporalConv | None = None
        self.temporal_conv_out: TemporalConv | None = None
        self.temporal_transformer_in: nn.Module | None = None
        self.fps_embedding: FpsEmbedding | None = None
        if motion is not None:
            self.add_temporal(motion)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def add_temporal(self, motion: MotionConfig) -> None:
        """Add the temporal modules, identity-initialised, in the dtype and on the device of the network."""
        assert self.motion is None, "the network has its temporal modules already"
        for module in list(self.modules()):
            if isinstance(module, ResnetBlock | Downsample | Upsample) and motion.temporal_conv:
                module.add_temporal()
            elif isinstance(module, Level) and motion.temporal_attention:
                module.add_temporal_attention(motion)
        if motion.temporal_conv:
            self.temporal_conv_in = TemporalConv(self.config.block_out_channels[0])
            self.temporal_conv_out = TemporalConv(self.config.out_channels)
        if motion.fps_conditioning:
            self.fps_embedding = FpsEmbedding(self.config.block_out_channels[0], self.config.time_channels)
        self.motion = motion
        weight = self.conv_in.weight
        for name, module in self.named_modules():
            if is_temporal(name):
                module.to(weight.device, weight.dtype, memory_format=torch.channels_last)

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute activations in the backward pass instead of storing them."""
        return all(level.gradient_checkpointing for level in self._levels())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        for level in self._levels():
            level.gradient_checkpointing = value

    @property
    def attention_chunk_size(self) -> int | None:
        """Frames, or as many tokens as they have, that attention layers work on at once; None: all of them."""
        return next((module.chunk_size for module in self.modules() if isinstance(module, Chunked)), None)

    @attention_chunk_size.setter
    def attention_chunk_size(self, value: int | None) -> None:
        for module in self.modules():
            if isinstance(module, Chunked):
                module.chunk_size = value

    def _levels(self) -> list[Level]:
        return [module for module in self.modules() if isinstance(module, Level)]

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        fps: torch.Tensor | float | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict what the noise schedule's `prediction_type` says.

        Args:
            x: noisy latents, a video (B, C, F, H, W) or an image (B, C, H, W).
            timesteps: (B,) or one number for all.
            encoder_hidden_states: text (B, L, D) for all frames, or (B, F, L, D) for each frame.
            fps: frames per second, (B,) or one number; None: the motion config's. It is embedded, and says how far
                apart temporal attention sees the frames. No effect without fps conditioning, or for a single frame.
            positions: (B, F), of the frames in time, in units of 1 / fps; None: 0 .. F-1.
        Returns: (B, out_channels, F, H, W) or (B, out_channels, H, W).
        """
        video = x if x.ndim == 5 else x.unsqueeze(2)
        b, c, f, h, w = video.shape
        text = encoder_hidden_states
        if text.ndim == 4:
            assert text.shape[1] == f, f"text for {text.shape[1]} frames, video of {f}"
            text = text.flatten(0, 1)  # (B*F, L, D)
        rate = self._rate(fps, x.device)
        time = nn.functional.silu(self._embed_time(timesteps, rate, b, f, x.device))
        hidden = video.permute(0, 2, 3, 4, 1).contiguous().view(b * f, h, w, c).permute(0, 3, 1, 2)
        hidden = self._denoise(hidden, time, text, f, self._times(positions, rate, f))
        out = hidden.view(b, f, -1, h, w).permute(0, 2, 1, 3, 4).contiguous()
        return out if x.ndim == 5 else out.squeeze(2)

    def _embed_time(
        self, timesteps: torch.Tensor | float, fps: torch.Tensor | None, b: int, f: int, device: torch.device
    ) -> torch.Tensor:
        dtype = self.conv_in.weight.dtype
        encoding = sinusoidal_embedding(
            torch.as_tensor(timesteps, device=device).expand(b),
            self.config.block_out_channels[0],
            flip_sin_to_cos=self.config.flip_sin_to_cos,
            freq_shift=self.config.freq_shift,
        )
        embedding = self.time_embedding(encoding.to(dtype))
        if fps is not None and self.fps_embedding is not None and f > 1:
            embedding = embedding + self.fps_embedding(fps.expand(b))
        return embedding

    def _rate(self, fps: torch.Tensor | float | None, device: torch.device) -> torch.Tensor | None:
        """Frames per second on the device; None without motion."""
        if self.motion is None:
            return None
        return torch.as_tensor(self.motion.fps if fps is None else fps, device=device)

    def _times(self, positions: torch.Tensor | None, fps: torch.Tensor | None, f: int) -> torch.Tensor | None:
        """What temporal attention sees of the frames: their times, so that half a second is alike at every rate.

        Without fps conditioning it sees positions as they are given.
        """
        if fps is None or self.fps_embedding is None or f == 1:
            return positions
        if positions is None:
            positions = torch.arange(f, device=fps.device)[None]
        return positions * (TIMES_PER_SECOND / fps.reshape(-1, 1))

    def _denoise(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        text: torch.Tensor,
        num_frames: int,
        positions: torch.Tensor | None,
    ) -> torch.Tensor:
        x = pseudo_conv3d(self.conv_in, self.temporal_conv_in, x, num_frames)
        if self.temporal_transformer_in is not None:
            x = self.temporal_transformer_in(x, num_frames)
        skips = [x]
        for block in self.down_blocks:
            x, new_skips = block(x, time, text, num_frames, positions)
            skips += new_skips
        if self.mid_block is not None:
            x = self.mid_block(x, time, text, num_frames, positions)
        for block in self.up_blocks:
            x = block(x, skips, time, text, num_frames, positions)
        return pseudo_conv3d(self.conv_out, self.temporal_conv_out, self.conv_norm_out(x), num_frames)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "VideoUNet":
        """Read a `unet/` folder of the public format, without motion; parameters are float32."""
        return cls.from_parts(load_config(folder), load_state_dict(folder), str(folder))

    @classmethod
    def from_parts(
        cls,
        config: dict[str, Any],
        state_dict: Mapping[str, torch.Tensor],
        what: str,
        dtype: torch.dtype = torch.float32,
    ) -> "VideoUNet":
        """From a public `config.json` and its weights; `what` is what messages call them."""
        with torch.device("meta"):
            unet = cls(VideoUNetConfig.from_dict(config))
        check_state_dict(unet, state_dict, what)
        # copied: in the file tensors lie at any address, and products of unaligned ones are rounded otherwise
        unet.load_state_dict({name: tensor.to(dtype, copy=True) for name, tensor in state_dict.items()}, assign=True)
        return unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the spatial weights as a `unet/` folder of the public format; motion is saved by `save_motion`."""
        spatial = {name: tensor for name, tensor in self.state_dict().items() if not is_temporal(name)}
        save_model(folder, self.config.to_dict(), spatial, dtype=dtype)
