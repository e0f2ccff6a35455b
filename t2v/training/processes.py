"""The processes of a run: how many there are, what they do one after another, and what they must agree on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, ProjectConfiguration

from t2v.errors import InputError
from t2v.training.config import AutoencoderTrainConfig, TrainConfig

_PATIENCE = timedelta(hours=12)  # others wait while the main process encodes a data set


def sharding_asked_for() -> bool:
    """Whether the launcher wants FSDP2, by the environment that `accelerate launch` sets.

    Raises:
        InputError: FSDP of another version.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    found = os.environ.get("FSDP_VERSION", "1")
    if found != "2":
        raise InputError(
            f"FSDP version {found} is not supported; set fsdp_version: 2, as configs/accelerate/fsdp2.yaml"
        )
    return True


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator of a configuration.

    accelerate knows sharding (FSDP2) on GPUs alone; it is done by `t2v.training.sharding`, so that it is the same on
    every device, and is kept from accelerate here.

    Raises:
        InputError: CUDA asked for where there is none, fp16 on a CPU or with sharding.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise InputError("device: CUDA was asked for and is not available; use device=cpu or device=auto")
    on_cpu = config.device == "cpu" or not cuda or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if on_cpu and config.mixed_precision == "fp16":
        raise InputError("mixed_precision: fp16 needs a GPU; use bf16 or no")
    if sharding_asked_for() and config.mixed_precision == "fp16":
        raise InputError("mixed_precision: fp16 does not go with FSDP2; use bf16 or no")
    if not on_cpu:
        torch.backends.cudnn.benchmark = True
        if config.mixed_precision != "no":
            torch.set_float32_matmul_precision("high")
    resting = isinstance(config, AutoencoderTrainConfig) and (
        config.diffusion.decoder_only_fraction > 0 or config.diffusion.adversarial_weight > 0
    )
    launcher = os.environ.pop("ACCELERATE_USE_FSDP", None)
    try:
        return Accelerator(
            cpu=on_cpu,
            mixed_precision=config.mixed_precision,
            log_with=list(config.trackers) or None,
            project_config=ProjectConfiguration(config.output_dir, logging_dir=str(Path(config.output_dir) / "logs")),
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=resting),
                InitProcessGroupKwargs(timeout=_PATIENCE),
            ],
        )
    finally:
        if launcher is not None:
            os.environ["ACCELERATE_USE_FSDP"] = launcher


class Processes:
    """This process among all of the run. Every method is called by all of them, in the same order."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        self.is_main = self.rank == 0
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if self.count > 1 else None  # waits for no GPU

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the processes."""
        if self._group is None:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, self._group)
        return tensor.tolist()

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self._group is None:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(tensor, group=self._group)
        return dict(zip(values, (tensor / self.count).tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in their order."""
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, self._group)
        return values

    def from_main(self, value: Any) -> Any:
        """The value of the main process."""
        return self.gather(value if self.is_main else None)[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does the block, then the others do: they find in the caches what it left there."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self._group is not None:
            dist.barrier(self._group)

    @contextmanager
    def folder(self, folder: Path) -> Iterator[Path]:
        """Where this process may write: the folder for the main one, a temporary one for the others."""
        if self.is_main:
            yield folder
        else:
            with TemporaryDirectory() as temporary:
                yield Path(temporary)
