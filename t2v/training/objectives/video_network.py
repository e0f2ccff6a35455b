"""The network of the temporal stage: an image model with new temporal layers, or with a motion that is there."""

from dataclasses import replace
from pathlib import Path

import torch

from t2v.diffusion.noise import INDEPENDENT, NoisePrior
from t2v.errors import InputError
from t2v.models.animatediff import load_animatediff, new_animatediff
from t2v.models.animatediff_files import is_animatediff
from t2v.models.folder import find_motion, find_source
from t2v.models.inflate import inflate, load_motion
from t2v.models.lora import LORA_FILE
from t2v.models.motion import NORMS, read_motion, use_motion
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from t2v.nn.init import init_parameters
from t2v.training.config import TemporalTrainConfig


def video_network(config: TemporalTrainConfig, base: Path) -> VideoUNet:
    """The video U-Net that a run starts from, in training mode.

    Raises:
        InputError: `init_from` or `model.motion` is of another layout or does not fit, or settings do not go together.
    """
    unet = VideoUNet.from_pretrained(base / "unet")
    if config.model.from_scratch:
        unet = _untrained(unet.config, config.seed)
    if config.model.train == "motion_lora":
        _use_given_motion(unet, base, config)
    elif config.model.temporal.layout == "animatediff":
        _add_motion_modules(unet, config)
    else:
        _inflate(unet, config)
    unet.gradient_checkpointing = config.model.gradient_checkpointing
    return unet.train()


def _untrained(config: VideoUNetConfig, seed: int) -> VideoUNet:
    """An image U-Net of that shape that knows nothing."""
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global source; the draws are replaced below
        unet = VideoUNet(config)
    init_parameters(unet, torch.Generator().manual_seed(seed))
    return unet


def _inflate(unet: VideoUNet, config: TemporalTrainConfig) -> None:
    motion = MotionConfig(
        num_frames=config.data.num_frames,
        fps=config.model.fps,
        fps_range=config.data.fps_range,
        num_attention_heads=config.model.num_attention_heads,
        attention_in_all_levels=config.model.attention_in_all_levels,
        shared_noise=config.diffusion.shared_noise,
        noise_prior=config.diffusion.noise_prior,
        temporal_conv=config.model.temporal.conv,
        temporal_attention=config.model.temporal.attention,
        fps_conditioning=config.model.temporal.fps,
    )
    inflate(unet, motion, torch.Generator().manual_seed(config.seed))
    if config.init_from is not None:
        path = _initial_motion(config.init_from)
        if is_animatediff(path):
            raise InputError(f"init_from: {path} is of AnimateDiff: set model.temporal.layout=animatediff to train it")
        load_motion(unet, path)
        unet.motion = motion  # the length, rate and noise of this training


def _add_motion_modules(unet: VideoUNet, config: TemporalTrainConfig) -> None:
    motion = AnimateDiffConfig(
        num_frames=config.data.num_frames,
        fps=config.model.fps,
        shared_noise=config.diffusion.shared_noise,
        noise_prior=config.diffusion.noise_prior,
        norm_over_frames=NORMS[config.model.temporal.norm],
    )
    if config.init_from is None:
        new_animatediff(unet, motion, torch.Generator().manual_seed(config.seed))
        return
    path = _initial_motion(config.init_from)
    if not is_animatediff(path):
        raise InputError(f"init_from: {path} is no AnimateDiff module: leave model.temporal.layout out to train it")
    given = load_animatediff(unet, path, motion.norm_over_frames)
    unet.motion = replace(
        given,
        num_frames=motion.num_frames,
        fps=motion.fps,
        shared_noise=motion.shared_noise,
        noise_prior=motion.noise_prior,
        max_length=max(given.max_length, motion.num_frames),
    )


def _initial_motion(name: str) -> Path:
    """The motion of a model or run folder, or a folder or file of motion itself."""
    path = find_source(name)
    path = path / "motion" if (path / "motion").is_dir() else path
    if (path / LORA_FILE).is_file():
        raise InputError(f"init_from: {path} has a LoRA, which only its own run goes on with; use --resume there")
    return path


def _use_given_motion(unet: VideoUNet, base: Path, config: TemporalTrainConfig) -> None:
    path = find_motion(base, config.model.motion)
    if path is None:
        raise InputError(f"model.motion is not set and {base} has no motion/: a motion LoRA adapts one, give its path")
    if config.init_from is not None:
        raise InputError("init_from: a motion LoRA starts from nothing; set model.motion for the motion that it adapts")
    source = read_motion(path)
    use_motion(unet, source)
    num_frames, motion = config.data.num_frames, source.config
    noise = NoisePrior(config.diffusion.shared_noise, config.diffusion.noise_prior)
    own_noise = NoisePrior(motion.shared_noise, motion.noise_prior)
    if noise not in (INDEPENDENT, own_noise):
        raise InputError(
            f"diffusion.shared_noise: {path} was trained with {own_noise} noise, got {noise}: leave shared_noise and "
            "noise_prior out"
        )
    if isinstance(motion, AnimateDiffConfig) and num_frames > motion.max_length:
        raise InputError(f"data.num_frames: {path} has positions for {motion.max_length} frames, got {num_frames}")
