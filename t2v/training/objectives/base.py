"""What the trainer asks of a stage."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from t2v.training.sampler import Position

Batch = dict[str, Any]


class BatchDataset(Protocol):
    """A data set that makes whole batches, so that cached data needs no loop over samples."""

    def __len__(self) -> int:
        """Number of samples in an epoch."""

    def __getitem__(self, position: Position) -> Batch:
        """The batch of one sample."""

    def __getitems__(self, positions: list[Position]) -> Batch:
        """The batch of these samples."""


@dataclass(frozen=True)
class Context:
    """Where a stage is built."""

    device: torch.device
    output_dir: Path
    resuming: bool  # the run folder holds what a former start of this run wrote
    note: Callable[[str], None]  # tells a person one line
    mean: Callable[[Tensor], Tensor] = lambda tensor: tensor  # over the processes of the run


class Objective(Protocol):
    """One training stage: a network, its data, its loss, and what comes out."""

    @property
    def network(self) -> nn.Module:
        """Its forward computes everything that needs gradients."""

    @property
    def dataset(self) -> BatchDataset:
        """The training samples."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""

    def loss(self, network: nn.Module, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch, and other figures as detached scalars.

        Args:
            network: `self.network`, possibly wrapped for mixed precision, compilation or several processes.
            progress: of the training, from 0 to 1.
        """

    def end_step(self, figures: dict[str, Tensor], progress: float) -> None:
        """Told after each optimizer step the mean figures of this process's losses, on the device."""

    def state(self) -> dict[str, Tensor]:
        """Tensors beyond the network that a checkpoint must hold."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""

    def validate(self, network: nn.Module, folder: Path, global_step: int) -> dict[str, float]:
        """Write samples into `folder` and return figures for metrics.jsonl; called with the averaged weights."""

    def export(self, output_dir: Path) -> Path:
        """Write the model pieces of this stage below `output_dir`; called with the averaged weights."""
