"""A trial of a training: its data, its memory and one step; nothing of it stays."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from t2v.pipelines.memory import format_bytes, total_memory
from t2v.training.config import TrainConfig
from t2v.training.figures import peak_memory_gb
from t2v.training.optim import optimizer_tensors
from t2v.training.sharding import local
from t2v.training.trainer import Trainer

_SHOWN = 5  # of the skipped files
_NO_CACHE = {"cache_dir": None, "cache_latents": False}


@dataclass(frozen=True)
class Trial:
    """What a dry run found out."""

    num_samples: int  # to train on
    skipped: list[dict[str, Any]]  # lines of skipped.jsonl
    epochs: float  # that the whole training would take
    memory: dict[str, int]  # bytes of what stays between steps, on this process
    peak: int  # bytes, during the step
    available: int  # bytes of the device
    loss: float
    seconds: float  # of the step, the first one, which is slower than the others

    def lines(self) -> list[str]:
        """The findings as text."""
        reasons = [f"  {line['path']}: {line['reason']}" for line in self.skipped[:_SHOWN]]
        more = [f"  and {len(self.skipped) - _SHOWN} more"] if len(self.skipped) > _SHOWN else []
        parts = ", ".join(f"{name} {format_bytes(count)}" for name, count in self.memory.items())
        return [
            f"data: {self.num_samples} samples ({self.epochs:.3g} epochs), {len(self.skipped)} files skipped",
            *reasons,
            *more,
            f"memory: {parts}; peak {format_bytes(self.peak)} of {format_bytes(self.available)}",
            f"first step: loss {self.loss:.5g}, {self.seconds:.2g} s",
        ]


def dry_run(config: TrainConfig, on_note: Callable[[str], None] = lambda text: None) -> Trial:
    """Read the data, build the networks and take one step in a temporary folder, without caches.

    Raises:
        InputError: whatever would stop the training at its start.
    """
    data: Any = config.data  # type: ignore[attr-defined]
    without = {name: value for name, value in _NO_CACHE.items() if hasattr(data, name)}
    with TemporaryDirectory(prefix="t2v-dry-run-") as folder:
        changes = {"output_dir": folder, "trackers": (), "compile": False, "data": data.model_copy(update=without)}
        trainer = Trainer(config.model_copy(update=changes), on_note=on_note)
        batches = trainer._batches()
        before = time.perf_counter()
        loss = float(trainer.step(batches)["loss"])
        seconds = time.perf_counter() - before
        batches.close()
        skipped = _read_lines(Path(folder) / "skipped.jsonl")
    device, num_samples = trainer.accelerator.device, len(trainer.objective.dataset)
    return Trial(
        num_samples=num_samples,
        skipped=skipped,
        epochs=config.max_steps * trainer.samples_per_step / num_samples,
        memory=_lasting_memory(trainer),
        peak=round(peak_memory_gb(device) * 1e9),
        available=total_memory(device),
        loss=loss,
        seconds=seconds,
    )


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _lasting_memory(trainer: Trainer) -> dict[str, int]:
    learner = trainer.learner
    groups: dict[str, list[Tensor]] = {
        "weights": [*trainer.objective.network.parameters()],
        "gradients": [*learner.parameters.values()],
        "optimizer": [*optimizer_tensors(learner.optimizer.optimizer, learner.names()).values()],
        "average": [*learner.ema.shadow.values()] if learner.ema is not None else [],
    }
    return {name: sum(local(tensor).nbytes for tensor in tensors) for name, tensors in groups.items()}
