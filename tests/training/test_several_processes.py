"""Two processes on a CPU (gloo, by torchrun): the same gradients as one, disjoint data, checkpoints for any number."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import t2v.training.trainer as trainer_module
from t2v.training.config import TrainConfig, dump_config
from t2v.training.objectives import build_objective
from t2v.training.trainer import Trainer
from tests.training.measured_runs import draws, gradients, in_double

Configure = Callable[..., TrainConfig]
ROOT = Path(__file__).parents[2]
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
PLAIN = ("optim.max_grad_norm=null", "batch_size=2", "trackers=[]", "save_every=100", "validation.prompts=[]")


def torchrun(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module in two processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", *arguments]
    settings = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=settings | environment, capture_output=True, text=True, timeout=300)


class Results:
    """What `measured_runs` left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def facts(self, name: str) -> list[dict[str, Any]]:
        return [json.loads((self.folder / f"{name}.{rank}.json").read_text()) for rank in range(2)]

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{name}.safetensors")


@pytest.fixture
def two_processes(tmp_path: Path, configure: Configure) -> Callable[[list[dict[str, Any]]], Results]:
    def run(runs: list[dict[str, Any]]) -> Results:
        for entry in runs:
            entry["config"] = str(tmp_path / f"{entry['name']}.yaml")
            Path(entry["config"]).write_text(dump_config(configure(entry["stage"], *PLAIN, *entry.pop("options", ()))))
        (tmp_path / "runs.json").write_text(json.dumps(runs))
        result = torchrun(["tests.training.measured_runs", str(tmp_path), str(tmp_path / "runs.json")])
        assert result.returncode == 0, result.stderr[:6000]
        found = Results(tmp_path)
        assert all(fact["processes"] == 2 for entry in runs for fact in found.facts(entry["name"]))
        return found

    return run


def relative_error(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys() and len(ours) > 20
    difference = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in ours)
    return (difference / sum(float(tensor.double().square().sum()) for tensor in theirs.values())) ** 0.5


def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(
    two_processes: Callable[..., Results], configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "build_objective", lambda *arguments: in_double(build_objective(*arguments)))
    # one encoding for all: the fp32 latents of a clip depend, in their last bits, on what is encoded beside it
    cached = "data.cache_latents=true"
    options = ("gradient_accumulation_steps=2", cached)
    twice = {"stage": "temporal", "what": "gradients", "options": options}
    runs: list[dict[str, Any]] = [
        {"name": "temporal-twice", **twice},
        {"name": "temporal-fsdp-twice", **twice, "environment": FSDP2},
        {"name": "image", "stage": "image", "what": "gradients"},
    ]
    found = two_processes(runs)
    for entry in runs:
        stage, batch, more = entry["stage"], 4, ()
        if stage == "temporal":
            batch, more = 8, (cached,)
        alone = Trainer(configure(stage, *PLAIN, f"batch_size={batch}", *more))
        drawn = draws(alone, 16 // batch)
        shares = [fact["draws"] for fact in found.facts(entry["name"])]
        assert not {*map(tuple, shares[0])} & {*map(tuple, shares[1])}
        assert sorted(map(tuple, shares[0] + shares[1])) == sorted(drawn)
        assert relative_error(found.tensors(entry["name"]), gradients(alone)) < 1e-12, entry["name"]


def test_what_two_processes_saved_loads_on_one_and_on_two(
    two_processes: Callable[..., Results], configure: Configure, tmp_path: Path
) -> None:
    def step(name: str, what: str, environment: dict[str, str], folder: str, **more: Any) -> dict[str, Any]:
        options = (f"output_dir={tmp_path / folder}",)
        return {"name": name, "stage": "temporal", "what": what, "environment": environment, "options": options, **more}

    found = two_processes(
        [
            step("ddp", "train", {}, "ddp"),
            step("fsdp", "train", FSDP2, "fsdp"),
            step("fsdp-again", "load", FSDP2, "fsdp", resume="auto"),
            step("fsdp-to-ddp", "load", {}, "fsdp", resume="auto"),
            step("stopped", "train", FSDP2, "stopped", interrupted=[1, 3]),
        ]
    )
    saved = found.tensors("fsdp")
    assert found.facts("fsdp")[1]["kind"] == "DTensor" and found.facts("fsdp-to-ddp")[1]["kind"] == "Parameter"
    for name in ("fsdp-again", "fsdp-to-ddp"):
        assert all(torch.equal(tensor, saved[key]) for key, tensor in found.tensors(name).items())
        assert [fact["started_at"] for fact in found.facts(name)] == [16, 16]  # 4 steps of 2 x 2 samples
    alone = Trainer(configure("temporal", *PLAIN, f"output_dir={tmp_path / 'fsdp'}", "max_steps=6"), resume="auto")
    assert all(torch.equal(parameter, saved[name]) for name, parameter in alone.parameters.items())
    assert (alone.global_step, alone.samples_seen) == (4, 16)
    assert alone.run() == "finished" and alone.samples_seen == 20
    assert relative_error(found.tensors("ddp"), saved) < 1e-4
    assert [fact["outcome"] for fact in found.facts("stopped")] == ["stopped", "stopped"]
    assert [fact["global_step"] for fact in found.facts("stopped")] == [3, 3]
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["step-00000003"]
