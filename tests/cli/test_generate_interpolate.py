"""`t2v generate --interpolate`: the model's own interpolation network makes the frames between."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from t2v.data.video_io import probe, read_frames
from t2v.models.folder import load_components
from t2v.models.interpolation import save_interpolation, widen

FP32 = ("--device", "cpu", "--dtype", "fp32")


@pytest.fixture
def whole_model(tiny_model: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    save_interpolation(widen(load_components(str(tiny_model)).unet), folder / "interpolation")
    return folder


def test_generate_interpolate_makes_frames_between(t2v_command, whole_model, tmp_path):
    common = ("generate", "a robot", "--model", whole_model, *FP32)
    assert t2v_command(*common, "-o", "plain").code == 0
    done = t2v_command(*common, "--interpolate", 5, "-o", "more")
    assert done.code == 0, done.err
    plain, more = read_frames(tmp_path / "plain"), read_frames(tmp_path / "more")
    assert len(plain) == 4 and len(more) == 16 and np.array_equal(more[::5], plain)
    assert json.loads((tmp_path / "more.json").read_text())["interpolate"] == 5
    assert t2v_command("generate", "--from", "more.json", "-o", "again").code == 0
    assert np.array_equal(read_frames(tmp_path / "again"), more)
    assert t2v_command(*common, "--interpolate", 2, "-o", "x.mp4").code == 0
    assert probe(tmp_path / "x.mp4").fps == 16


def test_generate_interpolate_with_offload_makes_the_same_frames(t2v_command, whole_model, tmp_path):
    common = ("generate", "a robot", "--model", whole_model, *FP32, "--interpolate", 3, "--num-videos", 2)
    assert t2v_command(*common, "-o", "plain").code == 0
    for level in ("model", "sequential"):
        done = t2v_command(*common, "--offload", level, "-o", level)
        assert done.code == 0, done.err
        for number in (1, 2):
            frames = (read_frames(tmp_path / f"{name}-{number}") for name in ("plain", level))
            assert np.array_equal(*frames)


def test_generate_interpolate_without_weights_is_refused_before_the_work(t2v_command, tiny_model, tmp_path):
    done = t2v_command("generate", "a robot", "--model", tiny_model, "--interpolate", 5, "-o", "x.mp4")
    assert done.code == 2 and "has no interpolation weights" in done.err and not list(tmp_path.iterdir())
    done = t2v_command("generate", "a robot", "--model", tiny_model, "--interpolate", 0, "-o", "x.mp4")
    assert done.code == 2 and "--interpolate must be a whole number from 1" in done.err
