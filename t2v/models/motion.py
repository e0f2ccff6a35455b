"""Motion of every kind that `--motion` takes: this project's own, and AnimateDiff modules."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2v.errors import InputError
from t2v.models.animatediff import animatediff_scheduler, load_animatediff
from t2v.models.animatediff_files import is_animatediff, read_animatediff_config
from t2v.models.base import weight_files
from t2v.models.inflate import load_motion, load_motion_config
from t2v.models.lora import LORA_FILE, merge_lora
from t2v.models.unet import MotionConfig, VideoUNet

NORMS = {"clip": True, "frame": False}  # of AnimateDiff's GroupNorm: whether its statistics are those of all frames


@dataclass(frozen=True)
class MotionSource:
    """A folder or file of motion, looked at but not loaded."""

    path: Path
    config: MotionConfig
    trained_scheduler: dict[str, Any] | None  # of this project's own motion: what to compare the model's with
    note: str | None  # what using it changes besides the network

    def scheduler(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The scheduler of the image model, as this motion needs it."""
        return animatediff_scheduler(model) if is_animatediff(self.path) else dict(model)

    @property
    def lora(self) -> Path | None:
        """Adapters of spatial layers that were trained with the motion."""
        return self.path / LORA_FILE if (self.path / LORA_FILE).is_file() else None

    @property
    def files(self) -> list[Path]:
        """All weight files."""
        return weight_files(self.path) + ([self.lora] if self.lora else [])


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
    return MotionSource(path, modules, None, note)


def use_motion(unet: VideoUNet, source: MotionSource, norm: str = "clip") -> None:
    """Load motion into an image U-Net, in place.

    Args:
        norm: of AnimateDiff modules, one of `NORMS`: clip as in diffusers, frame as in AnimateDiff's own code.
    """
    if norm not in NORMS:
        raise InputError(f"unknown motion norm {norm!r}; known are {', '.join(NORMS)}")
    if is_animatediff(source.path):
        load_animatediff(unet, source.path, NORMS[norm])
    else:
        load_motion(unet, source.path)
    if source.lora is not None:
        merge_lora(unet, source.lora)
