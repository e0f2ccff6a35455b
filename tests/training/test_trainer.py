import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import t2v.training.trainer as trainer_module
from t2v.errors import InputError
from t2v.training.checkpoint import read_state
from t2v.training.config import STAGES, TrainConfig
from t2v.training.figures import Means
from t2v.training.objectives import build_objective
from t2v.training.trainer import Trainer
from tests.training.measured_runs import draws, gradients, in_double

Configure = Callable[..., TrainConfig]


def tensors_below(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", STAGES)
def test_run_resumed_at_half_equals_a_straight_run_bitwise(stage: str, configure: Configure, tmp_path: Path) -> None:
    config = configure(stage)
    assert Trainer(config).run() == "finished"
    straight = tmp_path / "straight"
    shutil.copytree(tmp_path / "run", straight)

    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    trainer = Trainer(config, resume="auto")
    assert trainer.global_step == 2
    assert trainer.run() == "finished"
    ours, theirs = tensors_below(tmp_path / "run"), tensors_below(straight)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    losses = [[line["loss"] for line in metrics(folder) if "loss" in line] for folder in (tmp_path / "run", straight)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_run_writes_metrics_samples_and_checkpoints(configure: Configure, tmp_path: Path) -> None:
    logged: list[dict[str, Any]] = []
    Trainer(configure("image", "log_every=2"), on_log=logged.append).run()
    lines = metrics(tmp_path / "run")
    assert lines == logged
    assert [line["global_step"] for line in lines] == [2, 4, 4]
    assert {"loss", "lr", "samples_seen", "samples_per_s", "seconds", "grad_norm"} <= lines[0].keys()
    assert lines[1]["samples_seen"] == 12 and lines[2]["validation_loss"] > 0
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["samples-00000004.png"]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2


def test_run_stops_at_a_signal_and_goes_on(configure: Configure, tmp_path: Path) -> None:
    def interrupt(global_step: int, progress: float) -> None:
        if global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    config = configure("image", "save_every=100")
    handler = signal.getsignal(signal.SIGTERM)
    assert Trainer(config, on_step=interrupt).run() == "stopped"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    trainer = Trainer(config, resume="auto")
    assert trainer.global_step == 3 and trainer.run() == "finished" and trainer.global_step == 4


@pytest.mark.parametrize(("request_in", "outcome", "steps"), [(2, "stopped", 2), (5, "finished", 4)])
def test_a_request_to_stop_that_arrives_while_the_processes_agree_is_neither_lost_nor_obeyed_by_one_alone(
    request_in: int, outcome: str, steps: int, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configure("autoencoder"))
    agreements = 0

    def agree(*values: float) -> list[float]:
        nonlocal agreements
        agreements += 1
        trainer.stop_requested |= agreements == request_in
        return list(values)

    monkeypatch.setattr(trainer.processes, "largest", agree)
    assert (trainer.run(), trainer.global_step) == (outcome, steps)


@pytest.mark.parametrize("validate_every", [3, 4])
def test_a_finished_run_that_is_resumed_keeps_its_validation_loss(
    validate_every: int, configure: Configure, tmp_path: Path
) -> None:
    config = configure("autoencoder", f"validate_every={validate_every}")
    found = []
    for resume in (None, "auto"):
        assert Trainer(config, resume).run() == "finished"
        loss = read_state(tmp_path / "run" / "checkpoints" / "step-00000004")["validation_loss"]
        found.append((loss, [line["global_step"] for line in metrics(tmp_path / "run") if "psnr" in line]))
    assert found[0][0] > 0 and found[0] == found[1]


def test_a_run_that_was_killed_before_its_first_checkpoint_has_each_step_once_in_its_metrics(
    configure: Configure, tmp_path: Path
) -> None:
    trainer = Trainer(configure("autoencoder", "save_every=100"))
    with contextlib.suppress(KeyboardInterrupt):
        trainer.on_step = die_at_step_2
        trainer.run()
    Trainer(configure("autoencoder"), resume="auto").run()
    assert [line["global_step"] for line in metrics(tmp_path / "run") if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=0", None),
        ("seed=1", "seed was 0 up to step 4 and is 1"),
        ("data.max_samples=9", "num_samples was 10 .* 7"),
    ],
)
def test_a_resumed_run_tells_what_changes_the_order_of_its_samples(
    override: str, told: str | None, configure: Configure
) -> None:
    Trainer(configure("autoencoder")).run()
    notes: list[str] = []
    Trainer(configure("autoencoder", override), resume="auto", on_note=notes.append)
    assert [bool(told and re.match(told, note)) for note in notes] == [True] * (told is not None)


def die_at_step_2(global_step: int, progress: float) -> None:
    if global_step == 2:
        raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_loader_workers_outlive_the_signals_of_their_group(configure: Configure) -> None:
    trainer = Trainer(configure("autoencoder", "data.num_workers=1", "data.cache=none"))
    batches = trainer._batches()
    next(batches)
    for worker in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid or 0, number)
    assert all(len(next(batches)["pixels"]) == 3 for _ in range(5))
    batches.close()


@pytest.mark.parametrize("accumulation", [2, 3])
def test_accumulated_micro_batches_have_the_gradients_of_one_batch(
    accumulation: int, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "build_objective", lambda *given: in_double(build_objective(*given)))
    found = []
    for count in (1, accumulation):
        options = (f"batch_size={6 // count}", f"gradient_accumulation_steps={count}", "optim.max_grad_norm=null")
        trainer = Trainer(configure("image", *options))
        found.append(gradients(trainer))
        assert (trainer.global_step, trainer.samples_seen) == (1, 6)
    whole, accumulated = found
    assert whole.keys() == accumulated.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-12, atol=1e-12, msg=name)


def test_run_resumed_with_other_accumulation_goes_on_with_the_next_samples(configure: Configure) -> None:
    Trainer(configure("autoencoder", "batch_size=1", "gradient_accumulation_steps=3", "max_steps=2")).run()
    rest = Trainer(configure("autoencoder", "batch_size=2", "max_steps=3"), resume="auto")
    assert (rest.global_step, rest.samples_seen) == (2, 6)
    whole = Trainer(configure("autoencoder", "batch_size=8", f"output_dir={rest.folder.path}-other"))
    assert draws(rest, 1) == draws(whole, 1)[6:]


def test_run_ends_by_the_clock_and_counts_the_time_before_a_resume(configure: Configure, tmp_path: Path) -> None:
    trainer = Trainer(configure("autoencoder", "max_steps=1000000", "max_seconds=1", "optim.final_scale=0"))
    assert trainer.run() == "finished"
    assert 1 <= trainer.seconds < 60 and 0 < trainer.global_step < 100_000
    rates = [line["lr"] for line in metrics(tmp_path / "run") if "lr" in line]
    assert rates[0] > rates[-1]  # the schedule follows the clock
    resumed = Trainer(configure("autoencoder", "max_steps=1000000", "max_seconds=1"), resume="auto")
    step = resumed.global_step
    assert resumed.run() == "finished" and resumed.global_step == step


def test_trainer_refuses_a_second_run_in_a_folder(configure: Configure) -> None:
    config = configure("autoencoder", "max_steps=1")
    Trainer(config).run()
    with pytest.raises(InputError, match="--resume auto"):
        Trainer(config)


def test_trainer_refuses_a_checkpoint_of_another_network(configure: Configure) -> None:
    Trainer(configure("autoencoder", "max_steps=1")).run()
    with pytest.raises(InputError, match="another model section"):
        Trainer(configure("autoencoder", "max_steps=2", "model.layers_per_block=2"), resume="auto")


def test_run_stops_when_the_loss_is_not_finite(configure: Configure) -> None:
    config = configure("image", "optim.learning_rate=1e30", "optim.max_grad_norm=null", "max_steps=20")
    with pytest.raises(InputError, match="not finite"):
        Trainer(config).run()


def test_run_says_what_to_do_when_the_memory_is_full(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer = Trainer(configure("image"))
    monkeypatch.setattr(trainer.objective, "loss", fail)
    with pytest.raises(InputError, match=r"batch_size=3.*gradient_accumulation_steps"):
        trainer.run()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
@pytest.mark.parametrize(("override", "message"), [("device=cuda", "CUDA"), ("mixed_precision=fp16", "fp16")])
def test_trainer_refuses_what_the_machine_lacks(configure: Configure, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trainer(configure("image", override))


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_trainer_reads_data_in_worker_processes_to_the_same_result(configure: Configure, tmp_path: Path) -> None:
    results = []
    for workers in (0, 2):
        options = (f"data.num_workers={workers}", "data.cache=none", f"output_dir={tmp_path / str(workers)}")
        Trainer(configure("autoencoder", "max_steps=2", *options)).run()
        results.append(tensors_below(tmp_path / str(workers) / "model"))
    assert all(torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())


@pytest.mark.parametrize("stage", STAGES)
def test_run_learns_nothing_while_it_compiles(
    stage: str, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)
    for compiled in ("false", "true"):
        options = ("max_steps=2", "diffusion.kl_target=1") if stage == "autoencoder" else ("max_steps=2",)
        Trainer(configure(stage, f"compile={compiled}", f"output_dir={tmp_path / compiled}", *options)).run()
    plain, compiled_run = tensors_below(tmp_path / "false"), tensors_below(tmp_path / "true")
    assert plain.keys() == compiled_run.keys()
    assert all(torch.equal(tensor, compiled_run[name]) for name, tensor in plain.items())


def test_run_refuses_a_compiler_that_loses_gradients(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(network: torch.nn.Module) -> Callable[..., torch.Tensor]:
        def run(*inputs: torch.Tensor) -> torch.Tensor:
            middle = network.unet.mid_block
            cut = middle.register_forward_hook(lambda module, inputs, output: output.detach())
            output = network(*inputs)
            cut.remove()
            return output

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(InputError, match=r"compile: .* by \d+%, [1-9]\d* of \d+ tensors get none: set compile=false"):
        Trainer(configure("image", "compile=true", "max_steps=2")).run()


def test_means_average_since_the_last_call() -> None:
    means = Means()
    for value in (1.0, 3.0):
        means.add({"loss": torch.tensor(value)})
    assert means.pop() == {"loss": 2.0}
    means.add({"loss": torch.tensor(5.0)})
    assert means.pop() == {"loss": 5.0}


def test_means_of_figures_that_start_late() -> None:
    means = Means()
    means.add({"loss": torch.tensor(1.0)})
    means.add({"loss": torch.tensor(1.0), "discriminator": torch.tensor(4.0)})
    assert means.tensors() == {"loss": 1.0, "discriminator": 4.0}
    assert means.pop() == {"loss": 1.0, "discriminator": 4.0}
