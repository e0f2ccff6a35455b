import json
from pathlib import Path

import pytest

from t2v.errors import InputError
from t2v.training.checkpoint import Checkpoint, save_checkpoint
from t2v.training.config import load_config
from t2v.training.run_folder import RunFolder


def test_start_writes_a_config_that_is_read_back(tmp_path: Path) -> None:
    config = load_config("image", overrides=["seed=5"])
    RunFolder(tmp_path / "run").start(config)
    path = tmp_path / "run" / "config.yaml"
    assert load_config("image", [path]) == config
    head = path.read_text().splitlines()[:2]
    assert "t2v train image" in head[0] and "git_commit" in head[1] and "torch" in head[1]


def test_start_refuses_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output_dir"):
        RunFolder(tmp_path / "file" / "run").start(load_config("image"))


def test_find_checkpoint_protects_a_run_and_finds_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.find_checkpoint(None) is None and folder.find_checkpoint("auto") is None
    for step in (1, 2):
        newest = save_checkpoint(folder.checkpoints, step, Checkpoint({}), keep=2)
    assert folder.find_checkpoint("auto") == newest
    with pytest.raises(InputError, match="--resume auto"):
        folder.find_checkpoint(None)
    with pytest.raises(InputError, match="nowhere"):
        folder.find_checkpoint("nowhere")


def test_forget_metrics_after_drops_later_and_torn_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.log({"global_step": step})
    with open(folder.metrics, "a") as file:
        file.write('{"global_st')
    folder.forget_metrics_after(2)
    assert [json.loads(line)["global_step"] for line in folder.metrics.read_text().splitlines()] == [1, 2]
