import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from t2v.cli.main import main
from t2v.cli.train import app
from t2v.cli.training_display import display, summary
from t2v.training.config import STAGES
from t2v.training.config_files import load_config

TINY = ["device=cpu", "max_steps=2", "batch_size=2", "data.resolution=16", "data.num_validation=1", "log_every=1"]
MODEL = ["model.block_out_channels=[4, 4]", "model.norm_num_groups=2"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(4):
        Image.fromarray(np.full((16, 16, 3), 50 * index, np.uint8)).save(folder / f"{index}.png")
    return folder


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["t2v", "train", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_train_print_config_shows_files_options_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("batch_size: 7\nseed: 3\n")
    arguments = [
        "image",
        "--config",
        str(tmp_path / "c.yaml"),
        "--data",
        "d",
        "--model",
        "m",
        "--print-config",
        "seed=4",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    settings = yaml.safe_load(result.stdout)
    assert (settings["batch_size"], settings["seed"]) == (7, 4)
    assert settings["data"]["path"] == "d" and settings["model"]["base"] == "m"


@pytest.mark.parametrize("wrong", ["data.nonsense=1", "max_steps=soon"])
def test_train_names_a_wrong_key_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, wrong: str
) -> None:
    assert run_main(monkeypatch, "image", f"output_dir={tmp_path / 'run'}", wrong) == 2
    error = capsys.readouterr().err
    assert wrong.split("=")[0] in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_train_runs_resumes_and_ends_with_the_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, pictures: Path
) -> None:
    output = tmp_path / "run"
    arguments = ["autoencoder", "--data", str(pictures), f"output_dir={output}", *TINY, *MODEL]
    assert run_main(monkeypatch, *arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(output)
    assert "loss" in printed.err and "psnr" in printed.err
    assert (output / "model" / "vae" / "config.json").is_file()
    assert run_main(monkeypatch, *arguments) == 2
    assert "--resume auto" in capsys.readouterr().err
    assert run_main(monkeypatch, *arguments, "--resume", "auto", "max_steps=3") == 0
    assert (output / "checkpoints" / "step-00000003").is_dir()


def test_train_dry_run_says_what_it_found_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, pictures: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    output = tmp_path / "run"
    arguments = ["autoencoder", "--data", str(pictures), f"output_dir={output}", *TINY, *MODEL, "--dry-run"]
    assert run_main(monkeypatch, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data: 3 samples (1.33 epochs), 0 files skipped"
    assert lines[1].startswith("memory: weights") and " peak " in lines[1]
    assert lines[2].startswith("first step: loss ")
    assert not output.exists() and not list((tmp_path / "temporary").iterdir())
    assert run_main(monkeypatch, *arguments, "data.num_validation=9") == 2


def test_the_progress_bar_shows_what_a_person_watches() -> None:
    values = {"loss": 0.123456, "samples_per_s": 12.34, "data_wait": 0.031, "memory_gb": 5.25}
    assert summary("clips", values) == "loss 0.1235, 12.3 clips/s, 3% data wait, 5.2 GB"


@pytest.mark.parametrize("stage", STAGES)
def test_the_display_of_every_stage_shows_what_is_logged(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"global_step": 1, "loss": 0.5, "samples_per_s": 2.0, "data_wait": 0.0, "memory_gb": 1.0}
    with display(load_config(stage)) as shown:
        shown.on_log(values)
    kind = "clips" if stage in ("temporal", "interpolation") else "pictures"
    assert f"2 {kind}/s" in shown.bar.tasks[0].fields["figures"]
    assert "loss 0.5" in capsys.readouterr().err


def test_train_help_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['t2v', 'train', '--help']\n"
        "from t2v.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules or 'accelerate' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--resume" in result.stdout and result.stdout.splitlines()[-1] == "False"
