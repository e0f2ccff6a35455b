import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from t2v.cli import tune
from t2v.errors import InputError
from t2v.evaluation import op_speed, tuning
from t2v.ops.triton.configs import NORM_CONFIG, NormConfig


@pytest.mark.parametrize("arguments", [["--device", "cpu"], ["--sizes", "xl"]])
def test_what_cannot_be_tuned_is_refused(arguments: list[str], tmp_path: Path) -> None:
    error = CliRunner().invoke(tune.app, [*arguments, "-o", str(tmp_path / "tiles.json")]).exception
    assert isinstance(error, InputError)
    assert ("CUDA GPU" if "cpu" in arguments else "'xl'") in str(error)
    assert not list(tmp_path.iterdir())


def test_tiles_are_written_beside_those_of_other_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(task: tuning.Task, _measure: object) -> tuning.Outcome:
        better = task.key == "norm_c320"
        return tuning.Outcome(task.key, NormConfig(32, 4) if better else NORM_CONFIG, 0.5, 1.0, 3, better)

    made = [tuning.Task(key, NORM_CONFIG, lambda: torch.zeros(1)) for key in ("norm_c320", "norm_c640")]
    monkeypatch.setattr(tune, "_gpu_name", lambda _device: "NVIDIA H200")
    monkeypatch.setattr(tuning, "search", search)
    monkeypatch.setattr(tuning, "tasks", lambda *_: iter(made))
    monkeypatch.setattr(op_speed, "SD15_LEVELS", ())
    path, other = tmp_path / "tiles.json", {"NVIDIA A100": {"norm_c320": {"BC": 128, "num_warps": 8}}}
    path.write_text(json.dumps(other))
    done = CliRunner().invoke(tune.app, ["-o", str(path), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert json.loads(path.read_text()) == {**other, "NVIDIA H200": {"norm_c320": {"BC": 32, "num_warps": 4}}}
    assert "norm_c320: 2.00x" in done.output and "norm_c640: the table's is best" in done.output


def test_a_tile_of_the_table_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> torch.Tensor:
        raise RuntimeError("out of resource: shared memory\nRequired: 999")

    runs = {"norm_c320": fail, "norm_c640": lambda: torch.rand(9), "norm_c1280": lambda: torch.ones(9)}
    made = [tuning.Task(key, NORM_CONFIG, run) for key, run in runs.items()]
    monkeypatch.setattr(tune, "_gpu_name", lambda _device: "NVIDIA H200")
    monkeypatch.setattr(tuning, "tasks", lambda *_: iter(made))
    path = tmp_path / "tiles.json"
    done = CliRunner().invoke(tune.app, ["-o", str(path), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "norm_c320: the table's tile does not run here (RuntimeError: out of resource: shared memory)" in done.output
    assert "norm_c640: the table's tile does not run here (its results differ from run to run)" in done.output
    assert "norm_c1280: " in done.output and path.exists()


def test_a_broken_file_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_gpu_name", lambda _device: "NVIDIA H200")
    path = tmp_path / "tiles.json"
    path.write_text("{")
    assert isinstance(CliRunner().invoke(tune.app, ["-o", str(path), "--device", "cpu"]).exception, InputError)
    assert path.read_text() == "{"
