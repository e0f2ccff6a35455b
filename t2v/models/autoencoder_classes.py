"""Which autoencoder a `vae/` folder holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.models.autoencoder_base import Autoencoder, AutoencoderBaseConfig
from t2v.models.base import load_config
from t2v.models.vq_model import VQModel

AUTOENCODERS: dict[str, type[Autoencoder]] = {kind.config_class.class_name: kind for kind in (AutoencoderKL, VQModel)}


def autoencoder_class(config: Mapping[str, Any]) -> type[Autoencoder]:
    """The class that a `config.json` names; InputError for one that is not supported."""
    name = config.get("_class_name", AutoencoderKL.config_class.class_name)
    if name not in tuple(AUTOENCODERS):
        raise InputError(f"autoencoder config: _class_name is {name!r}, supported is {' or '.join(AUTOENCODERS)}")
    return AUTOENCODERS[name]


def read_autoencoder_config(config: Mapping[str, Any]) -> AutoencoderBaseConfig:
    """The config of the class that a `config.json` names."""
    return autoencoder_class(config).config_class.from_dict(config)


def load_autoencoder(folder: str | Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """Read a `vae/` folder; raises InputError for anything missing, unsupported or not fitting."""
    return autoencoder_class(load_config(folder)).from_pretrained(folder, dtype)
