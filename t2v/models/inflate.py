"""From an image U-Net to a video U-Net and back: the temporal part, made, saved and loaded on its own."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2v.errors import InputError
from t2v.models.base import check_state_dict, load_config, load_header, load_state_dict, save_model
from t2v.models.lora import is_lora
from t2v.models.unet import MotionConfig, VideoUNet, is_temporal
from t2v.nn.init import init_parameters

__all__ = [
    "inflate",
    "init_temporal",
    "is_temporal",
    "load_motion",
    "load_motion_config",
    "save_motion",
    "spatial_hash",
    "temporal_hash",
    "temporal_parameters",
]


def inflate(unet: VideoUNet, motion: MotionConfig, generator: torch.Generator | None = None) -> VideoUNet:
    """Add temporal modules to an image U-Net, in place; at first they change nothing.

    Args:
        generator: source of the random projections of temporal attention and fps embedding (their output
            projections are zero); None: a fresh one with seed 0.
    """
    if unet.motion is not None:
        raise InputError("the U-Net is inflated already: start from its image part")
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global source; the draws are replaced below
        unet.add_temporal(motion)
    init_temporal(unet, generator or torch.Generator().manual_seed(0))
    return unet


def init_temporal(unet: VideoUNet, generator: torch.Generator) -> None:
    """Draw the projections of the temporal modules anew; those that are zero, to the output, stay so."""
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear) and is_temporal(name):
            init_parameters(module, generator)


def temporal_parameters(unet: VideoUNet) -> dict[str, nn.Parameter]:
    """The parameters of the motion part by name."""
    return {name: parameter for name, parameter in unet.named_parameters() if is_temporal(name)}


def spatial_hash(unet: VideoUNet) -> str:
    """SHA-256, in hexadecimal, over the names and values of all spatial parameters; LoRA leaves it as it is."""
    return _hash({name: value for name, value in unet.named_parameters() if not is_temporal(name)})


def temporal_hash(unet: VideoUNet) -> str:
    """The same of the motion part."""
    return _hash(temporal_parameters(unet))


def _hash(parameters: dict[str, nn.Parameter]) -> str:
    digest = hashlib.sha256()
    own = {name.replace(".base_layer.", "."): value for name, value in parameters.items() if not is_lora(name)}
    for name, parameter in sorted(own.items()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def save_motion(
    unet: VideoUNet, folder: str | Path, metadata: dict[str, Any] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write the motion part: `config.json` and `diffusion_pytorch_model.safetensors` (config in its header too).

    Args:
        metadata: JSON values to keep beside the motion config, such as the scheduler it was trained with.
        dtype: storage type; None keeps the network's.
    """
    if unet.motion is None:
        raise InputError("the U-Net has no motion to save: inflate or train it first")
    config = {**(metadata or {}), **unet.motion.to_dict()}
    weights = {name: tensor for name, tensor in unet.state_dict().items() if is_temporal(name)}
    save_model(folder, config, weights, dtype=dtype, metadata={"config": json.dumps(config)})


def load_motion_config(path: str | Path) -> dict[str, Any]:
    """The config of a motion folder, or of a motion file from its header; metadata included."""
    path = Path(path)
    if path.is_dir():
        return load_config(path)
    config = load_header(path).metadata.get("config")
    if config is None:
        raise InputError(f"{path} has no motion config in its header: give the motion/ folder, or a file from one")
    try:
        return dict(json.loads(config))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: the motion config in its header is broken: export it again") from error


def load_motion(unet: VideoUNet, path: str | Path) -> VideoUNet:
    """Load temporal weights from a motion folder or file into a U-Net, in place; it is inflated first if needed.

    Raises InputError, before anything is changed, when the weights do not fit: the first mismatch is named.
    """
    weights = load_state_dict(path)
    motion = MotionConfig.from_dict(load_motion_config(path))
    with torch.device("meta"):
        expected = VideoUNet(unet.config, motion)
    spatial = {name: tensor for name, tensor in expected.state_dict().items() if not is_temporal(name)}
    check_state_dict(expected, {**spatial, **weights}, f"{path} for this U-Net")
    if unet.motion is None:
        inflate(unet, motion)
    elif unet.motion.structure != motion.structure:
        raise InputError(
            f"{path}: the U-Net has other temporal modules ({unet.motion}) than the file ({motion}): set them alike"
        )
    unet.motion = motion
    unet.load_state_dict(weights, strict=False)
    return unet
