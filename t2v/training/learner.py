"""What learns: a stage's network with its optimizer and average, on one process or spread over many."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from t2v.errors import InputError
from t2v.training.checkpoint import check_names
from t2v.training.config import TrainConfig
from t2v.training.ema import EMA
from t2v.training.objectives.base import Objective
from t2v.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors
from t2v.training.processes import Processes, sharding_asked_for
from t2v.training.sharding import fill, gather, shard, whole_parameters


class Learner:
    """Gradients, steps and the whole state of a training, whatever the number of processes."""

    def __init__(
        self, objective: Objective, config: TrainConfig, accelerator: Accelerator, processes: Processes
    ) -> None:
        self.objective, self.config = objective, config
        self.accelerator, self.processes = accelerator, processes
        self.eager_network = self._prepare()  # validation has other batch sizes and is not compiled
        self.network: nn.Module = self.eager_network
        if config.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        self.parameters = objective.trainable()
        self.optimizer = accelerator.prepare(build_optimizer(self.parameters, config.optim))
        decay = config.optim.ema_decay
        self.ema = EMA(self.parameters, decay) if decay is not None else None

    def _prepare(self) -> nn.Module:
        network, count = self.objective.network, self.processes.count
        if not sharding_asked_for() or count == 1:
            return self.accelerator.prepare(network)
        if self.config.stage == "autoencoder":
            raise InputError("the autoencoder does not go with FSDP2; launch with configs/accelerate/ddp.yaml")
        shard(network, self.accelerator.device, count)
        return self.accelerator.prepare_model(network, evaluation_mode=True)  # autocast alone, without DDP

    # ------------------------------------------------------------ a step

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the loss of one of the step's micro-batches."""
        self.accelerator.backward(loss / self.config.gradient_accumulation_steps)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """In the block, gradients stay in this process: those of all but a step's last micro-batch."""
        return self.accelerator.no_sync(self.eager_network)

    def step(self, global_step: int) -> dict[str, Tensor]:
        """Learn from the gathered gradients. Step 1 is the first. Returns figures."""
        figures = {}
        max_norm = self.config.optim.max_grad_norm
        if max_norm is not None:
            figures["grad_norm"] = self.accelerator.clip_grad_norm_(self.parameters.values(), max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(global_step)
        return figures

    # ------------------------------------------------------------ state

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """In the block the network has its averaged weights."""
        return self.ema.applied() if self.ema is not None else contextlib.nullcontext()

    def export(self, output_dir: Path) -> None:
        """Write what the stage makes, with averaged weights. Every process must call this."""
        keep = self.processes.is_main
        with torch.no_grad(), self.averaged(), whole_parameters(self.objective.network, keep):
            if keep:
                self.objective.export(output_dir)

    def scalars(self) -> dict[str, Any]:
        """The part of the state that is no tensor."""
        scaler = self.accelerator.scaler
        return {"scaler": scaler.state_dict() if scaler is not None else {}}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The state as whole tensors by group, empty but on the main process. Every process must call this."""
        keep = self.processes.is_main
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self.parameters,
            "optimizer": optimizer_tensors(self.optimizer.optimizer, self.names()),
            "objective": self.objective.state(),
            **({"ema": self.ema.shadow} if self.ema is not None else {}),
        }
        states = self.processes.gather(self._random_states())
        random = {f"{rank}.{kind}": state for rank, kinds in enumerate(states) for kind, state in kinds.items()}
        return {**{group: gather(tensors, keep) for group, tensors in groups.items()}, "random": random}

    def load(self, scalars: dict[str, Any], tensors: dict[str, dict[str, Tensor]]) -> None:
        """Put back what `scalars` and `tensors` gave, with any number of processes."""
        check_names(self.parameters, tensors["model"], "the checkpoint's model")
        for name, parameter in self.parameters.items():
            fill(parameter, tensors["model"][name])
        if self.ema is not None:
            check_names(self.parameters, tensors.get("ema", {}), "the checkpoint's average (ema)")
            self.ema.load(tensors["ema"])
        load_optimizer_tensors(self.optimizer.optimizer, tensors["optimizer"], self.names())
        self.objective.load_state(tensors["objective"])
        if self.accelerator.scaler is not None and scalars["scaler"]:
            self.accelerator.scaler.load_state_dict(scalars["scaler"])
        self._set_random_states(tensors["random"])

    def names(self) -> dict[int, str]:
        """The name of each parameter by its id."""
        return {id(parameter): name for name, parameter in self.parameters.items()}

    def _random_states(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        return states

    def _set_random_states(self, states: dict[str, Tensor]) -> None:
        """A process that had no counterpart keeps the seed it started with."""
        rank = self.processes.rank
        if f"{rank}.cpu" in states:
            torch.set_rng_state(states[f"{rank}.cpu"])
        if f"{rank}.cuda" in states and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(states[f"{rank}.cuda"], self.accelerator.device)
