"""Two processes on a CPU (gloo, by torchrun): the same gradients as one, disjoint data, checkpoints for any number."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from torch import Tensor

import t2v.training.trainer as trainer_module
from t2v.training.config import TrainConfig
from t2v.training.config_files import dump_config
from t2v.training.objectives import build_objective
from t2v.training.trainer import Trainer
from tests.training.measured_runs import draws, gradients, in_double

ROOT = Path(__file__).parents[2]
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
PLAIN = ("optim.max_grad_norm=null", "batch_size=2", "trackers=[]", "save_every=100", "validation.prompts=[]")
TWICE = "gradient_accumulation_steps=2"
# one encoding for all: the fp32 latents of a clip depend, in their last bits, on what is encoded beside it
CACHED = "data.cache_latents=true"
TEMPORAL: dict[str, Any] = {"stage": "temporal"}
RUNS: list[dict[str, Any]] = [
    {"name": "temporal-ddp", **TEMPORAL, "what": "gradients", "options": (TWICE, CACHED)},
    {"name": "temporal-fsdp", **TEMPORAL, "what": "gradients", "options": (TWICE, CACHED), "environment": FSDP2},
    {"name": "image-ddp", "stage": "image", "what": "gradients", "options": (TWICE,)},
    {"name": "ddp", **TEMPORAL, "what": "train", "folder": "ddp"},
    {"name": "fsdp", **TEMPORAL, "what": "train", "folder": "fsdp", "environment": FSDP2},
    {"name": "fsdp-again", **TEMPORAL, "what": "load", "folder": "fsdp", "environment": FSDP2, "resume": "auto"},
    {"name": "fsdp-to-ddp", **TEMPORAL, "what": "load", "folder": "fsdp", "resume": "auto"},
    {"name": "stopped", **TEMPORAL, "what": "train", "folder": "stopped", "environment": FSDP2, "interrupted": [1, 3]},
]


class Results:
    """What `measured_runs` left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def facts(self, name: str) -> list[dict[str, Any]]:
        return [json.loads((self.folder / f"{name}.{rank}.json").read_text()) for rank in range(2)]

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, configure_in: Callable[..., TrainConfig]) -> Results:
    """All runs, one after another, in the same two processes."""
    folder = tmp_path_factory.mktemp("processes")
    for entry in RUNS:
        entry["config"] = str(folder / f"{entry['name']}.yaml")
        place = f"output_dir={folder / entry.get('folder', 'run')}"
        config = configure_in(folder, entry["stage"], *PLAIN, place, *entry.get("options", ()))
        Path(entry["config"]).write_text(dump_config(config))
    (folder / "runs.json").write_text(json.dumps(RUNS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command += ["tests.training.measured_runs", str(folder), str(folder / "runs.json")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:6000]
    results = Results(folder)
    assert all(fact["processes"] == 2 for entry in RUNS for fact in results.facts(entry["name"]))
    return results


def relative_error(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys() and len(ours) > 20
    difference = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in ours)
    return (difference / sum(float(tensor.double().square().sum()) for tensor in theirs.values())) ** 0.5


@pytest.mark.parametrize("name", ["temporal-ddp", "temporal-fsdp", "image-ddp"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(
    name: str, found: Results, configure_in: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "build_objective", lambda *given: in_double(build_objective(*given)))
    stage = name.partition("-")[0]
    cached = (CACHED,) if stage == "temporal" else ()
    alone = Trainer(configure_in(found.folder, stage, *PLAIN, "batch_size=8", *cached))
    shares = [{*map(tuple, fact["draws"])} for fact in found.facts(name)]
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == {*draws(alone, 2)}
    assert relative_error(found.tensors(name), gradients(alone)) < 1e-12


@pytest.mark.parametrize("name", ["fsdp-again", "fsdp-to-ddp"])
def test_what_two_processes_saved_loads_on_two(name: str, found: Results) -> None:
    kinds = {"fsdp": "DTensor", "fsdp-again": "DTensor", "fsdp-to-ddp": "Parameter"}
    assert all(found.facts(run)[1]["kind"] == kind for run, kind in kinds.items())
    saved = found.tensors("fsdp")
    assert all(torch.equal(tensor, saved[key]) for key, tensor in found.tensors(name).items())
    assert [fact["started_at"] for fact in found.facts(name)] == [16, 16]  # 4 steps of 2 x 2 samples
    assert relative_error(found.tensors("ddp"), saved) < 1e-4


def test_what_two_processes_saved_goes_on_in_one(found: Results, configure_in: Callable[..., TrainConfig]) -> None:
    saved = found.tensors("fsdp")
    options = (f"output_dir={found.folder / 'fsdp'}", "max_steps=6")
    alone = Trainer(configure_in(found.folder, "temporal", *PLAIN, *options), resume="auto")
    assert all(torch.equal(parameter, saved[name]) for name, parameter in alone.parameters.items())
    assert (alone.global_step, alone.samples_seen) == (4, 16)
    assert alone.run() == "finished" and (alone.global_step, alone.samples_seen) == (6, 20)


def test_a_signal_to_one_process_stops_all_after_the_same_step(found: Results) -> None:
    assert [fact["outcome"] for fact in found.facts("stopped")] == ["stopped", "stopped"]
    assert [fact["global_step"] for fact in found.facts("stopped")] == [3, 3]
    assert [path.name for path in (found.folder / "stopped" / "checkpoints").iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("name", ["one_gpu", "ddp", "fsdp2", "cpu"])
def test_accelerate_reads_the_launch_files(name: str) -> None:
    config = load_config_from_file(str(ROOT / "configs" / "accelerate" / f"{name}.yaml"))
    assert config.num_processes == (1 if name == "one_gpu" else 2)
    assert (config.fsdp_config or {}).get("fsdp_version") == (2 if name == "fsdp2" else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "figure"),
    [
        ("diffusion.adversarial_weight=0", "kl"),
        ("diffusion.adversarial_weight=0.5", "discriminator"),
        ("model.regularization=vq", "vq"),
    ],
)
def test_accelerate_launches_two_processes_on_a_cpu(
    option: str, figure: str, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    options = ("data.num_validation=2", "diffusion.discriminator_channels=8", "diffusion.adversarial_start=0", option)
    (tmp_path / "c.yaml").write_text(dump_config(configure("autoencoder", *options)))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/cpu.yaml", "-m"]
    command += ["t2v", "train", "autoencoder", "--config", str(tmp_path / "c.yaml")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines() == [str(tmp_path / "run")]  # one process speaks
    starts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [start["processes"] for start in starts] == [2]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [line[figure] for line in lines if figure in line]
    assert len(values) == 4 and all(math.isfinite(value) for value in values)
