"""The training loop: ordinary PyTorch, with accelerate where devices and precision matter (prepare, backward, clip)."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from t2v.errors import InputError
from t2v.training.checkpoint import Checkpoint, check_names, load_checkpoint, save_checkpoint
from t2v.training.config import TrainConfig
from t2v.training.ema import EMA
from t2v.training.objectives import Context, build_objective
from t2v.training.objectives.base import Batch
from t2v.training.optim import build_optimizer, learning_rate, load_optimizer_tensors, optimizer_tensors
from t2v.training.run_folder import RunFolder
from t2v.training.sampler import StepSampler

Outcome = Literal["finished", "stopped"]
Report = Callable[[dict[str, Any]], None]


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator of a configuration.

    Raises:
        InputError: CUDA asked for where there is none, or fp16 on a CPU.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise InputError("device: CUDA was asked for and is not available; use device=cpu or device=auto")
    on_cpu = config.device == "cpu" or not cuda
    if on_cpu and config.mixed_precision == "fp16":
        raise InputError("mixed_precision: fp16 needs a GPU; use bf16 or no")
    if not on_cpu:
        torch.backends.cudnn.benchmark = True
        if config.mixed_precision != "no":
            torch.set_float32_matmul_precision("high")
    return Accelerator(cpu=on_cpu, mixed_precision=config.mixed_precision)


def _unchanged(batch: Batch) -> Batch:
    return batch


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the main process alone decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Means:
    """Running means of scalar tensors that wait on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Take in the figures of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def pop(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


class Trainer:
    """One run of one stage, new or resumed."""

    def __init__(
        self,
        config: TrainConfig,
        resume: str | None = None,  # None: a new run; "auto"; or the path of a checkpoint
        on_step: Callable[[int, float], None] = lambda global_step, progress: None,
        on_log: Report = lambda values: None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config = config
        self.on_step, self.on_log = on_step, on_log
        self.folder = RunFolder(config.output_dir)
        checkpoint = self.folder.find_checkpoint(resume)
        self.accelerator = make_accelerator(config)
        self.folder.start(config)
        torch.manual_seed(config.seed)
        context = Context(self.accelerator.device, self.folder.path, checkpoint is not None, on_note)
        self.objective = build_objective(config, context)
        self.network = self.eager_network = self.accelerator.prepare(self.objective.network)
        self.parameters = self.objective.trainable()
        self.optimizer = self.accelerator.prepare(build_optimizer(self.parameters, config.optim))
        decay = config.optim.ema_decay
        self.ema = EMA(self.parameters, decay) if decay is not None else None
        if config.compile:
            self.network = torch.compile(self.network)  # validation has other batch sizes and stays eager
        self.global_step = 0
        self.stop_requested = False
        self._seconds_before, self._started = 0.0, time.perf_counter()
        self._logged_at = (0, 0.0)  # step, seconds
        self._saved_at = -1
        self._means = Means()
        if checkpoint is not None:
            self._restore(load_checkpoint(checkpoint))

    # ------------------------------------------------------------ time

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training, over all resumes."""
        return self._seconds_before + time.perf_counter() - self._started

    def progress(self, global_step: int) -> float:
        """How far the training is at a step, 0 to 1: by steps, or by the clock of a time-boxed run if that is ahead."""
        progress = global_step / self.config.max_steps
        if self.config.max_seconds is not None:
            progress = max(progress, self.seconds / self.config.max_seconds)
        return min(1.0, progress)

    # ------------------------------------------------------------ loop

    def run(self) -> Outcome:
        """Train to the end, or until asked to stop; either way a checkpoint and the exported model are written."""
        config = self.config
        if config.compile:
            self._warm_up()
        self._started = time.perf_counter()
        with self._signals():
            for batch in self._batches():
                if self.stop_requested or self.progress(self.global_step) >= 1:
                    break
                self._step(batch)
                self.on_step(self.global_step, self.progress(self.global_step))
                if self.global_step % config.log_every == 0:
                    self._log()
                if self.global_step % config.validate_every == 0:
                    self._validate()
                if self.global_step % config.save_every == 0:
                    self._save()
            finished = not self.stop_requested
            if finished and self.global_step % config.validate_every:
                self._validate()
            if self._saved_at != self.global_step or config.max_seconds is not None:  # the clock is saved too
                self._save()
        return "finished" if finished else "stopped"

    def _batches(self) -> Iterator[Batch]:
        config, dataset = self.config, self.objective.dataset
        sampler = StepSampler(len(dataset), config.batch_size, config.seed, self.global_step, self.progress)
        loader: DataLoader[Any] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=sampler,
            num_workers=config.data.num_workers,  # type: ignore[attr-defined]
            collate_fn=_unchanged,  # type: ignore[arg-type]
            worker_init_fn=_ignore_interrupts,
        )
        for batch in loader:
            yield send_to_device(batch, self.accelerator.device, non_blocking=True)

    def _warm_up(self) -> None:
        """Compile what the first and the last step run, before the clock starts; nothing is learned."""
        state = {name: tensor.clone() for name, tensor in self.objective.state().items()}
        batch = next(self._batches())
        for progress in (0.0, 1.0):
            loss, _ = self.objective.loss(self.network, batch, progress)
            self.accelerator.backward(loss)
            self.optimizer.zero_grad()
        self.objective.load_state(state)

    def _step(self, batch: Batch) -> None:
        optim = self.config.optim
        progress = self.progress(self.global_step)
        rate = learning_rate(optim, self.global_step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        loss, figures = self.objective.loss(self.network, batch, progress)
        self.accelerator.backward(loss)
        if optim.max_grad_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters.values(), optim.max_grad_norm)
            figures = {**figures, "grad_norm": norm}
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.global_step += 1
        if self.ema is not None:
            self.ema.update(self.global_step)
        self._means.add({"loss": loss.detach(), **figures})

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM finish the step, save and end the loop."""

        def request_stop(*_: Any) -> None:
            self.stop_requested = True

        previous = {}
        with contextlib.suppress(ValueError):  # not in the main thread: no signals arrive there
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, request_stop)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    # ------------------------------------------------------------ what comes out

    def _log(self) -> None:
        seconds = self.seconds
        steps = self.global_step - self._logged_at[0]
        values = {
            "global_step": self.global_step,
            "samples_seen": self.global_step * self.config.batch_size,
            **self._means.pop(),
            "lr": self.optimizer.param_groups[0]["lr"],
            "samples_per_s": round(steps * self.config.batch_size / (seconds - self._logged_at[1]), 2),
            "seconds": round(seconds, 1),
        }
        self._logged_at = (self.global_step, self.seconds)
        if not math.isfinite(values["loss"]):
            where = f"step {self.global_step}; the last checkpoint is in {self.folder.checkpoints}"
            raise InputError(f"the loss is not finite at {where}: resume from it with a lower optim.learning_rate")
        self.folder.log(values)
        self.on_log(values)

    def _validate(self) -> None:
        self.objective.network.eval()
        with torch.no_grad(), self._averaged():
            figures = self.objective.validate(self.eager_network, self.folder.samples, self.global_step)
        self.objective.network.train()
        values = {"global_step": self.global_step, "seconds": round(self.seconds, 1), **figures}
        self.folder.log(values)
        self.on_log(values)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return self.ema.applied() if self.ema is not None else contextlib.nullcontext()

    def _save(self) -> None:
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        scaler = self.accelerator.scaler
        scalars = {
            "stage": self.config.stage,
            "seconds": self.seconds,
            "samples_seen": self.global_step * self.config.batch_size,
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        tensors: dict[str, dict[str, Tensor]] = {
            "model": dict(self.parameters),
            "optimizer": optimizer_tensors(self.optimizer.optimizer, names),
            "objective": self.objective.state(),
        }
        if self.ema is not None:
            tensors["ema"] = self.ema.shadow
        with torch.no_grad(), self._averaged():
            self.objective.export(self.folder.path)
        save_checkpoint(
            self.folder.checkpoints, self.global_step, Checkpoint(scalars, tensors), self.config.keep_checkpoints
        )
        self._saved_at = self.global_step

    def _restore(self, checkpoint: Checkpoint) -> None:
        scalars, tensors = checkpoint.scalars, checkpoint.tensors
        if scalars["stage"] != self.config.stage:
            raise InputError(f"checkpoint: it is of stage {scalars['stage']}, this run is of stage {self.config.stage}")
        check_names(self.parameters, tensors["model"], "the checkpoint's model")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors["model"][name])
        if self.ema is not None:
            check_names(self.parameters, tensors.get("ema", {}), "the checkpoint's average (ema)")
            self.ema.load(tensors["ema"])
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        load_optimizer_tensors(self.optimizer.optimizer, tensors["optimizer"], names)
        self.objective.load_state(tensors["objective"])
        if self.accelerator.scaler is not None and scalars["scaler"]:
            self.accelerator.scaler.load_state_dict(scalars["scaler"])
        self.global_step = scalars["global_step"]
        self._seconds_before = scalars["seconds"]
        self._logged_at = (self.global_step, self._seconds_before)
        self.folder.forget_metrics_after(self.global_step)
