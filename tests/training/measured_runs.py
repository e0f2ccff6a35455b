"""What the tests of several processes run: `python -m tests.training.measured_runs OUT FILE`, in one or in many.

FILE is JSON: a list of runs, each with the environment, the configuration file and what to do. Every process writes
`OUT/<name>.<rank>.json`, the main one also `OUT/<name>.safetensors`.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import save_file
from torch import Tensor, nn

import t2v.training.trainer as trainer_module
from t2v.training.config import TrainConfig
from t2v.training.config_files import load_config
from t2v.training.objectives import build_objective
from t2v.training.objectives.base import Objective
from t2v.training.sharding import gather
from t2v.training.trainer import Trainer


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    """The gradients of the next step, which is not taken; on the main process."""
    found: dict[str, Tensor] = {}

    def keep(global_step: int) -> dict[str, Tensor]:
        tensors = {name: parameter.grad for name, parameter in trainer.parameters.items() if parameter.grad is not None}
        found.update(gather(tensors, trainer.processes.is_main))
        return {}

    trainer.learner.step = keep  # type: ignore[method-assign]
    batches = trainer._batches()
    trainer.step(batches)
    batches.close()
    return {name: gradient.clone() for name, gradient in found.items()}


def draws(trainer: Trainer, count: int) -> list[tuple[int, int]]:
    """(epoch, sample) of the next `count` micro-batches of this process."""
    batches = trainer._batches()
    found = [next(batches) for _ in range(count)]
    batches.close()
    return [pair for batch in found for pair in zip(batch["epochs"].tolist(), batch["indices"].tolist(), strict=True)]


def in_double(objective: Objective) -> Objective:
    """The stage with an fp64 network: what is left of a difference is then no rounding."""

    def convert(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(value.double() if value.is_floating_point() else value for value in arguments)

    objective.network.double().register_forward_pre_hook(convert)
    return objective


def perform(config: TrainConfig, run: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Do one run of the list: what each process reports, and the main one's tensors."""

    precise = run["what"] == "gradients"
    trainer_module.build_objective = (lambda *given: in_double(build_objective(*given))) if precise else build_objective

    def on_step(global_step: int, progress: float) -> None:
        if run.get("interrupted") == [trainer.processes.rank, global_step]:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = Trainer(config, run.get("resume"), on_step=on_step)
    facts: dict[str, Any] = {"processes": trainer.processes.count, "started_at": trainer.samples_seen}
    if run["what"] == "gradients":
        facts["draws"] = draws(trainer, 4)
        return facts, gradients(trainer)
    if run["what"] == "train":
        facts["outcome"] = trainer.run()
    parameter = next(iter(trainer.parameters.values()))
    facts |= {
        "global_step": trainer.global_step,
        "samples_seen": trainer.samples_seen,
        "kind": type(parameter).__name__,
    }
    return facts, gather(trainer.learner.parameters, trainer.processes.is_main)


def main() -> None:
    """Do all runs of the list in this process, one of several."""
    torch.set_num_threads(1)
    out, runs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    for run in runs:
        os.environ.update({"ACCELERATE_USE_FSDP": "false", **run.get("environment", {})})
        facts, tensors = perform(load_config(run["stage"], [run["config"]], run.get("overrides", [])), run)
        rank = PartialState().process_index
        (out / f"{run['name']}.{rank}.json").write_text(json.dumps(facts))
        if rank == 0:
            whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
            save_file(whole, out / f"{run['name']}.safetensors")
        AcceleratorState._reset_state(True)
        GradientState._reset_state()


if __name__ == "__main__":
    main()
