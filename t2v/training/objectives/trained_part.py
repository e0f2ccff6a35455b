"""What of an inflated U-Net learns (`model.train`), and what is written of it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2v.models.autoencoder_classes import load_autoencoder
from t2v.models.folder import save_model_folder
from t2v.models.inflate import spatial_hash, temporal_hash, temporal_parameters
from t2v.models.lora import LoraSettings, add_lora, lora_parameters, save_lora, save_motion_lora
from t2v.models.motion import write_motion
from t2v.models.text_encoder import TextEncoder
from t2v.models.unet import VideoUNet
from t2v.training.config import TemporalTrainConfig


class TemporalPart:
    """`temporal`: the temporal layers and the fps embedding. Writes motion/."""

    def __init__(self, unet: VideoUNet, base: Path, config: TemporalTrainConfig) -> None:
        self.unet, self.base, self.config = unet, base, config
        self.dtype = getattr(torch, config.export_dtype)
        self._prepare()
        unet.requires_grad_(False)
        for parameter in self.parameters().values():
            parameter.requires_grad_(True)

    def _prepare(self) -> None:
        self._spatial_hash = spatial_hash(self.unet)

    def _check_frozen(self) -> None:
        assert spatial_hash(self.unet) == self._spatial_hash, "training changed spatial weights, which are frozen"

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return temporal_parameters(self.unet)

    def export(self, output_dir: Path, metadata: Mapping[str, Any]) -> Path:
        """Write what was trained below `output_dir`, once it is sure that the spatial weights are those of the base.

        Args:
            metadata: for the motion's config.json; `scheduler` in it is the base's.
        """
        self._check_frozen()
        write_motion(self.unet, output_dir / "motion", metadata, self.dtype)
        return output_dir / "motion"


class LoraPart(TemporalPart):
    """`lora`: also low-rank adapters on the spatial layers. Writes motion/ with the adapters in it."""

    def _prepare(self) -> None:
        super()._prepare()
        self._add_lora(temporal=False)

    def _add_lora(self, temporal: bool) -> None:
        section = self.config.model.lora
        self.settings = LoraSettings(section.rank, section.alpha, section.targets)
        add_lora(self.unet, self.settings, torch.Generator().manual_seed(self.config.seed), temporal)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {**super().parameters(), **lora_parameters(self.unet)}

    def export(self, output_dir: Path, metadata: Mapping[str, Any]) -> Path:
        motion = super().export(output_dir, metadata)
        save_lora(self.unet, motion, self.settings, self.dtype)
        return motion


class MotionLoraPart(LoraPart):
    """`motion_lora`: low-rank adapters on the attention over frames, of a motion that stays as it is.

    Writes motion_lora/.
    """

    def _prepare(self) -> None:
        self._spatial_hash, self._temporal_hash = spatial_hash(self.unet), temporal_hash(self.unet)
        self._add_lora(temporal=True)

    def _check_frozen(self) -> None:
        super()._check_frozen()
        assert temporal_hash(self.unet) == self._temporal_hash, "training changed the motion, which is frozen"

    def parameters(self) -> dict[str, nn.Parameter]:
        return lora_parameters(self.unet)

    def export(self, output_dir: Path, metadata: Mapping[str, Any]) -> Path:
        self._check_frozen()
        save_motion_lora(self.unet, output_dir / "motion_lora", self.settings, self.dtype)
        return output_dir / "motion_lora"


class WholePart(TemporalPart):
    """`full`: every parameter of the U-Net. Writes model/, a whole model folder."""

    def _prepare(self) -> None:
        """Nothing is frozen."""

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.unet.named_parameters())

    def export(self, output_dir: Path, metadata: Mapping[str, Any]) -> Path:
        target = output_dir / "model"
        autoencoder = load_autoencoder(self.base / "vae")
        text_encoder = TextEncoder.from_pretrained(self.base)
        save_model_folder(target, self.unet, autoencoder, text_encoder, metadata["scheduler"], self.dtype)
        write_motion(self.unet, target / "motion", metadata, self.dtype)
        for name in ("vocabulary.json", "generation_config.json"):
            if (self.base / name).is_file():
                shutil.copyfile(self.base / name, target / name)
        return target


TRAINED_PARTS: dict[str, type[TemporalPart]] = {
    "temporal": TemporalPart,
    "lora": LoraPart,
    "full": WholePart,
    "motion_lora": MotionLoraPart,
}
