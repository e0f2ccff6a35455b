"""Whatever ends a run, the last good checkpoint is there, nothing half-written stays, and the run goes on exactly."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import t2v.training.checkpoint as checkpoint_module
from t2v.errors import InputError
from t2v.training.config import TrainConfig
from t2v.training.config_files import dump_config
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]
ROOT = Path(__file__).parents[2]


def leftovers(run: Path) -> list[str]:
    return [str(path.relative_to(run)) for path in run.rglob(".*")]


def final_tensors(run: Path, steps: int) -> dict[str, torch.Tensor]:
    files = sorted((run / "checkpoints" / f"step-{steps:08d}").glob("*.safetensors"))
    return {f"{file.stem}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(
    ("num_kills", "steps"), [(3, 60), pytest.param(20, 1000, marks=pytest.mark.slow)], ids=["3 kills", "20 kills"]
)
def test_a_run_killed_at_random_moments_ends_with_the_weights_of_one_never_killed(
    num_kills: int, steps: int, configure: Configure, tmp_path: Path
) -> None:
    options = (f"max_steps={steps}", "save_every=5", "validate_every=50", "log_every=10", "trackers=[]")
    for name in ("straight", "killed"):
        config = configure("autoencoder", *options, f"output_dir={tmp_path / name}")
        (tmp_path / f"{name}.yaml").write_text(dump_config(config))
    files = [str(tmp_path / "straight.yaml"), str(tmp_path / "killed.yaml")]
    command = [sys.executable, "-m", "tests.training.kill_loop", *files, str(num_kills), "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    figures = json.loads(result.stdout)
    print(figures)
    assert figures["kills"] > 0 and figures["starts"] == sorted(figures["starts"])
    killed, straight = final_tensors(tmp_path / "killed", steps), final_tensors(tmp_path / "straight", steps)
    assert killed.keys() == straight.keys() and len(killed) > 20
    assert all(torch.equal(tensor, straight[name]) for name, tensor in killed.items())
    assert leftovers(tmp_path / "killed") == []


def test_a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file = checkpoint_module.save_file

    def fail_at_step_4(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "step-00000004" in str(path) and path.stem == "optimizer":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", fail_at_step_4)
    with pytest.raises(InputError, match=r"no space left.*step-00000002, is intact") as error:
        Trainer(configure("image")).run()
    assert "\n" not in str(error.value)
    run = tmp_path / "run"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"] and leftovers(run) == []
    monkeypatch.undo()
    trainer = Trainer(configure("image"), resume="auto")
    assert trainer.global_step == 2 and trainer.run() == "finished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(configure: Configure, small_disk: Path) -> None:
    options = (
        "max_steps=1000",
        "save_every=1",
        "keep_checkpoints=100",
        "validate_every=1000",
        f"output_dir={small_disk}",
    )
    with pytest.raises(InputError, match="no space left") as error:
        Trainer(configure("autoencoder", *options)).run()
    checkpoints = sorted(path.name for path in (small_disk / "checkpoints").iterdir())
    assert checkpoints and f"{checkpoints[-1]}, is intact" in str(error.value)
    assert leftovers(small_disk) == []
    shutil.rmtree(small_disk / "checkpoints" / checkpoints[0])
    trainer = Trainer(configure("autoencoder", *options, f"max_steps={len(checkpoints)}"), resume="auto")
    assert trainer.global_step == len(checkpoints)


def test_a_new_start_clears_away_what_a_killed_one_left(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("autoencoder", "max_steps=2")).run()
    run = tmp_path / "run"
    (run / "checkpoints" / ".step-00000004.99.tmp").mkdir()
    (run / "checkpoints" / ".step-00000004.99.tmp" / "model.safetensors").write_bytes(b"half")
    (run / ".metrics.jsonl.99.tmp").write_text("half")
    os.replace(
        run / "checkpoints" / "step-00000002", run / "checkpoints" / ".step-00000002.old"
    )  # killed between renames
    trainer = Trainer(configure("autoencoder", "max_steps=2"), resume="auto")
    assert trainer.global_step == 2 and leftovers(run) == []


def test_a_folder_in_which_another_process_trains_is_left_alone(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("autoencoder", "max_steps=2")).run()
    run = tmp_path / "run"
    (run / "checkpoints" / ".step-00000004.99.tmp").mkdir()  # the other one is writing it
    code = (
        "import sys; from t2v.training.run_folder import RunFolder; folder = RunFolder(sys.argv[1]); folder.lock()\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run)]
    other = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="another process trains in"):
            Trainer(configure("autoencoder"), resume="auto")
        other.kill()
    assert leftovers(run) == ["checkpoints/.step-00000004.99.tmp"]
    assert Trainer(configure("autoencoder"), resume="auto").run() == "finished"
    assert leftovers(run) == []


def test_a_damaged_checkpoint_is_set_aside_with_a_note(configure: Configure, tmp_path: Path) -> None:
    Trainer(configure("autoencoder")).run()
    file = tmp_path / "run" / "checkpoints" / "step-00000004" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    notes: list[str] = []
    trainer = Trainer(configure("autoencoder", "max_steps=5"), resume="auto", on_note=notes.append)
    assert trainer.global_step == 2
    assert len(notes) == 1 and "step-00000004 is damaged (model.safetensors has changed" in notes[0]
    assert trainer.run() == "finished"
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"step-00000004", "step-00000005", "damaged-step-00000004"}
