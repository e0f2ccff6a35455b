"""The training stages, one file each."""

from importlib import import_module

from t2v.training.config import Stage, TrainConfig
from t2v.training.objectives.base import Context, Objective

OBJECTIVES: dict[Stage, str] = {
    "autoencoder": "AutoencoderObjective",
    "image": "ImageObjective",
    "temporal": "TemporalObjective",
    "interpolation": "InterpolationObjective",
}


def build_objective(config: TrainConfig, context: Context) -> Objective:
    """The stage that a configuration is for, with its network and data ready; its file bears its name."""
    module = import_module(f"{__name__}.{config.stage}")
    return getattr(module, OBJECTIVES[config.stage])(config, context)
