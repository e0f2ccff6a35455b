"""TensorBoard and Weights & Biases, through accelerate: the figures of metrics.jsonl and the validation samples."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from t2v.data.video_io import VideoReader
from t2v.errors import InputError
from t2v.training.config import TrainConfig

_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
_NUM_FRAMES = 4  # of a sample video that are shown


class Trackers:
    """The trackers of a run; TensorBoard's files are in `logs/`."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig, global_step: int) -> None:
        self.accelerator = accelerator
        folder = config.output_dir
        options: dict[str, dict[str, Any]] = {
            "tensorboard": {"purge_step": global_step + 1},  # a resumed run writes the steps after it again
            "wandb": {"dir": folder, "name": folder, "config": config.model_dump(mode="json")},
        }
        accelerator.init_trackers("t2v", init_kwargs={name: options[name] for name in config.trackers})

    def log(self, values: dict[str, Any]) -> None:
        """Figures of one step, `global_step` among them."""
        scalars = {name: value for name, value in values.items() if name != "global_step"}
        self.accelerator.log(scalars, step=values["global_step"])

    def show(self, files: list[Path], global_step: int) -> None:
        """Validation samples: a picture as it is, some frames of a video."""
        for file in files:
            pictures = _frames(file) if file.suffix == ".mp4" else np.asarray(Image.open(file))[None]
            for tracker in self.accelerator.trackers:
                shape = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({file.stem.rpartition("-")[0]: pictures}, step=global_step, **shape)

    def close(self) -> None:
        """Write out what waits."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise InputError where a tracker is not installed."""
    for name in names:
        if not any(find_spec(package) for package in _PACKAGES[name]):
            raise InputError(f'trackers: {name} is not installed: pip install "t2v[{name}]", or set trackers=[]')


def _frames(file: Path) -> np.ndarray:
    with VideoReader(file) as reader:
        places = np.linspace(0, len(reader.timestamps) - 1, _NUM_FRAMES).round().astype(int)
        return reader.frames(places.tolist())
