"""For tests: lossless videos of a texture that moves, with prompts, and a folder of small random weights."""

import json
from pathlib import Path

import numpy as np

from t2v.data.video_io import write_video
from t2v.models.base import save_state_dict
from tests.evaluation.networks.tiny import alexnet_weights, i3d_weights, inception_weights, lpips_weights
from tests.models.test_clip import write_clip


def moving_texture(index: int, num_frames: int = 12, size: int = 32) -> np.ndarray:
    """uint8 (F, size, size, 3): blocks of colour that drift, other ones for every index."""
    rng = np.random.default_rng(index)
    picture = np.kron(rng.integers(30, 226, (size // 4, size // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    step = 1 + index % 3
    return np.stack([np.roll(picture, step * frame, 1) for frame in range(num_frames)])


def write_videos(
    folder: Path, first: int, count: int, change=lambda frames, index: frames, records: bool = True
) -> Path:
    """Videos at 8 fps with the `.json` that generate writes beside them."""
    folder.mkdir(parents=True)
    for index in range(first, first + count):
        write_video(folder / f"{index:02}.mkv", change(moving_texture(index), index), 8)
        if records:
            record = {"prompt": f"a robot dancing {index}", "seed": index}
            (folder / f"{index:02}.json").write_text(json.dumps(record))
    return folder


def write_weights(folder: Path) -> Path:
    """All that can be given as safetensors, under the published names."""
    folder.mkdir(parents=True)
    for name, weights in (
        ("i3d_pretrained_400", i3d_weights()),
        ("inception-2015-12-05", inception_weights()),
        ("alexnet-owt", alexnet_weights()),
        ("lpips_alex", lpips_weights()),
    ):
        save_state_dict(folder / f"{name}.safetensors", weights)
    write_clip(folder / "clip-vit-base-patch32")
    return folder
