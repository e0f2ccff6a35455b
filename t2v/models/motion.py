"""Motion of every kind that `--motion` takes: this project's own, and AnimateDiff modules."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.animatediff import animatediff_scheduler, load_animatediff, save_animatediff
from t2v.models.animatediff_files import is_animatediff, read_animatediff_config, read_facts
from t2v.models.base import weight_files
from t2v.models.inflate import load_motion, load_motion_config, save_motion
from t2v.models.lora import LORA_FILE, merge_lora
from t2v.models.motion_module import AnimateDiffConfig
from t2v.models.unet import MotionConfig, VideoUNet

NORMS = {"clip": True, "frame": False}  # of AnimateDiff's GroupNorm: whether its statistics are those of all frames


@dataclass(frozen=True)
class MotionSource:
    """A folder or file of motion, looked at but not loaded."""

    path: Path
    config: MotionConfig
    trained_scheduler: dict[str, Any] | None  # of motion trained by this project: what to compare the model's with
    note: str | None  # what using it changes besides the network

    def scheduler(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler of the image model, as this motion needs it."""
        return motion_scheduler(self.config, model)

    @property
    def lora(self) -> Path | None:
        """Adapters of spatial layers that were trained with the motion."""
        return self.path / LORA_FILE if (self.path / LORA_FILE).is_file() else None

    @property
    def files(self) -> list[Path]:
        """All weight files."""
        return weight_files(self.path) + ([self.lora] if self.lora else [])


def motion_scheduler(motion: MotionConfig, model: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler of an image model, as a kind of motion needs it."""
    return animatediff_scheduler(model) if isinstance(motion, AnimateDiffConfig) else dict(model)


def read_motion(path: str | Path) -> MotionSource:
    """Look at a motion folder, a MotionAdapter folder or a file of either; InputError says what is wrong with it."""
    path = Path(path)
    if not is_animatediff(path):
        config = load_motion_config(path)
        return MotionSource(path, MotionConfig.from_dict(config), config.get("scheduler"), None)
    modules = read_animatediff_config(path)
    note = (
        f"{path.name} is AnimateDiff {modules.version}: the scheduler is set to linear betas from 0.00085 to 0.012, "
        "steps_offset 1, no clipping, as it was trained"
    )
    return MotionSource(path, modules, read_facts(path).get("scheduler"), note)


def use_motion(unet: VideoUNet, source: MotionSource, norm: str | None = None) -> None:
    """Load motion into an image U-Net, in place.

    Args:
        norm: of AnimateDiff modules, one of `NORMS`: clip as in diffusers, frame as in AnimateDiff's own code; None: as
            they were trained where their file says it, else clip.
    """
    if norm is not None and norm not in NORMS:
        raise InputError(f"unknown motion norm {norm!r}; known are {', '.join(NORMS)}")
    if is_animatediff(source.path):
        load_animatediff(unet, source.path, None if norm is None else NORMS[norm])
    else:
        load_motion(unet, source.path)
    if source.lora is not None:
        merge_lora(unet, source.lora)


def motion_norm(unet: VideoUNet) -> str:
    """Which of `NORMS` the motion of a U-Net has."""
    over_frames = unet.motion.norm_over_frames if isinstance(unet.motion, AnimateDiffConfig) else True
    return next(name for name, value in NORMS.items() if value == over_frames)


def write_motion(unet: VideoUNet, folder: str | Path, metadata: Mapping[str, Any], dtype: torch.dtype | None) -> None:
    """Write the motion part of a U-Net in the format of its kind: what `read_motion` reads.

    Args:
        metadata: JSON values to keep with it, such as the scheduler it was trained with.
        dtype: storage type; None keeps the network's.
    """
    if isinstance(unet.motion, AnimateDiffConfig):
        save_animatediff(unet, folder, metadata, dtype)
    else:
        save_motion(unet, folder, dict(metadata), dtype)
