"""The training stages, one file each."""

from importlib import import_module

from t2v.training.config import TrainConfig
from t2v.training.objectives.base import Context, Objective


def build_objective(config: TrainConfig, context: Context) -> Objective:
    """The stage that a configuration is for, with its network and data ready; its file and class bear its name."""
    module = import_module(f"{__name__}.{config.stage}")
    return getattr(module, f"{config.stage.title()}Objective")(config, context)
