"""The training stages, one file each."""

from t2v.training.config import AutoencoderTrainConfig, ImageTrainConfig, TemporalTrainConfig, TrainConfig
from t2v.training.objectives.base import Context, Objective


def build_objective(config: TrainConfig, context: Context) -> Objective:
    """The stage that a configuration is for, with its network and data ready."""
    if isinstance(config, AutoencoderTrainConfig):
        from t2v.training.objectives.autoencoder import AutoencoderObjective

        return AutoencoderObjective(config, context)
    if isinstance(config, ImageTrainConfig):
        from t2v.training.objectives.image import ImageObjective

        return ImageObjective(config, context)
    assert isinstance(config, TemporalTrainConfig)
    from t2v.training.objectives.temporal import TemporalObjective

    return TemporalObjective(config, context)
