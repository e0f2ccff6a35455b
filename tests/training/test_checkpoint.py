from pathlib import Path

import pytest
import torch

import t2v.training.checkpoint as checkpoint_module
from t2v.errors import InputError
from t2v.training.checkpoint import (
    Checkpoint,
    best_checkpoint,
    check_names,
    complete_checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def save(folder: Path, step: int, keep: int = 2) -> Path:
    tensors = {"model": {"w": torch.full((2, 3), float(step))}, "ema": {"w": torch.zeros(2, 3)}, "objective": {}}
    return save_checkpoint(folder, step, Checkpoint({"seconds": 1.5}, tensors), keep)


def test_save_checkpoint_is_read_back(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save(tmp_path, 7))
    assert checkpoint.scalars == {"global_step": 7, "seconds": 1.5}
    assert torch.equal(checkpoint.tensors["model"]["w"], torch.full((2, 3), 7.0))
    assert checkpoint.tensors["objective"] == {}


def test_save_checkpoint_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000010", "step-00000015"]
    assert len(list(tmp_path.iterdir())) == 2  # no temporary folders


def test_save_checkpoint_keeps_the_best_too(tmp_path: Path) -> None:
    for step, loss in ((1, 0.5), (2, 0.3), (3, None), (4, 0.4), (5, 0.6)):
        save_checkpoint(tmp_path, step, Checkpoint({"validation_loss": loss}), keep=1)
        assert (tmp_path / f"step-{step:08d}").is_dir()
    assert best_checkpoint(tmp_path) == tmp_path / "step-00000002"
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000002", "step-00000005"]


def test_save_checkpoint_writes_the_manifest_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "_sha256", lambda path: 1 / 0)  # what it takes for the manifest
    with pytest.raises(ZeroDivisionError):
        save(tmp_path, 5)
    assert not list(tmp_path.iterdir())


def test_save_checkpoint_replaces_one_of_the_same_step(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "no state", "no manifest"])
def test_complete_checkpoints_leaves_out_broken_ones(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 5)
    broken = save(tmp_path, 10)
    if damage == "truncated":
        file = broken / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-4])
    else:
        names = {"missing": "ema.safetensors", "no state": "state.json", "no manifest": "manifest.json"}
        (broken / names[damage]).unlink()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000005"]
    with pytest.raises(InputError, match="step-00000010"):
        load_checkpoint(broken)


def test_load_checkpoint_refuses_damaged_tensors(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    file = path / "model.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(InputError, match=r"damaged \(model\.safetensors has changed"):
        load_checkpoint(path)


@pytest.mark.parametrize("got", [{}, {"w": torch.zeros(2), "v": torch.zeros(1)}, {"w": torch.zeros(3)}])
def test_check_names_names_the_first_difference(got: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError, match=r"the model.*\b[wv]\b"):
        check_names({"w": torch.zeros(2)}, got, "the model")
