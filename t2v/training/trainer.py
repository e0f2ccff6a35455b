"""The training loop: ordinary PyTorch, with accelerate where devices, processes and precision matter."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from t2v.errors import InputError
from t2v.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from t2v.training.compiled import check_gradients, gradient_norms
from t2v.training.config import TrainConfig
from t2v.training.figures import Means, Pace, peak_memory_gb
from t2v.training.learner import Learner
from t2v.training.model_card import RunSummary, write_model_card
from t2v.training.objectives import Context, build_objective
from t2v.training.objectives.base import Batch
from t2v.training.optim import learning_rate
from t2v.training.processes import Processes, make_accelerator
from t2v.training.run_folder import RunFolder, data_fingerprint
from t2v.training.sampler import MicroBatchSampler, SampleStream
from t2v.training.trackers import Trackers, check_trackers

Outcome = Literal["finished", "stopped"]
Report = Callable[[dict[str, Any]], None]


def _unchanged(batch: Batch) -> Batch:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and a launcher's SIGTERM reach the whole process group; the training process decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class Trainer:
    """One run of one stage, new or resumed, in one process or as one of many."""

    def __init__(
        self,
        config: TrainConfig,
        resume: str | None = None,  # None: a new run; "auto"; or the path of a checkpoint
        on_step: Callable[[int, float], None] = lambda global_step, progress: None,
        on_log: Report = lambda values: None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        check_trackers(config.trackers)
        self.config = config
        self.on_step, self.on_log, self.on_note = on_step, on_log, on_note
        self.folder = RunFolder(config.output_dir)
        self.accelerator = make_accelerator(config)
        self.processes = Processes(self.accelerator)
        checkpoint = self._start(resume)
        torch.manual_seed(config.seed)
        with self.folder.guarded(), self.processes.main_first():
            self.objective = build_objective(config, self._context(checkpoint is not None))
        self.learner = Learner(self.objective, config, self.accelerator, self.processes)
        if self.processes.rank:
            torch.manual_seed(config.seed + self.processes.rank)
        self.parameters = self.learner.parameters
        self.global_step, self.samples_seen = 0, 0
        self.stop_requested = False  # of this process: set by its signals alone
        self._stopping = False  # what all processes agreed on, before the last step
        self._seconds_before, self._started = 0.0, time.perf_counter()
        self._agreed_seconds = 0.0
        self._saved_at = -1
        self._validated: dict[str, float] = {}  # figures of the last validation, and its step
        self._means, self._pace = Means(), Pace()
        self._data = self.processes.from_main(data_fingerprint(config.data.path) if self.processes.is_main else None)  # type: ignore[attr-defined]
        if checkpoint is not None:
            self._restore(load_checkpoint(checkpoint))
        if self.processes.is_main:
            self.folder.forget_metrics_after(self.global_step)
            self.folder.record(
                {
                    "global_step": self.global_step,
                    "processes": self.processes.count,
                    "device": str(self.accelerator.device),
                    "data": self._data,
                }
            )

    def _start(self, resume: str | None) -> Path | None:
        """Prepare the run folder; the checkpoint to go on from."""
        checkpoint = None
        if self.processes.is_main:
            self.folder.lock()
            self.folder.clean_up()
            checkpoint = self.folder.find_checkpoint(resume, self.on_note)
            with self.folder.guarded():
                self.folder.start(self.config)
        return self.processes.from_main(checkpoint)

    def _context(self, resuming: bool) -> Context:
        def mean(tensor: Tensor) -> Tensor:
            return self.accelerator.reduce(tensor, "mean")

        return Context(self.accelerator.device, self.folder.path, resuming, self.on_note, mean)

    # ------------------------------------------------------------ time

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training, over all resumes."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def samples_per_step(self) -> int:
        """Samples that one optimizer step learns from, over all processes."""
        return self.config.batch_size * self.config.gradient_accumulation_steps * self.processes.count

    def progress(self, global_step: int) -> float:
        """How far the training is at a step, 0 to 1: by steps, or by the clock of a time-boxed run if that is ahead."""
        progress = global_step / self.config.max_steps
        if self.config.max_seconds is not None:
            progress = max(progress, self._agreed_seconds / self.config.max_seconds)
        return min(1.0, progress)

    def _is_over(self) -> bool:
        """Whether to stop before another step; all processes agree on this, and on the time."""
        stop, self._agreed_seconds = self.processes.largest(float(self.stop_requested), self.seconds)
        self._stopping = bool(stop)
        return self._stopping or self.progress(self.global_step) >= 1

    # ------------------------------------------------------------ loop

    def run(self) -> Outcome:
        """Train to the end, or until asked to stop; either way a checkpoint and the exported model are written.

        Raises:
            InputError: the loss is not finite, the GPU's memory or the disk is full.
        """
        if self.config.compile:
            self._warm_up()
        self._started = time.perf_counter()
        self._pace.start()
        with (
            contextlib.closing(self.folder),
            self.folder.guarded(),
            self._memory_explained(),
            self._signals(),
            self._tracked(),
            contextlib.closing(self._batches()) as batches,
        ):
            while not self._is_over():
                self.step(batches)
                self.on_step(self.global_step, self.progress(self.global_step))
                self._report()
            finished = not self._stopping
            if finished and self._validated.get("global_step") != self.global_step:
                self._validate()
                self._saved_at = -1  # its loss goes into the checkpoint
            if self._saved_at != self.global_step or self.config.max_seconds is not None:  # the clock is saved too
                self._save()
            if finished and self.processes.is_main:
                write_model_card(self.folder.path, self.config, self._summary())
        return "finished" if finished else "stopped"

    def _summary(self) -> RunSummary:
        count, device = self.processes.count, self.accelerator.device
        return RunSummary(self.global_step, self.samples_seen, self.seconds, len(self.objective.dataset), count, device)

    def _report(self) -> None:
        """What is due after a step."""
        config, step = self.config, self.global_step
        if step % config.log_every == 0:
            self._log()
        if step % config.validate_every == 0:
            self._validate()
        if step % config.save_every == 0:
            self._save()

    def _batches(self) -> Generator[Batch]:
        """The micro-batches of this process from here on, on the device."""
        config, dataset = self.config, self.objective.dataset
        groups = getattr(dataset, "groups", None) or [0] * len(dataset)
        sampler = MicroBatchSampler(
            SampleStream(groups, config.seed),
            config.batch_size,
            config.gradient_accumulation_steps,
            self.processes.rank,
            self.processes.count,
            self.global_step,
            self.samples_seen,
            self.progress,
        )
        loader: DataLoader[Any] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_sampler=sampler,
            num_workers=config.data.num_workers,  # type: ignore[attr-defined]
            collate_fn=_unchanged,  # type: ignore[arg-type]
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # else each new loader takes a number from the run's own
        )
        for batch in loader:
            yield send_to_device(batch, self.accelerator.device, non_blocking=True)

    def _warm_up(self) -> None:
        """Compile what the first and the last step run, before the clock starts; nothing is learned.

        On the CPU the gradients are held against the plain network's; on a GPU its memory may not suffice.
        """
        batch = next(self._batches())
        on_cpu = self.accelerator.device.type == "cpu"
        networks = [self.learner.network, self.learner.eager_network] if on_cpu else [self.learner.network]
        for progress in (0.0, 1.0):
            norms = []
            for network in networks:
                loss, _ = self.objective.loss(network, batch, progress)
                self.accelerator.backward(loss)
                if on_cpu:
                    norms.append(gradient_norms(self.parameters.values()))
                self.learner.optimizer.zero_grad()
            if on_cpu:
                check_gradients(*norms)

    def step(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """One optimizer step, from the gradients of `gradient_accumulation_steps` micro-batches of each process.

        Returns:
            The loss and other figures of this process's samples: scalars on the device.
        """
        progress = self.progress(self.global_step)
        self.learner.set_rate(learning_rate(self.config.optim, self.global_step, progress))
        means = Means()
        for remaining in reversed(range(self.config.gradient_accumulation_steps)):
            with self._pace.waiting():
                batch = next(batches)
            with self.learner.alone() if remaining else contextlib.nullcontext():
                loss, figures = self.objective.loss(self.learner.network, batch, progress)
                self.learner.backward(loss)
            means.add({"loss": loss.detach(), **figures})
        self.global_step += 1
        self.samples_seen += self.samples_per_step
        self._pace.add(self.samples_per_step)
        self.objective.end_step(means.tensors(), progress)
        figures = {**means.tensors(), **self.learner.step(self.global_step)}
        self._means.add(figures)
        return figures

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

    @contextlib.contextmanager
    def _memory_explained(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"out of GPU memory with batch_size={self.config.batch_size}: lower it and raise "
                "gradient_accumulation_steps in its place, set model.gradient_checkpointing=true or "
                "optim.optimizer=adamw_8bit, or spread the model with configs/accelerate/fsdp2.yaml"
            ) from error

    @contextlib.contextmanager
    def _tracked(self) -> Iterator[None]:
        """The run's trackers are open in the block."""
        self.trackers = Trackers(self.accelerator, self.config, self.global_step)
        try:
            yield
        finally:
            self.trackers.close()

    # ------------------------------------------------------------ what comes out

    def _log(self) -> None:
        values = {
            "global_step": self.global_step,
            "samples_seen": self.samples_seen,
            **self.processes.mean(self._means.pop()),
            "lr": self.learner.optimizer.param_groups[0]["lr"],
            **self._pace.pop(),
            "memory_gb": peak_memory_gb(self.accelerator.device),
            "seconds": round(self.seconds, 1),
        }
        if not math.isfinite(values["loss"]):
            where = f"step {self.global_step}; the last checkpoint is in {self.folder.checkpoints}"
            raise InputError(f"the loss is not finite at {where}: resume from it with a lower optim.learning_rate")
        self._write(values)

    def _validate(self) -> None:
        """Every process validates: spread weights need them all, and none could train meanwhile."""
        network = self.objective.network
        network.eval()
        with torch.no_grad(), self.learner.averaged(), self.processes.folder(self.folder.samples) as folder:
            figures = self.objective.validate(self.learner.eager_network, folder, self.global_step)
        network.train()
        self._validated = {**figures, "global_step": self.global_step}
        self._write({"global_step": self.global_step, "seconds": round(self.seconds, 1), **figures})
        if self.processes.is_main:
            samples = sorted(self.folder.samples.glob(f"*-{self.global_step:08d}.*"))
            self.trackers.show(samples, self.global_step)
        self._pace.start()

    def _write(self, values: dict[str, Any]) -> None:
        if self.processes.is_main:
            self.folder.log(values)
            self.trackers.log(values)
            self.on_log(values)

    # ------------------------------------------------------------ checkpoints

    def _save(self) -> None:
        self.learner.export(self.folder.path)
        tensors = self.learner.tensors()
        validated_here = self._validated.get("global_step") == self.global_step
        scalars = {
            "stage": self.config.stage,
            "seconds": self.seconds,
            "samples_seen": self.samples_seen,
            "batch_size": self.config.batch_size,
            "data": self._data,
            **self._order(),
            "validation_loss": self._validated.get("validation_loss") if validated_here else None,
            **self.learner.scalars(),
        }
        if self.processes.is_main:
            checkpoint = Checkpoint(scalars, tensors)
            save_checkpoint(self.folder.checkpoints, self.global_step, checkpoint, self.config.keep_checkpoints)
        self._saved_at = self.global_step

    def _order(self) -> dict[str, int]:
        """What decides the order of the samples."""
        return {"seed": self.config.seed, "num_samples": len(self.objective.dataset)}

    def _restore(self, checkpoint: Checkpoint) -> None:
        scalars = checkpoint.scalars
        if scalars["stage"] != self.config.stage:
            raise InputError(f"checkpoint: it is of stage {scalars['stage']}, this run is of stage {self.config.stage}")
        num_groups = len(set(getattr(self.objective.dataset, "groups", ())))
        if num_groups > 1 and scalars["batch_size"] != self.config.batch_size:
            raise InputError(
                f"batch_size: data in groups goes on with that of its checkpoint, {scalars['batch_size']}, got "
                f"{self.config.batch_size}"
            )
        self.learner.load(scalars, checkpoint.tensors)
        if scalars["data"]["sha256"] != self._data["sha256"]:
            self.on_note(f"the data in {self._data['path']} is not what it was at step {scalars['global_step']}")
        for name, value in self._order().items():
            if scalars.get(name, value) != value:
                changed = f"{name} was {scalars[name]} up to step {scalars['global_step']} and is {value}"
                self.on_note(f"{changed}: samples come in another order from here on")
        self.global_step, self.samples_seen = scalars["global_step"], scalars["samples_seen"]
        self._seconds_before = self._agreed_seconds = scalars["seconds"]
        if scalars["validation_loss"] is not None:
            self._validated = {"validation_loss": scalars["validation_loss"], "global_step": self.global_step}
