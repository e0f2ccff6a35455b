"""AnimateDiff motion modules (arXiv 2307.04725) in the video U-Net: after every resnet or its spatial attention."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.animatediff_files import POSITIONS, read_animatediff, read_animatediff_config, save_adapter
from t2v.models.base import check_state_dict
from t2v.models.inflate import init_temporal
from t2v.models.motion_module import AnimateDiffConfig, MotionModule
from t2v.models.unet import VideoUNet, VideoUNetConfig, is_temporal
from t2v.models.unet_blocks import Level

# What the modules were trained with, by AnimateDiff's inference configs; the rest is the image model's.
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "steps_offset": 1,
    "clip_sample": False,
}


def animatediff_scheduler(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler of an image model as motion modules need it."""
    return {**scheduler, **SCHEDULER}


def new_animatediff(unet: VideoUNet, config: AnimateDiffConfig, generator: torch.Generator) -> AnimateDiffConfig:
    """Add motion modules to an image U-Net, in place, for training; at first they change nothing.

    Args:
        config: shaped for the U-Net here; the modules are those of v3, one after every resnet but none in the middle.
        generator: source of the random projections.

    Raises:
        InputError: the U-Net's widths cannot have 8 attention heads, which is what AnimateDiff files are read with.
    """
    own = unet.config
    config = replace(
        config,
        block_out_channels=own.block_out_channels,
        layers_per_block=own.layers_per_block,
        norm_num_groups=own.norm_num_groups,  # 32 in Stable Diffusion; diffusers takes the U-Net's
        max_length=max(AnimateDiffConfig.max_length, config.num_frames),
    )
    _check_fit(own, config, "an AnimateDiff module")
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global source; the draws are replaced below
        add_motion_modules(unet, config)
    init_temporal(unet, generator)
    return config


def save_animatediff(
    unet: VideoUNet, folder: str | Path, metadata: Mapping[str, Any] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write the motion modules of a U-Net as a MotionAdapter folder.

    Args:
        metadata: JSON values to keep in the header of its file, such as the scheduler it was trained with.
        dtype: storage type; None keeps the network's.
    """
    config = unet.motion
    assert isinstance(config, AnimateDiffConfig), "other motion is written by save_motion"
    weights = {
        name.replace(".temporal_attentions.", ".motion_modules."): tensor
        for name, tensor in unet.state_dict().items()
        if is_temporal(name)
    }
    save_adapter(folder, config, weights, dict(metadata or {}), dtype)


def load_animatediff(unet: VideoUNet, path: str | Path, norm_over_frames: bool | None = None) -> AnimateDiffConfig:
    """Put motion modules into an image U-Net, in place.

    Args:
        path: MotionAdapter folder, or a file of either layout.
        norm_over_frames: see `MotionModule`; None: as the modules were trained where the file says it, else True.

    Raises:
        InputError: they do not fit (which is said), or another kind of module; nothing is changed.
    """
    assert unet.motion is None, "the network has its temporal modules already"
    config = read_animatediff_config(path)
    if norm_over_frames is not None:
        config = replace(config, norm_over_frames=norm_over_frames)
    weights = fitting_weights(unet.config, config, path)
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global source; all is replaced
        add_motion_modules(unet, config)
    unet.load_state_dict(weights, strict=False)
    return config


def fitting_weights(unet: VideoUNetConfig, config: AnimateDiffConfig, path: str | Path) -> dict[str, torch.Tensor]:
    """The weights of modules by the names of our network; InputError unless they fit the U-Net."""
    _check_fit(unet, config, path)
    weights = {
        name.replace(".motion_modules.", ".temporal_attentions."): tensor
        for name, tensor in read_animatediff(path).items()
        if not name.endswith(POSITIONS)
    }
    with torch.device("meta"):
        expected = VideoUNet(unet)
        add_motion_modules(expected, config)
    spatial = {name: tensor for name, tensor in expected.state_dict().items() if not is_temporal(name)}
    check_state_dict(expected, {**spatial, **weights}, f"{path} for this U-Net")
    return weights


def _check_fit(own: VideoUNetConfig, config: AnimateDiffConfig, path: str | Path) -> None:
    if len(config.block_out_channels) == 3 != len(own.block_out_channels):
        raise InputError(f"{path} is an AnimateDiff module for SDXL, of 3 levels: use one for Stable Diffusion 1")
    pairs = (
        ("level widths", own.block_out_channels, config.block_out_channels),
        ("layers per level", own.layers_per_block, config.layers_per_block),
    )
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise InputError(f"{path} is for a U-Net of {what} {theirs}, this one has {ours}: use another base model")
    heads, groups = config.num_attention_heads or 1, config.norm_num_groups
    if any(width % heads or width % groups for width in own.block_out_channels):
        raise InputError(f"{path}: {heads} heads and {groups} groups do not divide {own.block_out_channels} channels")


def add_motion_modules(unet: VideoUNet, config: AnimateDiffConfig) -> None:
    """Add motion modules, randomly initialised, in the dtype and on the device of the network."""
    weight = unet.conv_in.weight
    for level in (module for module in unet.modules() if isinstance(module, Level)):
        middle = level is unet.mid_block
        for _ in range(int(config.mid_block) if middle else len(level.resnets)):
            module = MotionModule(
                level.channels,
                config.num_attention_heads or level.num_heads,
                1 if middle else config.num_layers,
                config.norm_num_groups,
                config.norm_over_frames,
            )
            level.temporal_attentions.append(module.to(weight.device, weight.dtype))
    unet.motion = config
