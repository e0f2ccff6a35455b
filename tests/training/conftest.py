"""Tiny data sets and configurations of every stage."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2v.training.config import TrainConfig
from t2v.training.config_files import load_config

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}
COMMON: dict[str, Any] = {
    "device": "cpu",
    "max_steps": 4,
    "save_every": 2,
    "validate_every": 4,
    "log_every": 1,
    "batch_size": 3,
    "optim.warmup_steps": 0,
    "data.resolution": 32,
    "data.num_validation": 2,
}
STAGE_OPTIONS: dict[str, dict[str, Any]] = {
    "autoencoder": {"model.block_out_channels": [8, 8, 16], "model.norm_num_groups": 4},
    "image": {
        "model.text_encoder": {"vocab_size": 600, "max_length": 12, "hidden_size": 16, "num_layers": 1, "num_heads": 2},
        "model.unet": {
            "block_out_channels": [8, 16],
            "cross_attention_levels": [False, True],
            "num_attention_heads": 2,
            "norm_num_groups": 4,
        },
        "validation": {"prompts": ["a red square", "two blue squares"], "num_inference_steps": 2},
    },
    "temporal": {
        "data.num_frames": 4,
        "data.num_workers": 0,
        "data.fps_range": [4.0, 24.0],
        "validation": {"prompts": ["a red square"], "num_inference_steps": 2},
    },
    "interpolation": {
        "data.num_frames": 8,
        "data.num_workers": 0,
        "data.fps_range": [4.0, 12.0],
        "validation": {"num_clips": 2, "num_inference_steps": 2},
    },
}


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """accelerate keeps its state in the process; every run of the product has its own."""
    yield
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve 32x32 pictures of squares, each with its caption in a text file."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("stills")
    for index in range(12):
        name, colour = list(COLOURS.items())[index % 3]
        picture = np.full((32, 32, 3), 230, np.uint8)
        picture[4 + index : 16 + index, 8:20] = colour
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(f"a {name} square")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six 32x32 clips of 2 s at 24 fps in which a square moves to the right."""
    from t2v.data.video_io import write_video

    folder = tmp_path_factory.mktemp("clips")
    for index in range(6):
        frames = np.full((48, 32, 32, 3), 230, np.uint8)
        for time in range(48):
            left = (time // 2 + index) % 24
            frames[time, 8:20, left : left + 8] = list(COLOURS.values())[index % 3]
        write_video(folder / f"{index}.mp4", frames, 24)
    return folder


@pytest.fixture(scope="session")
def configure_in(stills: Path, clips: Path, tiny_image_model: Path, tiny_model: Path) -> Callable[..., TrainConfig]:
    """`configure_in(folder, stage, "key=value", ...)`: a run that takes a second, in folder/run."""

    def make(folder: Path, stage: str, *overrides: str) -> TrainConfig:
        base = tiny_model if stage == "interpolation" else tiny_image_model
        options = {
            "output_dir": str(folder / "run"),
            "data.path": str(clips if stage in ("temporal", "interpolation") else stills),
            "model.base": None if stage == "autoencoder" else str(base),
            **COMMON,
            **STAGE_OPTIONS[stage],
        }
        return load_config(stage, overrides=overrides, options=options)

    return make


@pytest.fixture
def configure(tmp_path: Path, configure_in: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """`configure(stage, "key=value", ...)`: a run that takes a second, in tmp_path/run."""
    return partial(configure_in, tmp_path)
